/* A file system of FUSE as fusermount3 mounts it for an unprivileged user, where fuse.conf has user_allow_other:
 * whatever is asked for is there, a directory, of the owner that suits.
 *
 * fuse POINT MOUNTER OWNER [silent|alone]
 *
 * Mounts on POINT for the user number MOUNTER. The root is root's, 0755; everything below is OWNER's, 0700.
 * With "silent" nothing is ever answered; "alone", only MOUNTER is let in. Ends with the process that started it.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct fuse_attr attributes(uint64_t inode, uint32_t owner) {
	int is_root = inode == FUSE_ROOT_ID;
	return (struct fuse_attr){
		.ino = inode,
		.mode = S_IFDIR | (is_root ? 0755 : 0700),
		.nlink = 2,
		.uid = is_root ? 0 : owner,
		.gid = is_root ? 0 : owner,
		.blksize = 4096,
	};
}

static void answer(int device, uint64_t unique, int error, const void *data, size_t size) {
	struct fuse_out_header header = {.len = sizeof header + size, .error = error, .unique = unique};
	struct iovec parts[] = {{&header, sizeof header}, {(void *)data, size}};
	if (writev(device, parts, 2) < 0 && errno != ENOENT)
		err(1, "answering");
}

int main(int argc, char **argv) {
	if (argc < 4)
		errx(1, "usage: fuse POINT MOUNTER OWNER [silent]");
	uint32_t owner = atoi(argv[3]);
	int is_alone = argc > 4 && !strcmp(argv[4], "alone");
	int is_silent = argc > 4 && !is_alone;
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/fuse");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char options[128];
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%s,group_id=%s%s", device, argv[2], argv[2], is_alone ? "" : ",allow_other");
	if (mount("fuse", argv[1], "fuse", MS_NOSUID | MS_NODEV, options))
		err(1, "mounting %s", argv[1]);

	static char buffer[1 << 20];
	for (;;) {
		ssize_t size = read(device, buffer, sizeof buffer);
		if (size < 0 && errno == ENODEV)
			return 0;
		if (size < 0)
			err(1, "reading /dev/fuse");
		struct fuse_in_header *request = (struct fuse_in_header *)buffer;
		uint64_t unique = request->unique;
		if (is_silent && request->opcode != FUSE_INIT)
			continue;
		switch (request->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096, .max_readahead = 4096};
			answer(device, unique, 0, &init, sizeof init);
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = {.attr = attributes(request->nodeid, owner)};
			answer(device, unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_LOOKUP: {
			struct fuse_entry_out out = {.nodeid = request->nodeid + 1, .attr = attributes(request->nodeid + 1, owner)};
			answer(device, unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_OPENDIR: {
			struct fuse_open_out out = {.fh = 1};
			answer(device, unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_READDIR:
		case FUSE_RELEASEDIR:
			answer(device, unique, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(device, unique, -ENOSYS, NULL, 0);
		}
	}
}
