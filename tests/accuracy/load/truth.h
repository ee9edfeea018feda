/* The truth: which process was at an end of a conversation, from when to when, written down by that
 * process itself. Nobody who is measured has a hand in it. */
#ifndef TRUTH_H
#define TRUTH_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

/* A moment, by both clocks of the host, in nanoseconds. */
struct moment {
    uint64_t real, boot;
};

/* IPv4 or IPv6; the port is in network order, as everywhere in here. */
union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

enum role { CLIENT, SERVER };

/* One end of a conversation. */
struct end {
    enum role role;
    int protocol;
    union address local, remote;
    struct moment open, close;
    /* The same at both ends and nowhere else: it travels in the first bytes of the conversation.
     * 0 where nothing can travel. */
    uint64_t id;
};

struct moment now(void);

/* Opens the file; everything is appended to it. */
void truth_open(const char *path);

/* This process acted at this end. One line, one write(2): writers never mix. */
void truth_process(const struct end *end);

/* The kernel itself acted there; the caller has seen its answer. */
void truth_kernel(const struct end *end);

#endif
