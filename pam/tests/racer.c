/* Somebody who replaces what stands at a path, as fast as can be, until killed.
 *
 * racer UID GROUP DIRECTORY NAME TARGET
 *
 * As UID, with GROUP beside a group of its own: makes, removes and changes DIRECTORY/NAME at random, and in
 * between lies in wait: as soon as somebody makes it, it is swapped with a symbolic link to TARGET, with a
 * directory of its own, or with one that stands in DIRECTORY beforehand ("trap", "full-trap", root's).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXCHANGE 2 /* RENAME_EXCHANGE of linux/fs.h */

static int directory;
static const char *name;

static int exchange(const char *other) { return syscall(SYS_renameat2, directory, other, directory, name, EXCHANGE); }

/* What stands at the path already is swapped too, and then removed. */
static void lie_in_wait(const char *other) {
	for (int tries = 0; tries < 5000; tries++) {
		if (exchange(other))
			continue;
		/* Time for the victim to fall for it. */
		for (volatile int spin = 0; spin < 30000; spin++)
			;
		exchange(other);
		unlinkat(directory, name, AT_REMOVEDIR);
	}
}

int main(int argc, char **argv) {
	if (argc != 6)
		return 2;
	uid_t user = atoi(argv[1]);
	gid_t group = atoi(argv[2]);
	char link[64], own[64];
	name = argv[4];
	/* Two racers may be at the same directory. */
	snprintf(link, sizeof link, "link-%d", getpid());
	snprintf(own, sizeof own, "own-%d", getpid());
	directory = open(argv[3], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (directory < 0 || setgroups(1, &group) || setgid(user) || setuid(user))
		return 1;
	umask(0);
	const char *const partners[] = {"trap", link, "full-trap", own};
	for (unsigned random = getpid(), round = 0;; round++) {
		for (int operation = 0; operation < 200; operation++) {
			random = random * 1103515245 + 12345;
			switch (random >> 16 & 7) {
			case 0:
				mkdirat(directory, name, 0755);
				break;
			case 1: case 2:
				unlinkat(directory, name, AT_REMOVEDIR);
				break;
			case 3:
				symlinkat(argv[5], directory, name);
				break;
			case 4:
				unlinkat(directory, name, 0);
				break;
			case 5:
				symlinkat(argv[5], directory, link);
				exchange(link);
				break;
			case 6:
				mkdirat(directory, own, 0777);
				exchange(own);
				break;
			case 7:
				fchmodat(directory, name, random >> 8 & 0777, 0);
				break;
			}
		}
		unlinkat(directory, name, 0);
		unlinkat(directory, name, AT_REMOVEDIR);
		lie_in_wait(partners[round % 4]);
	}
}
