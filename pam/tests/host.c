/* A program that opens and closes PAM sessions, and tells what of it was changed by that.
 *
 * host CONFIGURATION-DIRECTORY SERVICE USER SESSIONS [OPTION...]
 *
 * An empty USER leaves PAM_USER unset. Options:
 *   interrupted        a signal arrives every 5 ms, whose handler does not restart system calls
 *   CALL=ERRNO         while a session opens, mkdirat, fchown, fchmod or open fails so; open only of
 *                      what lies in a directory "fairslice", openat of "policy.compiled"
 *   malloc=BYTES       while a session opens, there is no memory for so much at once
 *   look=FILE          the first line of a file is printed while the last session is open, on a line "looked: ..."
 *   write=FILE         77 is written to a file while a session is open
 *   address-space=KIB  while a session opens, the address space may grow by so much (RLIMIT_AS)
 *
 * Prints what this process is like on lines "before: ..." and "after: ...", the last session's codes
 * and environment on lines "open: ...", "close: ...", "env: ...", how many sessions did not open on
 * "failed: ...", each user of whom NSS was asked, once, on "asked: ..." by name or number (not under a sanitizer, which
 * has these functions itself), the longest time that opening took on "milliseconds: ...", and how much its memory grew
 * between a tenth of the sessions and all of them on "grown: ... KiB".
 *
 * The module finds the functions defined here before libc's, because the linker exports them (-rdynamic).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <grp.h>
#include <pwd.h>

extern char **environ;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

/* What fails while a session opens: the error number, or the size. */
static struct {
	int opening, mkdirat, fchown, fchmod, open;
	size_t malloc, address_space;
} fault;

static int fails(int error) {
	if (!fault.opening || !error)
		return 0;
	errno = error;
	return 1;
}

int mkdirat(int directory, const char *path, mode_t mode) {
	return fails(fault.mkdirat) ? -1 : syscall(SYS_mkdirat, directory, path, mode);
}

int fchown(int descriptor, uid_t user, gid_t group) {
	return fails(fault.fchown) ? -1 : syscall(SYS_fchown, descriptor, user, group);
}

int fchmod(int descriptor, mode_t mode) {
	return fails(fault.fchmod) ? -1 : syscall(SYS_fchmod, descriptor, mode);
}

int open64(const char *path, int flags, ...) {
	va_list rest;
	va_start(rest, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	return strstr(path, "/fairslice/") && fails(fault.open) ? -1 : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
	va_list rest;
	va_start(rest, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	return !strcmp(path, "policy.compiled") && fails(fault.open) ? -1 : syscall(SYS_openat, directory, path, flags, mode);
}

/* AddressSanitizer has an allocator of its own. */
#ifndef SANITIZED
static int too_much(size_t size) { return fault.malloc && size >= fault.malloc && fails(ENOMEM); }

void *malloc(size_t size) { return too_much(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return too_much(count * size) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return too_much(size) ? NULL : __libc_realloc(old, size); }
#endif

/* Whom NSS was asked for while sessions opened. */
static char asked[1 << 13];

#ifndef SANITIZED
static int (*libc_getpwnam_r)(const char *, struct passwd *, char *, size_t, struct passwd **);
static int (*libc_getpwuid_r)(uid_t, struct passwd *, char *, size_t, struct passwd **);
static int (*libc_getgrouplist)(const char *, gid_t, gid_t *, int *);

__attribute__((constructor)) static void find_libc(void) {
	libc_getpwnam_r = dlsym(RTLD_NEXT, "getpwnam_r");
	libc_getpwuid_r = dlsym(RTLD_NEXT, "getpwuid_r");
	libc_getgrouplist = dlsym(RTLD_NEXT, "getgrouplist");
}

static void asks(const char *user) {
	char line[512];
	if (!fault.opening)
		return;
	snprintf(line, sizeof line - 1, "asked: %s", user);
	for (char *at = line; *at; at++)
		*at = *at < ' ' || *at > '~' ? '?' : *at;
	strcat(line, "\n");
	/* A line that does not fit is left out. */
	if (!strstr(asked, line) && strlen(asked) + strlen(line) < sizeof asked)
		strcat(asked, line);
}

int getpwnam_r(const char *name, struct passwd *user, char *buffer, size_t size, struct passwd **found) {
	asks(name);
	return libc_getpwnam_r(name, user, buffer, size, found);
}

int getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t size, struct passwd **found) {
	char number[16];
	snprintf(number, sizeof number, "%u", uid);
	asks(number);
	return libc_getpwuid_r(uid, user, buffer, size, found);
}

int getgrouplist(const char *name, gid_t group, gid_t *groups, int *count) {
	asks(name);
	return libc_getgrouplist(name, group, groups, count);
}
#endif

static const char *look, *written;

static void on_signal(int number) { (void)number; }

/* Nobody may ask the user anything. */
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
	(void)responses;
	(void)data;
	for (int i = 0; i < count; i++)
		printf("conversation: %s\n", messages[i]->msg);
	return PAM_CONV_ERR;
}

static void directory(const char *when, const char *path) {
	DIR *open = opendir(path);
	if (!open)
		abort();
	struct dirent *entry;
	while ((entry = readdir(open))) {
		char name[512], target[512] = "";
		int number = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || number == dirfd(open))
			continue;
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		ssize_t length = readlink(name, target, sizeof target - 1);
		target[length < 0 ? 0 : length] = 0;
		printf("%s: %s %s %x %x\n", when, name, target, fcntl(number, F_GETFL), fcntl(number, F_GETFD));
	}
	closedir(open);
}

static void file(const char *when, const char *path) {
	/* Of /proc/self/status, what changes by itself: sizes, scheduling, memory layout; a signal of "interrupted"
	   that is just on its way, as pending (those that are blocked and stay so are listed below). */
	static const char *const moving[] = {"Vm", "Rss", "Hugetlb", "voluntary", "nonvoluntary", "Cpus", "Mems", "State", "SigQ", "SigPnd", "ShdPnd"};
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

static void tell(const char *path) {
	FILE *open = fopen(path, "re");
	char line[256] = "";
	if (!open || !fgets(line, sizeof line, open))
		abort();
	fclose(open);
	line[strcspn(line, "\n")] = 0;
	printf("looked: %s\n", line);
}

static void snapshot(const char *when) {
	char text[4096];
	directory(when, "/proc/self/fd");
	/* The name of a thread's directory is no link: this lists them. */
	directory(when, "/proc/self/task");
	directory(when, "/proc/self/ns");
	/* Among others the ids (real, effective, saved, of the file system), groups, capabilities, seccomp. */
	file(when, "/proc/self/status");
	file(when, "/proc/self/limits");
	file(when, "/proc/self/oom_score_adj");
	file(when, "/proc/self/timerslack_ns");
	file(when, "/proc/self/timers");
	file(when, "/proc/self/cgroup");
	file(when, "/proc/self/coredump_filter");
	file(when, "/proc/self/attr/current");
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
	sigset_t pending;
	sigpending(&pending);
	for (int number = 1; number <= SIGRTMAX; number++)
		if (sigismember(&mask, number))
			printf("%s: blocked %d, pending %d\n", when, number, sigismember(&pending, number));
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		struct itimerval timer;
		getitimer(which, &timer);
		int armed = timer.it_value.tv_sec || timer.it_value.tv_usec;
		printf("%s: timer %d armed %d every %ld\n", when, which, armed, (long)timer.it_interval.tv_usec);
	}
	mode_t mode = umask(0);
	umask(mode);
	printf("%s: umask %o\n", when, mode);
	printf("%s: directory %s\n", when, getcwd(text, sizeof text));
	for (char **pair = environ; *pair; pair++)
		printf("%s: environment %s\n", when, *pair);
	printf("%s: locale %s\n", when, setlocale(LC_ALL, NULL));
	printf("%s: nice %d\n", when, getpriority(PRIO_PROCESS, 0));
	int death_signal;
	prctl(PR_GET_PDEATHSIG, &death_signal);
	printf("%s: dumpable %d, signal at the parent's death %d\n", when, prctl(PR_GET_DUMPABLE), death_signal);
	printf("%s: keeps capabilities %d, secure bits %d, subreaper %d\n", when, prctl(PR_GET_KEEPCAPS),
	       prctl(PR_GET_SECUREBITS), prctl(PR_GET_CHILD_SUBREAPER, &(int){0}));
	printf("%s: personality %x\n", when, personality(0xffffffff));
	pid_t child = waitpid(-1, NULL, WNOHANG);
	printf("%s: children %s\n", when, child < 0 && errno == ECHILD ? "none" : "some");
}

static void memory(long *size, long *resident) {
	FILE *open = fopen("/proc/self/statm", "re");
	if (!open || fscanf(open, "%ld %ld", size, resident) != 2)
		abort();
	fclose(open);
	long page = sysconf(_SC_PAGESIZE) / 1024;
	*size *= page;
	*resident *= page;
}

static double milliseconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void understand(const char *option) {
	char name[32];
	long value;
	if (!strncmp(option, "look=", 5))
		look = option + 5;
	else if (!strncmp(option, "write=", 6))
		written = option + 6;
	else if (!strcmp(option, "interrupted")) {
		struct itimerval often = {{0, 5000}, {0, 5000}};
		setitimer(ITIMER_REAL, &often, NULL);
	} else if (sscanf(option, "%31[^=]=%ld", name, &value) != 2)
		abort();
	else if (!strcmp(name, "mkdirat"))
		fault.mkdirat = value;
	else if (!strcmp(name, "fchown"))
		fault.fchown = value;
	else if (!strcmp(name, "fchmod"))
		fault.fchmod = value;
	else if (!strcmp(name, "open"))
		fault.open = value;
	else if (!strcmp(name, "malloc"))
		fault.malloc = value;
	else if (!strcmp(name, "address-space"))
		fault.address_space = value;
	else
		abort();
}

/* None of it as it is by default, so that putting back a default shows. */
static void unusual(void) {
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	struct itimerval once = {{0, 0}, {1000, 0}};
	setitimer(ITIMER_REAL, &once, NULL);
	umask(0137);
	setlocale(LC_ALL, "C.UTF-8");
	struct rlimit core = {1 << 20, 1 << 30};
	setrlimit(RLIMIT_CORE, &core);
	if (geteuid() == 0) {
		gid_t groups[] = {4, 24};
		if (setgroups(2, groups))
			abort();
		setfsgid(7);
	}
	/* Any change of credentials clears these two. */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGURG);
	if (chdir("/usr"))
		abort();
}

int main(int argc, char **argv) {
	if (argc < 5)
		return 2;
	const char *user = *argv[3] ? argv[3] : NULL;
	int sessions = atoi(argv[4]), failed = 0;
	struct pam_conv conversation = {converse, NULL};
	double longest = 0;
	long size, early = 0, late;

	unusual();
	for (int i = 5; i < argc; i++)
		understand(argv[i]);

	snapshot("before");
	for (int i = 1; i <= sessions; i++) {
		pam_handle_t *pam = NULL;
		int code = pam_start_confdir(argv[2], user, &conversation, argv[1], &pam);
		if (code != PAM_SUCCESS) {
			printf("start: %d\n", code);
			return 1;
		}
		/* What loads the module. */
		pam_acct_mgmt(pam, 0);
		struct rlimit space, before;
		getrlimit(RLIMIT_AS, &before);
		memory(&size, &late);
		space = before;
		space.rlim_cur = (size + fault.address_space) << 10;
		if (fault.address_space)
			setrlimit(RLIMIT_AS, &space);
		double start = milliseconds();
		fault.opening = 1;
		int opened = pam_open_session(pam, 0);
		fault.opening = 0;
		double taken = milliseconds() - start;
		setrlimit(RLIMIT_AS, &before);
		longest = taken > longest ? taken : longest;
		failed += opened != PAM_SUCCESS;
		char **environment = pam_getenvlist(pam);
		for (char **pair = environment; pair && *pair; pair++) {
			if (i == sessions)
				printf("env: %s\n", *pair);
			free(*pair);
		}
		free(environment);
		if (look && i == sessions)
			tell(look);
		if (written) {
			FILE *open = fopen(written, "we");
			if (!open || fputs("77\n", open) < 0 || fclose(open))
				abort();
		}
		int closed = pam_close_session(pam, PAM_SILENT);
		pam_end(pam, closed);
		if (i == sessions)
			printf("open: %d\nclose: %d\n", opened, closed);
		if (i == sessions / 10)
			memory(&size, &early);
	}
	memory(&size, &late);
	snapshot("after");
	if (early)
		printf("grown: %ld KiB\n", late - early);
	printf("failed: %d\n", failed);
	fputs(asked, stdout);
	printf("milliseconds: %.0f\n", longest);
	/* LeakSanitizer, which looks now, takes a signal for a hint that it is traced. */
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	return 0;
}
