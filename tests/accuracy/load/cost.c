/* What a connection costs: connect, accept and both closes, all by one thread on one processor, over
 * loopback. Nothing waits for anybody, so that what is added to it is what somebody added. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* Says the mean of each block, in nanoseconds per connection; a line on standard input asks for the
 * next one. The first block warms up. */
void cost(const struct options *options)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    int listeners[MOST_TARGETS];
    for (int i = 0; i < options->to_count; i++)
        listeners[i] = listener(&options->to[i], false);
    ready();
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t begin = now().boot;
        for (unsigned number = 0; number < options->count; number++) {
            unsigned which = number % (unsigned)options->to_count;
            const union address *to = &options->to[which];
            int client = socket_for(to, SOCK_STREAM, 0);
            if (connect(client, &to->any, address_size(to)) != 0)
                die("connect");
            int server = accept4(listeners[which], NULL, NULL, SOCK_CLOEXEC);
            if (server < 0)
                die("accept");
            close(client);
            close(server);
        }
        printf("%.1f\n", (double)(now().boot - begin) / options->count);
        fflush(stdout);
    }
}

/* Opens and closes so many sockets, one after the other, at the pace that was asked for: each is one
 * interval of a history. Says the number when done; a line on standard input asks for it. */
void churn(const struct options *options)
{
    ready();
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t begin = now().boot;
        for (unsigned number = 0; number < options->count; number++) {
            uint64_t due = begin + (uint64_t)(number * 1e9 / options->rate);
            if (number % 100 == 0 && now().boot < due)
                sleep_us((unsigned)((due - now().boot) / 1000));
            close(bound_socket(&options->at[number % (unsigned)options->at_count], SOCK_DGRAM));
        }
        printf("%u\n", options->count);
        fflush(stdout);
    }
}
