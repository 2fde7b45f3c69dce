/* stop COMMAND [ARGUMENT...]: waits for the tracer that its parent is, then executes COMMAND. */
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    if (count < 2 || ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
        return 1;
    execv(arguments[1], arguments + 1);
    return 1;
}
