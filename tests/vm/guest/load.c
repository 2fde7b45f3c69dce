/* load [--hold MIB] [--grow MIB_PER_SECOND] [--busy THREADS] [--bound] [--standby] [--name NAME]
 *
 * Holds memory, goes on eating it, and keeps CPUs busy; for services and logins of the
 * test machine alike. With --standby the threads wait for SIGUSR1 and stop at SIGUSR2;
 * with --bound each stays on one CPU, in turn.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MIB = 1 << 20 };
static atomic_int running = 1;
static long busy;
static sem_t begun; /* one for each thread: looking at the clock meanwhile would keep an emulated CPU at work */

static void go(int signal_number)
{
    running = signal_number == SIGUSR1;
    for (long i = 0; running && i < busy; i++)
        sem_post(&begun);
}

static void *spin(void *unused)
{
    volatile unsigned long turns = 0;
    for (;;) {
        while (running)
            turns++;
        sem_wait(&begun);
    }
    return unused;
}

/* A thread that the kernel's load balancer does not move. */
static int bind_to(pthread_t thread, long number)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(number % sysconf(_SC_NPROCESSORS_ONLN), &cpus);
    return pthread_setaffinity_np(thread, sizeof cpus, &cpus);
}

/* Touched pages only: memory that is merely promised harms nobody. */
static void eat(size_t bytes)
{
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("load: mmap");
        exit(1);
    }
    for (size_t at = 0; at < bytes; at += 4096)
        memory[at] = 1;
}

int main(int count, char **words)
{
    long hold = 0, grow = 0;
    int bound = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "--standby")) {
            running = 0;
        } else if (!strcmp(words[i], "--bound")) {
            bound = 1;
        } else if (i + 1 < count && !strcmp(words[i], "--hold")) {
            hold = atol(words[++i]);
        } else if (i + 1 < count && !strcmp(words[i], "--grow")) {
            grow = atol(words[++i]);
        } else if (i + 1 < count && !strcmp(words[i], "--busy")) {
            busy = atol(words[++i]);
        } else if (i + 1 < count && !strcmp(words[i], "--name")) {
            prctl(PR_SET_NAME, words[++i]); /* what the kernel's OOM report calls it */
        } else {
            fprintf(stderr, "load: %s? see the top of load.c\n", words[i]);
            return 2;
        }
    }
    sem_init(&begun, 0, 0);
    signal(SIGUSR1, go);
    signal(SIGUSR2, go);
    if (hold)
        eat((size_t)hold * MIB);
    for (long i = 0; i < busy; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, spin, NULL) || (bound && bind_to(thread, i))) {
            fputs("load: no more threads, or not on that CPU\n", stderr);
            return 1;
        }
    }
    printf("load: holds %ld MiB, %ld busy threads\n", hold, busy);
    fflush(stdout);
    for (;;) {
        if (grow) {
            eat((size_t)grow * MIB / 10);
            usleep(100 * 1000);
        } else {
            pause();
        }
    }
}
