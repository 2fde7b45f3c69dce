/* Opens a session as sshd does, and runs a command in it as the user.
 *
 * login SERVICE USER COMMAND [ARGUMENT...]
 *
 * The command gets HOME, USER, LOGNAME, SHELL, the variables that PAM was told of, and this program's
 * PATH, working directory and umask, which PAM may have set. Ends with the command's status; with 125 if there was no session or no command.
 */
#define _GNU_SOURCE
#include <err.h>
#include <grp.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 125 };

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
	(void)count;
	(void)messages;
	(void)responses;
	(void)data;
	return PAM_CONV_ERR;
}

static void become(const struct passwd *user, pam_handle_t *pam) {
	const char *path = getenv("PATH");
	char **session = pam_getenvlist(pam);
	if (clearenv() || setenv("PATH", path ? path : "/usr/bin", 1) || setenv("HOME", user->pw_dir, 1) ||
	    setenv("USER", user->pw_name, 1) || setenv("LOGNAME", user->pw_name, 1) || setenv("SHELL", user->pw_shell, 1))
		err(FAILED, "setenv");
	for (char **pair = session; pair && *pair; pair++)
		putenv(*pair);
	if (initgroups(user->pw_name, user->pw_gid) || setgid(user->pw_gid) || setuid(user->pw_uid))
		err(FAILED, "becoming %s", user->pw_name);
}

int main(int argc, char **argv) {
	struct pam_conv conversation = {converse, NULL};
	pam_handle_t *pam = NULL;
	if (argc < 4)
		errx(FAILED, "usage: login SERVICE USER COMMAND [ARGUMENT...]");
	const struct passwd *user = getpwnam(argv[2]);
	if (!user)
		errx(FAILED, "no user %s", argv[2]);
	int code = pam_start(argv[1], argv[2], &conversation, &pam);
	if (code == PAM_SUCCESS)
		code = pam_open_session(pam, 0);
	if (code != PAM_SUCCESS)
		errx(FAILED, "no session of %s for %s: %s", argv[1], argv[2], pam_strerror(pam, code));
	pid_t child = fork();
	if (child < 0)
		err(FAILED, "fork");
	if (child == 0) {
		become(user, pam);
		execvp(argv[3], argv + 3);
		err(FAILED, "%s", argv[3]);
	}
	int status;
	if (waitpid(child, &status, 0) != child)
		err(FAILED, "waitpid");
	pam_end(pam, pam_close_session(pam, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}
