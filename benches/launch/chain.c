/* chain ROOT UNIT COMMAND [ARGUMENT...]: what fairslice-launch does when UNIT's score is right, or is to be set,
 * with the same system calls in the same order, in C; nothing is checked that the benchmark does not need.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *root;

static void path_below_root(char *path, size_t size, const char *relative)
{
    snprintf(path, size, "%s/%s", root, relative);
}

/* A small file, whole, with the calls of Rust's read_to_string. */
static char *text_of(const char *path)
{
    static char text[4096];
    struct statx status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    syscall(SYS_statx, file, "", AT_EMPTY_PATH, STATX_ALL, &status);
    ssize_t length = read(file, text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    ssize_t end = read(file, text + length, 1);
    close(file);
    return end ? NULL : text;
}

static char *drop_in(const char *unit)
{
    char prefix[256], path[4096];
    snprintf(prefix, sizeof prefix, "%s", unit);
    for (;;) {
        char relative[512];
        snprintf(relative, sizeof relative, "run/systemd/generator/%s.d/40-fairslice.conf", prefix);
        path_below_root(path, sizeof path, relative);
        char *text = text_of(path), *dash;
        if (text)
            return text;
        if (!strcmp(prefix, "service"))
            return NULL;
        /* local-bench.service, local-.service, service */
        *strrchr(prefix, '.') = 0;
        size_t length = strlen(prefix);
        if (length && prefix[length - 1] == '-')
            prefix[length - 1] = 0;
        dash = strrchr(prefix, '-');
        if (dash)
            strcpy(dash + 1, ".service");
        else
            strcpy(prefix, "service");
    }
}

static void drop_capability(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_RESOURCE, 0, 0) <= 0)
        return;
    syscall(SYS_capget, &header, data);
    prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
    data[0].effective &= ~(1u << CAP_SYS_RESOURCE);
    data[0].permitted &= ~(1u << CAP_SYS_RESOURCE);
    data[0].inheritable &= ~(1u << CAP_SYS_RESOURCE);
    syscall(SYS_capset, &header, data);
}

int main(int count, char **arguments)
{
    char path[4096], score[16];
    struct statx status;
    if (count < 4)
        return 1;
    root = arguments[1];
    path_below_root(path, sizeof path, "proc/self/cgroup");
    char *placed = text_of(path);
    if (!placed || !strstr(placed, ".service"))
        return 1;
    path_below_root(path, sizeof path, "run/systemd/system");
    syscall(SYS_statx, AT_FDCWD, path, 0, STATX_ALL, &status);
    char *declared = drop_in(arguments[2]);
    declared = declared ? strstr(declared, "OOMScoreAdjust=") : NULL;
    if (!declared)
        return 1;
    declared += strlen("OOMScoreAdjust=");
    snprintf(score, sizeof score, "%.*s", (int)strcspn(declared, "\n"), declared);
    path_below_root(path, sizeof path, "proc/self/oom_score_adj");
    char *live = text_of(path);
    if (!live)
        return 1;
    if (atoi(live) != atoi(score)) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (file < 0 || write(file, score, strlen(score)) < 0)
            return 1;
        close(file);
        drop_capability();
    }
    execv(arguments[3], arguments + 3);
    return 1;
}
