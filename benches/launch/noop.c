/* What every contender executes in the end. Without a C library, whose start takes longer than the exec. */
void _start(void)
{
    __asm__ volatile("syscall" : : "a"(60 /* exit */), "D"(0));
    __builtin_unreachable();
}
