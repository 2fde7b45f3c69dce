/* A neighbour of fairslice drill: one request every ten milliseconds, of half a millisecond's work.
 *
 * Prints a line for each: when it was due and how long after that it was done, both in nanoseconds of the
 * clock that /proc/uptime shows. What one request is late for, the next one is too, as those of a client are.
 *
 * gcc -static -O1 -o pace benches/drill/pace.c
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { PERIOD = 10 * 1000 * 1000, WORK = 500 * 1000, TRIES = 200 };

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void turn(int64_t turns)
{
    for (volatile int64_t at = 0; at < turns; at++) {
    }
}

/* How many turns take as long as a request does: by the quickest of many tries, which nobody disturbed. */
static int64_t calibrated(void)
{
    enum { TURNS = 20 * 1000 };
    int64_t best = INT64_MAX;
    for (int try = 0; try < TRIES; try++) {
        int64_t begun = now();
        turn(TURNS);
        int64_t took = now() - begun;
        if (took < best)
            best = took;
    }
    return TURNS * (int64_t)WORK / (best > 0 ? best : 1);
}

int main(void)
{
    int64_t turns = calibrated();
    for (int64_t due = now() + PERIOD;; due += PERIOD) {
        struct timespec until = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };
        clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL);
        turn(turns);
        printf("%lld %lld\n", (long long)due, (long long)(now() - due));
    }
}
