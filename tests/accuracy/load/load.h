/* What the generators share: options, addresses, pace, children. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "truth.h"

#define MOST_TARGETS 64

/* Everything that can be asked for, as `name=value`; main.c has the list. */
struct options {
    union address to[MOST_TARGETS], at[MOST_TARGETS];
    int to_count, at_count;
    double rate;         /* conversations per second */
    unsigned count;      /* conversations in all */
    unsigned hold_us;    /* how long each is held open */
    unsigned first_port; /* local ports are chosen, from here on, in turn … */
    unsigned ports;      /* … so many of them; 0: the kernel chooses */
    unsigned workers;
    bool connected;      /* UDP: with a peer */
    bool receive_id;     /* the server says the id, the client only reads */
    bool reset;          /* end it with RST instead of FIN */
    bool inherit;        /* who connects gives the socket to a child and goes */
    const char *how;     /* how a server shares its sockets */
    uint64_t first_id;
    const char *truth;   /* the file */
};

/* Says what failed, and ends this process. */
noreturn void die(const char *what);

in_port_t address_port(const union address *address);
void address_set_port(union address *address, in_port_t port);
void address_text(const union address *address, char *text);
socklen_t address_size(const union address *address);
bool address_is_wildcard(const union address *address);

/* A socket of the address' family. */
int socket_for(const union address *address, int type, int protocol);
/* Bound to it, with SO_REUSEADDR. */
int bound_socket(const union address *address, int type);
int listener(const union address *address, bool reuse_port);

void sleep_us(unsigned microseconds);

/* Forks a child that ends when its parent does. 0 in the child. */
int fork_bound(void);

/* Says on standard output that all sockets are there. */
void ready(void);

/* Calls `act` in a process of its own, `count` times, at the pace that was asked for; then says
 * what was reached: `paced COUNT NANOSECONDS`. */
void crowd(const struct options *options, void (*act)(const struct options *, unsigned number));

void tcp_calls(const struct options *options);
void tcp_serve(const struct options *options);
void tcp_activated(const struct options *options);
void udp_sends(const struct options *options);
void udp_serve(const struct options *options);
void udp_receivers(const struct options *options);
void refused_tcp(const struct options *options);
void refused_udp(const struct options *options);
void echoes(const struct options *options);
void cost(const struct options *options);
void churn(const struct options *options);

#endif
