/* session CONFIGURATION-DIRECTORY USER
 *
 * For each line of standard input, the name of a PAM service, a fresh child opens and closes a session of
 * USER, as sshd does after it has let the user in. Answers on standard output with one line each:
 * nanoseconds from pam_start to the end of pam_end, page faults meanwhile, descriptors left, and the code
 * of opening and closing.
 *
 * session CONFIGURATION-DIRECTORY USER SERVICE
 *
 * The same once, in this process, for the tracer that its parent is: stops before pam_start and after pam_end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    (void)count, (void)messages, (void)responses, (void)data;
    return PAM_CONV_ERR;
}

static int opened, closed;

static void session(const char *directory, const char *user, const char *service)
{
    static const struct pam_conv conversation = {converse, NULL};
    pam_handle_t *pam = NULL;
    opened = pam_start_confdir(service, user, &conversation, directory, &pam);
    if (opened != PAM_SUCCESS)
        return;
    pam_set_item(pam, PAM_TTY, "ssh");
    pam_set_item(pam, PAM_RHOST, "192.0.2.1");
    opened = pam_open_session(pam, 0);
    closed = pam_close_session(pam, 0);
    pam_end(pam, closed);
}

static long long nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static int descriptors(void)
{
    int open = 0;
    for (int number = 0; number < 256; number++)
        open += fcntl(number, F_GETFD) >= 0;
    return open;
}

static void measured(const char *directory, const char *user, const char *service, int answer)
{
    int open_before = descriptors();
    long faults_before = faults();
    long long started = nanoseconds();
    session(directory, user, service);
    long long taken = nanoseconds() - started;
    long faulted = faults() - faults_before;
    dprintf(answer, "%lld %ld %d %d %d\n", taken, faulted, descriptors() - open_before, opened, closed);
}

int main(int count, char **arguments)
{
    if (count == 4) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
            return 1;
        session(arguments[1], arguments[2], arguments[3]);
        raise(SIGSTOP);
        return opened || closed;
    }
    /* What a module prints goes nowhere. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), answer = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (count != 3 || null < 0 || answer < 0 || dup2(null, 1) < 0)
        return 1;
    char service[256];
    while (fgets(service, sizeof service, stdin)) {
        int status;
        service[strcspn(service, "\n")] = 0;
        pid_t child = fork();
        if (child == 0) {
            measured(arguments[1], arguments[2], service, answer);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0)
            return 1;
        if (status)
            dprintf(answer, "died: wait status %#x\n", status);
    }
    return 0;
}
