/* What a process is when it starts, as far as it can see and as exec preserves it.
 *
 * probe FILE [ARGUMENT...]                 writes that to FILE, or to stdout if FILE is "-"
 * probe --set WHAT[=VALUE]... -- COMMAND   changes it in these ways (see "settings" below), then executes
 *
 * One fact a line, "name value", sorted; what cannot be asked has the error as its value. Two processes
 * that started alike give the same bytes. Left out is what is used up and not set (time, page faults, the
 * size of tables) and what the kernel draws by lot (addresses). Everything is collected before FILE is
 * opened, and what is opened meanwhile is closed again, so that nothing here shows up in the answer.
 *
 * gcc -static -O1 -o probe tests/probe.c
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

extern char **environ;

static char **facts;
static size_t fact_count;

static void die(const char *what)
{
    dprintf(STDERR_FILENO, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *must(void *memory)
{
    if (!memory)
        die("memory");
    return memory;
}

/* ---- facts ---- */

__attribute__((format(printf, 2, 3))) static void fact(const char *name, const char *format, ...)
{
    char *value, *line;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&value, format, arguments) < 0 || asprintf(&line, "%s %s\n", name, value) < 0)
        die("memory");
    va_end(arguments);
    free(value);
    if (fact_count % 1024 == 0)
        facts = must(realloc(facts, (fact_count + 1024) * sizeof *facts));
    facts[fact_count++] = line;
}

/* A number that a system call gave, or the name of its error. */
static void number(const char *name, long value)
{
    if (value == -1)
        fact(name, "%s", strerrorname_np(errno));
    else
        fact(name, "%ld", value);
}

/* In one line of printable ASCII. */
static char *escaped(const char *bytes)
{
    char *text = must(malloc(4 * strlen(bytes) + 1)), *end = text;
    for (; *bytes; bytes++)
        if (*bytes == '\t' || *bytes == '\n')
            end += sprintf(end, *bytes == '\t' ? "\\t" : "\\n");
        else if (isprint((unsigned char)*bytes) && *bytes != '\\')
            *end++ = *bytes;
        else
            end += sprintf(end, "\\x%02x", (unsigned char)*bytes);
    *end = 0;
    return text;
}

/* "words 00007 value" for each; five digits sort as numbers do. */
static void list(const char *name, char **words)
{
    for (size_t i = 0; words[i]; i++) {
        char numbered[32], *text = escaped(words[i]);
        snprintf(numbered, sizeof numbered, "%s.%05zu", name, i);
        fact(numbered, "%s", text);
        free(text);
    }
}

/* A file of /proc, whole; NULL with errno set if that fails. */
static char *text_of(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    size_t length = 0, room = 0;
    char *text = NULL;
    ssize_t got;
    do {
        if (room - length < 4096)
            text = must(realloc(text, room += 8192));
        got = read(file, text + length, room - length - 1);
        length += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    int error = errno;
    close(file);
    errno = error;
    text[length] = 0;
    return got < 0 ? NULL : text;
}

static void file_of_proc(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    char *text = text_of(path), *last = text && *text ? text + strlen(text) - 1 : NULL;
    if (last && *last == '\n')
        *last = 0;
    fact(name, "%s", text ? escaped(text) : strerrorname_np(errno));
}

static const char *target_of(const char *link)
{
    static char target[8192];
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0)
        return strerrorname_np(errno);
    target[length] = 0;
    return target;
}

/* ---- what there is to know ---- */

/* The kernel says it all in fdinfo: offset, flags with O_CLOEXEC, mount, inode, locks. */
static void descriptor(int descriptor)
{
    char path[64], name[32], owner[32];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", descriptor);
    snprintf(name, sizeof name, "descriptor.%05d", descriptor);
    snprintf(owner, sizeof owner, " %d ", getpid());
    char *info = text_of(path), *holder = info ? strstr(info, owner) : NULL;
    for (; holder; holder = strstr(holder, owner)) /* the process that holds a lock */
        memset(holder + 1, '*', strlen(owner) - 2);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    char *target = escaped(target_of(path));
    fact(name, "%s close-on-exec=%d owner=%d signal=%d %s", target, fcntl(descriptor, F_GETFD),
         fcntl(descriptor, F_GETOWN), fcntl(descriptor, F_GETSIG), info ? escaped(info) : strerrorname_np(errno));
}

static void descriptors(void)
{
    DIR *open = opendir("/proc/self/fd");
    if (!open)
        die("/proc/self/fd");
    struct dirent *entry;
    while ((entry = readdir(open)))
        if (isdigit((unsigned char)*entry->d_name) && atoi(entry->d_name) != dirfd(open))
            descriptor(atoi(entry->d_name));
    closedir(open);
}

/* Raw calls: the C library hides two signals that it uses itself. */
static void signals(void)
{
    uint64_t set = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &set, sizeof set);
    fact("signals.blocked", "%016lx", set);
    syscall(SYS_rt_sigpending, &set, sizeof set);
    fact("signals.pending", "%016lx", set);
    for (int i = 1; i <= 64; i++) {
        struct { uint64_t handler, flags, restorer, mask; } action = {0};
        char name[32];
        syscall(SYS_rt_sigaction, i, NULL, &action, sizeof action.mask);
        snprintf(name, sizeof name, "signal.%02d", i);
        fact(name, "handler=%lx flags=%lx mask=%lx", action.handler, action.flags, action.mask);
    }
}

/* All of it but what moves by itself, and numbers of processes, which have facts of their own. */
static void status(void)
{
    static const char *const moving[] = {
        "Vm", "Rss", "Hugetlb", "voluntary", "nonvoluntary", "State", "SigQ", "FDSize", "CoreDumping",
        "Tgid", "Ngid", "Pid", "PPid", "NStgid", "NSpid", "NSpgid", "NSsid",
    };
    char *text = text_of("/proc/self/status"), *line;
    if (!text)
        die("/proc/self/status");
    while ((line = strsep(&text, "\n"))) {
        char name[64];
        size_t length = strcspn(line, ":");
        int moves = !line[length];
        for (size_t i = 0; i < LENGTH(moving); i++)
            moves |= !strncmp(line, moving[i], strlen(moving[i]));
        if (moves)
            continue;
        snprintf(name, sizeof name, "status.%.*s", (int)length, line);
        fact(name, "%s", escaped(line + length + 1 + strspn(line + length + 1, "\t ")));
    }
}

static void relations(void)
{
    char *text = text_of("/proc/self/stat"), *after_name = text ? strrchr(text, ')') : NULL, *field;
    if (!after_name)
        die("/proc/self/stat");
    after_name += 2;
    for (int i = 3; (field = strsep(&after_name, " \n")); i++) {
        if (i == 7)
            fact("terminal", "%s", field);
        if (i == 8)
            fact("terminal-foreground", "%s", field);
        if (i == 9) /* PF_SUPERPRIV: a capability was used, acct(5) */
            fact("used-privilege", "%d", (strtoul(field, NULL, 10) & 0x100) != 0);
        if (i == 38)
            fact("exit-signal", "%s", field);
    }
    number("pid", getpid());
    number("tid", gettid());
    number("ppid", getppid());
    number("pgid", getpgrp());
    number("sid", getsid(0));
    siginfo_t child;
    int none = waitid(P_ALL, 0, &child, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT);
    fact("children", "%s", none ? strerrorname_np(errno) : "some");
}

static void place(const char *name, const char *link, const char *path)
{
    struct statx where = {0};
    const char *target = escaped(target_of(link));
    if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_MNT_ID, &where))
        fact(name, "%s %s", target, strerrorname_np(errno));
    else
        fact(name, "%s device=%u:%u inode=%llu mount=%llu", target, where.stx_dev_major, where.stx_dev_minor,
             (unsigned long long)where.stx_ino, (unsigned long long)where.stx_mnt_id);
}

static void namespaces(void)
{
    DIR *open = opendir("/proc/self/ns");
    if (!open)
        die("/proc/self/ns");
    struct dirent *entry;
    while ((entry = readdir(open))) {
        char name[300], path[300];
        snprintf(name, sizeof name, "namespace.%s", entry->d_name);
        snprintf(path, sizeof path, "/proc/self/ns/%s", entry->d_name);
        if (*entry->d_name != '.')
            fact(name, "%s", target_of(path));
    }
    closedir(open);
}

static void scheduling(void)
{
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority;
             uint64_t runtime, deadline, period; uint32_t least, most; } now = {0};
    if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0))
        fact("scheduler", "%s", strerrorname_np(errno));
    else
        fact("scheduler", "policy=%u flags=%lx priority=%u runtime=%lu deadline=%lu period=%lu use=%u..%u", now.policy,
             now.flags, now.priority, now.runtime, now.deadline, now.period, now.least, now.most);
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, 0);
    fact("nice", "%d%s", nice, errno ? " unknown" : "");
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    number("cpus", sched_getaffinity(0, sizeof cpus, &cpus) ? -1 : CPU_COUNT(&cpus));
    number("ioprio", syscall(SYS_ioprio_get, 1, 0));
    int mode = 0;
    unsigned long nodes[16] = {0};
    long failed = syscall(SYS_get_mempolicy, &mode, nodes, 8 * sizeof nodes, 0, 0);
    fact("memory-policy", "%s mode=%d nodes=%lx", failed ? strerrorname_np(errno) : "", mode, nodes[0]);
}

static const char *const limit_names[] = {
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile",
    "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
};

static void limits(void)
{
    for (size_t i = 0; i < LENGTH(limit_names); i++) {
        struct rlimit limit;
        char name[32];
        snprintf(name, sizeof name, "limit.%s", limit_names[i]);
        if (getrlimit(i, &limit))
            fact(name, "%s", strerrorname_np(errno));
        else
            fact(name, "%lx %lx", limit.rlim_cur, limit.rlim_max);
    }
}

/* PR_GET_IO_FLUSHER is not among them: who may ask depends on a capability, not the answer. */
static void attributes(void)
{
    static const struct { const char *name; int option; unsigned long argument; } values[] = {
        {"dumpable", PR_GET_DUMPABLE, 0},
        {"keep-capabilities", PR_GET_KEEPCAPS, 0},
        {"securebits", PR_GET_SECUREBITS, 0},
        {"no-new-privileges", PR_GET_NO_NEW_PRIVS, 0},
        {"seccomp", PR_GET_SECCOMP, 0},
        {"no-huge-pages", PR_GET_THP_DISABLE, 0},
        {"timer-slack", PR_GET_TIMERSLACK, 0},
        {"memory-errors", PR_MCE_KILL_GET, 0},
        {"write-xor-execute", 66 /* PR_GET_MDWE, Linux 6.3 */, 0},
        {"memory-merge", 68 /* PR_GET_MEMORY_MERGE, Linux 6.4 */, 0},
        {"speculation.bypass", PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS},
        {"speculation.branch", PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH},
    };
    for (size_t i = 0; i < LENGTH(values); i++)
        number(values[i].name, prctl(values[i].option, values[i].argument, 0, 0, 0));
    int value = 0;
    number("parent-death-signal", prctl(PR_GET_PDEATHSIG, &value) ? -1 : value);
    number("subreaper", prctl(PR_GET_CHILD_SUBREAPER, &value) ? -1 : value);
    number("time-stamp-counter", prctl(PR_GET_TSC, &value) ? -1 : value);
    number("personality", personality(0xffffffff));
}

static void keyrings(void)
{
    static const char *const names[] = {"thread", "process", "session", "user", "user-session"};
    for (int i = 0; i < (int)LENGTH(names); i++) {
        char name[32];
        snprintf(name, sizeof name, "keyring.%s", names[i]);
        number(name, syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -1 - i, 0));
    }
}

/* What is left on a timer that runs is never the same twice: in hundreds of seconds. */
static void timers(void)
{
    static const char *const names[] = {"timer.real", "timer.virtual", "timer.profiling"};
    for (int i = 0; i < (int)LENGTH(names); i++) {
        struct itimerval timer;
        if (getitimer(i, &timer))
            die("getitimer");
        fact(names[i], "armed=%d left=%ld00 interval=%ld.%06ld", timer.it_value.tv_sec || timer.it_value.tv_usec,
             timer.it_value.tv_sec / 100, timer.it_interval.tv_sec, timer.it_interval.tv_usec);
    }
}

static void auxiliary(void)
{
    static const struct { const char *name; unsigned long type; } values[] = {
        {"auxiliary.secure", AT_SECURE}, {"auxiliary.uid", AT_UID}, {"auxiliary.euid", AT_EUID},
        {"auxiliary.gid", AT_GID}, {"auxiliary.egid", AT_EGID}, {"auxiliary.hwcap", AT_HWCAP},
        {"auxiliary.hwcap2", AT_HWCAP2}, {"auxiliary.flags", AT_FLAGS}, {"auxiliary.interpreter", AT_BASE},
    };
    for (size_t i = 0; i < LENGTH(values); i++)
        fact(values[i].name, "%lx", getauxval(values[i].type));
    const char *file = (const char *)getauxval(AT_EXECFN);
    fact("auxiliary.file", "%s", file ? escaped(file) : "none");
}

static int by_bytes(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void collect(char **arguments)
{
    static const char *const files[] = {
        "attr/current", "cgroup", "comm", "coredump_filter", "cpuset", "gid_map", "loginuid", "oom_score_adj",
        "sessionid", "setgroups", "timens_offsets", "uid_map",
    };
    descriptors();
    list("argument", arguments);
    list("environment", environ);
    signals();
    status();
    relations();
    place("directory", "/proc/self/cwd", ".");
    place("root", "/proc/self/root", "/");
    fact("executable", "%s", escaped(target_of("/proc/self/exe")));
    namespaces();
    scheduling();
    limits();
    attributes();
    keyrings();
    timers();
    auxiliary();
    for (size_t i = 0; i < LENGTH(files); i++)
        file_of_proc(files[i]);
    qsort(facts, fact_count, sizeof *facts, by_bytes);
}

/* Opens FILE last of all, readable whatever the umask. */
static void tell(const char *path)
{
    int file = STDOUT_FILENO;
    if (strcmp(path, "-")) {
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (file < 0 || fchmod(file, 0644))
            die(path);
    }
    for (size_t i = 0; i < fact_count; i++)
        for (size_t done = 0, length = strlen(facts[i]); done < length;) {
            ssize_t written = write(file, facts[i] + done, length - done);
            if (written < 0)
                die(path);
            done += (size_t)written;
        }
}

/* ---- settings ---- */

static long value_of(const char *text) { return strtol(text, NULL, 0); }

static int set_close(const char *value) { return close(value_of(value)); }

/* Every third is not for the next program, every fifth never waits; each at an offset of its own. */
static int set_files(const char *value)
{
    for (long i = 0; i < value_of(value); i++) {
        int file = open("/proc/self/exe", O_RDONLY | (i % 3 ? 0 : O_CLOEXEC) | (i % 5 ? 0 : O_NONBLOCK));
        if (file < 0 || lseek(file, i, SEEK_SET) < 0)
            return -1;
    }
    return 0;
}

/* POSIX's kind of lock: lost as soon as its process closes any descriptor of that file. */
static int set_lock(const char *value)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int file = open(value, O_RDWR);
    return file < 0 ? -1 : fcntl(file, F_SETLK, &lock);
}

static int set_block(const char *value)
{
    uint64_t set = 1ul << (value_of(value) - 1);
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, sizeof set);
}

static int set_ignore(const char *value) { return signal(value_of(value), SIG_IGN) == SIG_ERR ? -1 : 0; }
static int set_default(const char *value) { return signal(value_of(value), SIG_DFL) == SIG_ERR ? -1 : 0; }
static int set_pending(const char *value) { return set_block(value) ? -1 : raise(value_of(value)); }

static int set_timer(const char *value)
{
    struct itimerval timer = {.it_value.tv_sec = value_of(value), .it_interval = {7, 8}};
    return setitimer(ITIMER_REAL, &timer, NULL);
}

static int set_umask(const char *value) { return umask(value_of(value)), 0; }
static int set_directory(const char *value) { return chdir(value); }
static int set_root(const char *value) { return chroot(value) || chdir("/"); }
static int set_nice(const char *value) { return setpriority(PRIO_PROCESS, 0, value_of(value)); }
static int set_ioprio(const char *value) { return syscall(SYS_ioprio_set, 1, 0, value_of(value)); }

static int set_scheduler(const char *value)
{
    struct sched_param none = {0};
    return sched_setscheduler(0, value_of(value), &none);
}

/* Of the processors that it may use, the first alone. */
static int set_first_cpu(const char *value)
{
    (void)value;
    cpu_set_t all, first;
    int cpu = 0;
    if (sched_getaffinity(0, sizeof all, &all))
        return -1;
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&first);
    CPU_SET(cpu, &first);
    return sched_setaffinity(0, sizeof first, &first);
}

/* limit=NAME:SOFT */
static int set_limit(const char *value)
{
    for (size_t i = 0; i < LENGTH(limit_names); i++) {
        size_t length = strlen(limit_names[i]);
        struct rlimit limit;
        if (strncmp(value, limit_names[i], length) || value[length] != ':')
            continue;
        if (getrlimit(i, &limit))
            return -1;
        limit.rlim_cur = value_of(value + length + 1);
        return setrlimit(i, &limit);
    }
    errno = EINVAL;
    return -1;
}

static int set_session(const char *value) { return (void)value, setsid() < 0 ? -1 : 0; }
static int set_group(const char *value) { return (void)value, setpgid(0, 0); }

/* A session of its own, whose terminal is what stdin is. */
static int set_terminal(const char *value) { return set_session(value) ? -1 : ioctl(STDIN_FILENO, TIOCSCTTY, 0); }

/* What no shell would make: a variable twice, a string without "=", an empty one. Or nothing at all. */
static int set_environment(const char *value)
{
    static char *const odd[] = {"PROBE=first", "PROBE=second", "no equals sign", "", "=", NULL};
    static char *none[] = {NULL};
    size_t count = 0;
    if (!strcmp(value, "none"))
        return environ = none, 0;
    while (environ[count])
        count++;
    char **all = must(malloc(sizeof *all * (count + LENGTH(odd))));
    memcpy(all, environ, count * sizeof *all);
    memcpy(all + count, odd, sizeof odd);
    return environ = all, 0;
}

static int set_securebits(const char *value) { return prctl(PR_SET_SECUREBITS, value_of(value), 0, 0, 0); }
static int set_no_new_privileges(const char *value) { return (void)value, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
static int set_no_huge_pages(const char *value) { return (void)value, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); }
static int set_subreaper(const char *value) { return (void)value, prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
static int set_timer_slack(const char *value) { return prctl(PR_SET_TIMERSLACK, value_of(value), 0, 0, 0); }
static int set_parent_death(const char *value) { return prctl(PR_SET_PDEATHSIG, value_of(value), 0, 0, 0); }
static int set_personality(const char *value) { return personality(value_of(value)) < 0 ? -1 : 0; }

/* A filter that allows everything, but for the system call of this number, if there is one, which fails
 * with EPERM; without privileges only after no-new-privileges. */
static int set_seccomp(const char *value)
{
    uint32_t refused = *value ? (uint32_t)value_of(value) : UINT32_MAX;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {LENGTH(filter), filter};
    return set_no_new_privileges(value) ? -1 : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int set_keyring(const char *value)
{
    (void)value;
    return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 ? -1 : 0;
}

/* One that has ended, and that nobody has waited for. */
static int set_child(const char *value)
{
    (void)value;
    pid_t child = fork();
    if (!child)
        _exit(0);
    siginfo_t ended;
    return child < 0 ? -1 : waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT);
}

static int write_to(const char *path, const char *value)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, value, strlen(value)) < 0)
        return -1;
    return close(file);
}

static int set_oom_score(const char *value) { return write_to("/proc/self/oom_score_adj", value); }
static int set_core_dump(const char *value) { return write_to("/proc/self/coredump_filter", value); }

static const struct { const char *name; int (*set)(const char *value); } settings[] = {
    {"block", set_block}, {"child", set_child}, {"close", set_close}, {"core-dump", set_core_dump},
    {"first-cpu", set_first_cpu}, {"default", set_default}, {"directory", set_directory}, {"environment", set_environment},
    {"files", set_files}, {"group", set_group}, {"ignore", set_ignore}, {"ioprio", set_ioprio},
    {"keyring", set_keyring}, {"limit", set_limit}, {"lock", set_lock}, {"nice", set_nice},
    {"no-huge-pages", set_no_huge_pages}, {"no-new-privileges", set_no_new_privileges},
    {"oom-score", set_oom_score}, {"parent-death", set_parent_death}, {"pending", set_pending},
    {"personality", set_personality}, {"root", set_root}, {"scheduler", set_scheduler},
    {"seccomp", set_seccomp}, {"securebits", set_securebits}, {"session", set_session},
    {"subreaper", set_subreaper}, {"terminal", set_terminal}, {"timer", set_timer},
    {"timer-slack", set_timer_slack}, {"umask", set_umask},
};

static void set(const char *setting)
{
    size_t length = strcspn(setting, "=");
    const char *value = setting[length] ? setting + length + 1 : "";
    for (size_t i = 0; i < LENGTH(settings); i++)
        if (strlen(settings[i].name) == length && !strncmp(setting, settings[i].name, length)) {
            if (settings[i].set(value))
                die(setting);
            return;
        }
    errno = EINVAL;
    die(setting);
}

int main(int count, char **arguments)
{
    int next = 2;
    if (count > 1 && !strcmp(arguments[1], "--set")) {
        while (next < count && strcmp(arguments[next], "--"))
            set(arguments[next++]);
        if (next + 1 < count)
            execvp(arguments[next + 1], arguments + next + 1);
        die("exec");
    }
    if (count < 2) {
        dprintf(STDERR_FILENO, "usage: probe FILE [ARGUMENT...] | probe --set WHAT[=VALUE]... -- COMMAND...\n");
        return 2;
    }
    collect(arguments);
    tell(arguments[1]);
    return 0;
}
