/* TCP: calls from one process each, and servers that share their sockets in every way that there
 * is. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

/* ---- callers ---- */

static void talk(const struct options *options, int fd, struct end *end)
{
    if (options->receive_id) {
        if (recv(fd, &end->id, sizeof end->id, MSG_WAITALL) != (ssize_t)sizeof end->id)
            die("no id came");
    } else if (send(fd, &end->id, sizeof end->id, MSG_NOSIGNAL) != (ssize_t)sizeof end->id) {
        die("send");
    }
    sleep_us(options->hold_us);
    if (options->reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(fd);
    end->close = now();
    truth_process(end);
}

static void call(const struct options *options, unsigned number)
{
    struct end end = {.role = CLIENT, .protocol = IPPROTO_TCP, .id = options->first_id + number};
    end.remote = options->to[number % (unsigned)options->to_count];
    int fd = socket_for(&end.remote, SOCK_STREAM, 0);
    if (options->ports > 0) {
        int on = 1;
        union address local = end.remote;
        if (options->at_count > 0)
            local = options->at[0];
        address_set_port(&local, htons((uint16_t)(options->first_port + number % options->ports)));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, &local.any, address_size(&local)) != 0)
            die("bind of a chosen port");
    }
    end.open = now();
    if (connect(fd, &end.remote.any, address_size(&end.remote)) != 0)
        die("connect");
    socklen_t size = sizeof end.local;
    if (getsockname(fd, &end.local.any, &size) != 0)
        die("getsockname");
    if (!options->inherit) {
        talk(options, fd, &end);
        return;
    }
    /* Who connected goes on doing other things; the child it forked does the talking. */
    int child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        talk(options, fd, &end);
        _exit(0);
    }
    close(fd);
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        _exit(1);
}

void tcp_calls(const struct options *options)
{
    crowd(options, call);
}

/* ---- servers ---- */

/* A connection that this process serves: read its id, then until its end. */
struct connection {
    int fd;
    size_t got;
    struct end end;
};

/* What travels with a passed descriptor: it was accepted by another. */
struct passed {
    struct end end;
};

/* Takes the next connection of a listener; -1 if there is none. The peer's address comes from
 * accept(2) itself: getpeername(2) does not tell it any more once the peer has reset. */
static int take(int listening, struct end *end)
{
    memset(end, 0, sizeof *end);
    end->role = SERVER;
    end->protocol = IPPROTO_TCP;
    socklen_t size = sizeof end->remote;
    int fd = accept4(listening, &end->remote.any, &size, SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return -1;
        die("accept");
    }
    end->open = now();
    size = sizeof end->local;
    if (getsockname(fd, &end->local.any, &size) != 0)
        die("getsockname");
    return fd;
}

static void finish(int fd, struct end *end)
{
    close(fd);
    end->close = now();
    truth_process(end);
}

/* For a caller that only reads: says an id, and that is all. The descriptor is never read. */
static void tell(const struct options *options, int fd, struct end *end)
{
    static uint64_t told;
    end->id = options->first_id + ((uint64_t)getpid() << 24) + ++told;
    if (send(fd, &end->id, sizeof end->id, MSG_NOSIGNAL) != (ssize_t)sizeof end->id)
        die("send of an id");
    sleep_us(options->hold_us);
    finish(fd, end);
}

/* Some bytes, or the end, of a connection. Whether it is over. */
static bool hear(struct connection *one)
{
    unsigned char bytes[64];
    ssize_t count = recv(one->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    for (ssize_t i = 0; i < count && one->got < sizeof one->end.id; i++)
        memcpy((unsigned char *)&one->end.id + one->got++, bytes + i, 1);
    return count <= 0; /* FIN, or RST */
}

/* Serves whatever it accepts from `listeners` and whatever is passed to it through `channel`. */
static noreturn void work(const struct options *options, const int *listeners, int count,
                          int channel)
{
    static int listener_mark, channel_mark;
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) {
        /* Of many who wait for one listener, one is woken. */
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = &listener_mark};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &event) != 0)
            die("epoll_ctl");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &channel_mark};
    if (channel >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, channel, &event) != 0)
        die("epoll_ctl");
    for (;;) {
        struct epoll_event events[64];
        int many = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < many; i++) {
            struct end end;
            int taken[64], takes = 0;
            struct end ends[64];
            if (events[i].data.ptr == &listener_mark) {
                for (int l = 0; l < count; l++)
                    for (int fd; takes < 64 && (fd = take(listeners[l], &end)) >= 0;) {
                        taken[takes] = fd;
                        ends[takes++] = end;
                    }
            } else if (events[i].data.ptr == &channel_mark) {
                struct passed passed;
                union {
                    char bytes[CMSG_SPACE(sizeof(int))];
                    struct cmsghdr align;
                } control;
                struct iovec part = {&passed, sizeof passed};
                struct msghdr message = {.msg_iov = &part,
                                         .msg_iovlen = 1,
                                         .msg_control = control.bytes,
                                         .msg_controllen = sizeof control.bytes};
                if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof passed)
                    _exit(0); /* who passed them is gone */
                memcpy(&taken[0], CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
                ends[0] = passed.end;
                takes = 1;
            } else {
                struct connection *one = events[i].data.ptr;
                if (hear(one)) {
                    /* By hand: whoever passed the descriptor may not have closed its own yet, and
                     * epoll only forgets a socket that nobody has open (epoll(7)). */
                    epoll_ctl(poll, EPOLL_CTL_DEL, one->fd, NULL);
                    finish(one->fd, &one->end);
                    free(one);
                }
            }
            for (int t = 0; t < takes; t++) {
                if (options->receive_id) {
                    tell(options, taken[t], &ends[t]);
                    continue;
                }
                struct connection *one = calloc(1, sizeof *one);
                if (one == NULL)
                    die("calloc");
                one->fd = taken[t];
                one->end = ends[t];
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = one};
                if (epoll_ctl(poll, EPOLL_CTL_ADD, one->fd, &event) != 0)
                    die("epoll_ctl");
            }
        }
    }
}

/* Waits for the next connection of a blocking server. */
static int wait_and_take(const int *listeners, int count, struct end *end)
{
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &event) != 0)
            die("epoll_ctl");
    }
    for (;;) {
        for (int i = 0; i < count; i++) {
            int fd = take(listeners[i], end);
            if (fd >= 0) {
                close(poll);
                return fd;
            }
        }
        struct epoll_event event;
        epoll_wait(poll, &event, 1, -1);
    }
}

/* Accepts, forks a child for each connection, and forgets it. */
static noreturn void fork_for_each(const struct options *options, const int *listeners, int count)
{
    (void)options;
    for (;;) {
        struct connection one = {0};
        one.fd = wait_and_take(listeners, count, &one.end);
        int child = fork_bound();
        if (child == 0) {
            for (int i = 0; i < count; i++)
                close(listeners[i]);
            struct epoll_event event;
            int poll = epoll_create1(EPOLL_CLOEXEC);
            event = (struct epoll_event){.events = EPOLLIN};
            epoll_ctl(poll, EPOLL_CTL_ADD, one.fd, &event);
            do
                epoll_wait(poll, &event, 1, -1);
            while (!hear(&one));
            finish(one.fd, &one.end);
            _exit(0);
        }
        close(one.fd);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}

/* Accepts, and passes each connection to a worker (unix(7), SCM_RIGHTS). */
static noreturn void pass_on(const struct options *options, const int *listeners, int count)
{
    int channels[64][2];
    for (unsigned i = 0; i < options->workers; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels[i]) != 0)
            die("socketpair");
        if (fork_bound() == 0) {
            for (int l = 0; l < count; l++)
                close(listeners[l]);
            for (unsigned j = 0; j <= i; j++)
                close(channels[j][0]);
            work(options, NULL, 0, channels[i][1]);
        }
        close(channels[i][1]);
    }
    ready();
    for (unsigned turn = 0;; turn++) {
        struct passed passed;
        int fd = wait_and_take(listeners, count, &passed.end);
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control = {0};
        struct iovec part = {&passed, sizeof passed};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
        if (sendmsg(channels[turn % options->workers][0], &message, 0) < 0)
            die("passing a descriptor");
        close(fd);
    }
}

void tcp_serve(const struct options *options)
{
    int listeners[MOST_TARGETS], count = options->at_count;
    bool is_worker = false;
    bool reuse_port = strcmp(options->how, "reuseport") == 0;
    if (reuse_port)
        /* Every worker has listeners of its own. */
        for (unsigned i = 1; i < options->workers && !is_worker; i++)
            is_worker = fork_bound() == 0;
    for (int i = 0; i < count; i++)
        listeners[i] = listener(&options->at[i], reuse_port);
    if (reuse_port && !is_worker)
        sleep_us(200000); /* the others' listeners */
    if (strcmp(options->how, "prefork") == 0) {
        /* The parent only holds the listeners. */
        for (unsigned i = 0; i < options->workers && !is_worker; i++)
            is_worker = fork_bound() == 0;
        if (!is_worker) {
            ready();
            for (;;)
                pause();
        }
    } else if (strcmp(options->how, "fork") == 0) {
        ready();
        fork_for_each(options, listeners, count);
    } else if (strcmp(options->how, "pass") == 0) {
        pass_on(options, listeners, count);
    }
    if (!is_worker)
        ready();
    work(options, listeners, count, -1);
}

/* Socket activation (sd_listen_fds(3)): the listener is descriptor 3, somebody else made it. */
void tcp_activated(const struct options *options)
{
    if (getenv("LISTEN_FDS") == NULL) {
        /* The part of the service manager: it keeps the listener and starts the service. */
        int fd = listener(&options->at[0], false);
        int child = fork_bound();
        if (child != 0) {
            for (;;)
                pause();
        }
        /* Duplicated twice, so that it survives exec even if it was 3 already. */
        fd = fcntl(fd, F_DUPFD, 4);
        if (fd < 0 || dup2(fd, 3) != 3)
            die("dup2");
        setenv("LISTEN_FDS", "1", 1);
        char truth[4096 + 6], first_id[64], receive_id[32];
        snprintf(truth, sizeof truth, "truth=%s", options->truth);
        snprintf(first_id, sizeof first_id, "first-id=%llu",
                 (unsigned long long)options->first_id);
        snprintf(receive_id, sizeof receive_id, "receive-id=%d", options->receive_id);
        execl("/proc/self/exe", "load", "tcp-activated", truth, first_id, receive_id, NULL);
        die("exec");
    }
    ready();
    int fd = 3;
    work(options, &fd, 1, -1);
}
