/* A program that opens and closes PAM sessions, and tells what of it was changed by that.
 *
 * host CONFIGURATION-DIRECTORY SERVICE USER SESSIONS [interrupted]
 *
 * An empty USER leaves PAM_USER unset. "interrupted": a signal arrives every 5 ms meanwhile, whose
 * handler does not restart system calls.
 *
 * Prints what this process is like on lines "before: ..." and "after: ...", the last session's codes
 * and environment on lines "open: ...", "close: ...", "env: ...", the longest time that opening took
 * on "milliseconds: ...", and how much its memory grew between a tenth of the sessions and all of them
 * on "grown: ... KiB".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <locale.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void on_signal(int number) { (void)number; }

/* Nobody may ask the user anything. */
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
	(void)responses;
	(void)data;
	for (int i = 0; i < count; i++)
		printf("conversation: %s\n", messages[i]->msg);
	return PAM_CONV_ERR;
}

static void directory(const char *when, const char *what, const char *path) {
	DIR *open = opendir(path);
	if (!open)
		abort();
	struct dirent *entry;
	while ((entry = readdir(open))) {
		char name[512], target[512] = "";
		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(open))
			continue;
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		ssize_t length = readlink(name, target, sizeof target - 1);
		target[length < 0 ? 0 : length] = 0;
		printf("%s: %s %s %s\n", when, what, entry->d_name, target);
	}
	closedir(open);
}

static void file(const char *when, const char *path) {
	/* Of /proc/self/status, what changes by itself: sizes, scheduling, memory layout. */
	static const char *const moving[] = {"Vm", "Rss", "Hugetlb", "voluntary", "nonvoluntary", "Cpus", "Mems", "State", "SigQ"};
	FILE *open = fopen(path, "re");
	char line[4096];
	if (!open)
		return;
	while (fgets(line, sizeof line, open)) {
		int moves = 0;
		for (size_t i = 0; i < sizeof moving / sizeof *moving; i++)
			moves |= !strncmp(line, moving[i], strlen(moving[i]));
		line[strcspn(line, "\n")] = 0;
		if (!moves)
			printf("%s: %s %s\n", when, path, line);
	}
	fclose(open);
}

static void snapshot(const char *when) {
	char text[4096];
	directory(when, "descriptor", "/proc/self/fd");
	/* The name of a thread's directory is no link: this lists them. */
	directory(when, "thread", "/proc/self/task");
	file(when, "/proc/self/status");
	file(when, "/proc/self/limits");
	file(when, "/proc/self/oom_score_adj");
	file(when, "/proc/self/timerslack_ns");
	file(when, "/proc/self/cgroup");
	for (int number = 1; number <= SIGRTMAX; number++) {
		struct sigaction action;
		if (sigaction(number, NULL, &action) == 0)
			printf("%s: signal %d handler %p flags %x masks %d\n", when, number, (void *)action.sa_handler,
			       action.sa_flags, sigismember(&action.sa_mask, SIGUSR1));
	}
	stack_t stack;
	sigaltstack(NULL, &stack);
	printf("%s: signal stack %d\n", when, stack.ss_flags);
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int number = 1; number <= SIGRTMAX; number++)
		if (sigismember(&mask, number))
			printf("%s: blocked %d\n", when, number);
	struct itimerval timer;
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		getitimer(which, &timer);
		printf("%s: timer %d every %ld\n", when, which, (long)timer.it_interval.tv_usec);
	}
	mode_t mode = umask(0);
	umask(mode);
	printf("%s: umask %o\n", when, mode);
	printf("%s: directory %s\n", when, getcwd(text, sizeof text));
	for (char **pair = environ; *pair; pair++)
		printf("%s: environment %s\n", when, *pair);
	printf("%s: locale %s\n", when, setlocale(LC_ALL, NULL));
	printf("%s: ids %d %d %d %d\n", when, getuid(), geteuid(), getgid(), getegid());
	printf("%s: nice %d\n", when, getpriority(PRIO_PROCESS, 0));
	printf("%s: dumpable %d\n", when, prctl(PR_GET_DUMPABLE));
	pid_t child = waitpid(-1, NULL, WNOHANG);
	printf("%s: children %s\n", when, child < 0 && errno == ECHILD ? "none" : "some");
}

static long resident(void) {
	long pages = 0, size;
	FILE *open = fopen("/proc/self/statm", "re");
	if (!open || fscanf(open, "%ld %ld", &size, &pages) != 2)
		abort();
	fclose(open);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double milliseconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
	if (argc < 5)
		return 2;
	const char *user = *argv[3] ? argv[3] : NULL;
	int sessions = atoi(argv[4]);
	struct pam_conv conversation = {converse, NULL};
	double longest = 0;
	long early = 0;

	/* None of these as it is by default, so that putting back a default shows. */
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	umask(0137);
	setlocale(LC_ALL, "C.UTF-8");
	if (argc > 5) {
		struct itimerval often = {{0, 5000}, {0, 5000}};
		setitimer(ITIMER_REAL, &often, NULL);
	}

	snapshot("before");
	for (int i = 1; i <= sessions; i++) {
		pam_handle_t *pam = NULL;
		int code = pam_start_confdir(argv[2], user, &conversation, argv[1], &pam);
		if (code != PAM_SUCCESS) {
			printf("start: %d\n", code);
			return 1;
		}
		double start = milliseconds();
		int opened = pam_open_session(pam, 0);
		double taken = milliseconds() - start;
		longest = taken > longest ? taken : longest;
		char **environment = pam_getenvlist(pam);
		for (char **pair = environment; pair && *pair; pair++) {
			if (i == sessions)
				printf("env: %s\n", *pair);
			free(*pair);
		}
		free(environment);
		int closed = pam_close_session(pam, PAM_SILENT);
		pam_end(pam, closed);
		if (i == sessions)
			printf("open: %d\nclose: %d\n", opened, closed);
		if (i == sessions / 10)
			early = resident();
	}
	if (early)
		printf("grown: %ld KiB\n", resident() - early);
	snapshot("after");
	printf("milliseconds: %.0f\n", longest);
	return 0;
}
