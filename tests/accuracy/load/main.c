/* Load generators that know the truth: traffic of many kinds, each end of which writes down itself
 * which process it was (truth.h).
 *
 *     load SCENARIO truth=FILE [netns=NAME] [name=value …]
 *
 * Servers run until they are killed, and die with whoever started them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    _exit(1);
}

in_port_t address_port(const union address *address)
{
    return address->any.sa_family == AF_INET ? address->v4.sin_port : address->v6.sin6_port;
}

void address_set_port(union address *address, in_port_t port)
{
    if (address->any.sa_family == AF_INET)
        address->v4.sin_port = port;
    else
        address->v6.sin6_port = port;
}

void address_text(const union address *address, char *text)
{
    const void *bytes = address->any.sa_family == AF_INET ? (const void *)&address->v4.sin_addr
                                                          : (const void *)&address->v6.sin6_addr;
    if (inet_ntop(address->any.sa_family, bytes, text, INET6_ADDRSTRLEN) == NULL)
        die("inet_ntop");
}

socklen_t address_size(const union address *address)
{
    return address->any.sa_family == AF_INET ? sizeof address->v4 : sizeof address->v6;
}

bool address_is_wildcard(const union address *address)
{
    if (address->any.sa_family == AF_INET)
        return address->v4.sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

/* `10.0.0.1:80` or `[::1]:80`. */
static union address address_from(char *text)
{
    union address address = {0};
    char *port = strrchr(text, ':');
    if (port == NULL) {
        errno = EINVAL;
        die(text);
    }
    *port++ = 0;
    if (*text == '[') {
        text[strlen(text) - 1] = 0;
        address.v6.sin6_family = AF_INET6;
        if (inet_pton(AF_INET6, text + 1, &address.v6.sin6_addr) != 1)
            die(text);
    } else {
        address.v4.sin_family = AF_INET;
        if (inet_pton(AF_INET, text, &address.v4.sin_addr) != 1)
            die(text);
    }
    address_set_port(&address, htons((uint16_t)atoi(port)));
    return address;
}

static int addresses_from(char *list, union address *into)
{
    int count = 0;
    char *rest = NULL;
    for (char *one = strtok_r(list, ",", &rest); one != NULL; one = strtok_r(NULL, ",", &rest)) {
        if (count == MOST_TARGETS)
            die("too many addresses");
        into[count++] = address_from(one);
    }
    return count;
}

int socket_for(const union address *address, int type, int protocol)
{
    int fd = socket(address->any.sa_family, type | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        die("socket");
    return fd;
}

int bound_socket(const union address *address, int type)
{
    int fd = socket_for(address, type, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &address->any, address_size(address)) != 0)
        die("bind");
    return fd;
}

int listener(const union address *address, bool reuse_port)
{
    int fd = socket_for(address, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        die("SO_REUSEPORT");
    if (bind(fd, &address->any, address_size(address)) != 0)
        die("bind");
    if (listen(fd, 4096) != 0)
        die("listen");
    return fd;
}

void sleep_us(unsigned microseconds)
{
    struct timespec time = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
    if (microseconds > 0)
        while (nanosleep(&time, &time) != 0 && errno == EINTR) {
        }
}

int fork_bound(void)
{
    int child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

void ready(void)
{
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        die("standard output");
}

void crowd(const struct options *options, void (*act)(const struct options *, unsigned number))
{
    /* So many at a time: a machine that cannot keep the pace must not run out of processes. */
    const unsigned most = 2000;
    unsigned alive = 0;
    uint64_t begin = now().boot;
    for (unsigned number = 0; number < options->count; number++) {
        uint64_t due = begin + (uint64_t)(number * 1e9 / options->rate);
        struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        while (now().boot < due)
            clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL);
        int child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            act(options, number);
            _exit(0);
        }
        alive++;
        int status;
        while (alive > 0 && waitpid(-1, &status, alive < most ? WNOHANG : 0) > 0) {
            alive--;
            if (status != 0)
                _exit(1); /* it has said why */
        }
    }
    uint64_t took = now().boot - begin;
    for (int status; wait(&status) > 0;)
        if (status != 0)
            _exit(1);
    printf("paced %u %llu\n", options->count, (unsigned long long)took);
    fflush(stdout);
}

static const struct scenario {
    const char *name;
    void (*run)(const struct options *);
} scenarios[] = {
    {"tcp-calls", tcp_calls},     {"tcp-serve", tcp_serve},   {"tcp-activated", tcp_activated},
    {"udp-sends", udp_sends},     {"udp-serve", udp_serve},   {"udp-receivers", udp_receivers},
    {"refused-tcp", refused_tcp}, {"refused-udp", refused_udp}, {"echoes", echoes},
    {"cost", cost},               {"churn", churn},
};

static void enter(const char *netns)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", netns);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        die(path);
    close(fd);
}

int main(int count, char **words)
{
    struct options options = {.rate = 1000, .count = 1, .workers = 4, .how = "accept"};
    const struct scenario *scenario = NULL;
    for (size_t i = 0; count > 1 && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(scenarios[i].name, words[1]) == 0)
            scenario = &scenarios[i];
    if (scenario == NULL) {
        errno = EINVAL;
        die("which scenario?");
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 2; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (value == NULL) {
            errno = EINVAL;
            die(words[i]);
        }
        *value++ = 0;
        const char *name = words[i];
        if (strcmp(name, "truth") == 0)
            truth_open(options.truth = value);
        else if (strcmp(name, "netns") == 0)
            enter(value);
        else if (strcmp(name, "to") == 0)
            options.to_count = addresses_from(value, options.to);
        else if (strcmp(name, "at") == 0)
            options.at_count = addresses_from(value, options.at);
        else if (strcmp(name, "rate") == 0)
            options.rate = atof(value);
        else if (strcmp(name, "count") == 0)
            options.count = (unsigned)atoi(value);
        else if (strcmp(name, "hold-us") == 0)
            options.hold_us = (unsigned)atoi(value);
        else if (strcmp(name, "first-port") == 0)
            options.first_port = (unsigned)atoi(value);
        else if (strcmp(name, "ports") == 0)
            options.ports = (unsigned)atoi(value);
        else if (strcmp(name, "workers") == 0)
            options.workers = (unsigned)atoi(value);
        else if (strcmp(name, "connected") == 0)
            options.connected = atoi(value) != 0;
        else if (strcmp(name, "receive-id") == 0)
            options.receive_id = atoi(value) != 0;
        else if (strcmp(name, "reset") == 0)
            options.reset = atoi(value) != 0;
        else if (strcmp(name, "inherit") == 0)
            options.inherit = atoi(value) != 0;
        else if (strcmp(name, "how") == 0)
            options.how = value;
        else if (strcmp(name, "first-id") == 0)
            options.first_id = strtoull(value, NULL, 10);
        else {
            errno = EINVAL;
            die(name);
        }
    }
    scenario->run(&options);
    return 0;
}
