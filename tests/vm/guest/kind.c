/* kind stay | notify | reload | fork PIDFILE | listen NAME
 *
 * Services of the kinds that need more than a shell: each does what its Type= asks for, checks
 * what it was given, and stays. Static, so that it also runs in a RootDirectory= of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void die(const char *format, ...)
{
    va_list words;
    va_start(words, format);
    fprintf(stderr, "kind: ");
    vfprintf(stderr, format, words);
    fprintf(stderr, "\n");
    exit(1);
}

/* sd_notify(3), by hand. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path)
        die("no NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        die("NOTIFY_SOCKET is too long");
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + length;
    if (sendto(sender, state, strlen(state), 0, (struct sockaddr *)&address, size) < 0)
        die("NOTIFY_SOCKET: %s", strerror(errno));
    close(sender);
}

static void wait_for_reloads(void)
{
    sigset_t reload;
    int received;
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    sigprocmask(SIG_BLOCK, &reload, NULL);
    notify("READY=1\nSTATUS=ready");
    for (;;) {
        char state[100];
        struct timespec now;
        sigwait(&reload, &received);
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
                 now.tv_sec * 1000000LL + now.tv_nsec / 1000);
        notify(state);
        notify("READY=1\nSTATUS=reloaded");
    }
}

/* daemon(7), the old way: the parent ends once the child's PID is in the file. */
static void daemonise(const char *pid_file)
{
    if (fork() > 0) {
        while (access(pid_file, F_OK) != 0)
            usleep(10 * 1000);
        exit(0);
    }
    setsid();
    FILE *file = fopen(pid_file, "w");
    if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file) != 0)
        die("%s: %s", pid_file, strerror(errno));
}

/* sd_listen_fds(3): one connected descriptor of this name; whoever connects is told our PID. */
static void serve(const char *name)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    if (!pid || atoi(pid) != getpid())
        die("LISTEN_PID is %s, and this is %d", pid ? pid : "not set", getpid());
    if (!count || strcmp(count, "1") != 0 || !names || strcmp(names, name) != 0)
        die("LISTEN_FDS=%s LISTEN_FDNAMES=%s", count ? count : "", names ? names : "");
    if (fcntl(4, F_GETFD) >= 0)
        die("there is a descriptor 4");
    for (;;) {
        int client = accept(3, NULL, NULL);
        if (client < 0)
            die("accept: %s", strerror(errno));
        dprintf(client, "%d\n", getpid());
        close(client);
    }
}

int main(int count, char **words)
{
    const char *kind = count > 1 ? words[1] : "", *argument = count > 2 ? words[2] : "";
    if (strcmp(kind, "notify") == 0)
        notify("READY=1\nSTATUS=ready");
    else if (strcmp(kind, "reload") == 0)
        wait_for_reloads();
    else if (strcmp(kind, "fork") == 0)
        daemonise(argument);
    else if (strcmp(kind, "listen") == 0)
        serve(argument);
    else if (strcmp(kind, "stay") != 0)
        die("usage: kind stay | notify | reload | fork PIDFILE | listen NAME");
    for (;;)
        pause();
}
