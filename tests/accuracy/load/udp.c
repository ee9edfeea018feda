/* UDP: senders with and without a peer, and sockets that only receive. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

/* Makes the kernel say to which address each datagram was sent: a socket bound to the wildcard
 * cannot know it otherwise (ip(7), ipv6(7)). */
static void want_destination(int fd, const union address *address)
{
    int on = 1, result;
    if (address->any.sa_family == AF_INET)
        result = setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    else
        result = setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    if (result != 0)
        die("PKTINFO");
}

/* Receives one datagram: who sent it, to which address of ours, and its id. */
static bool receive(int fd, struct end *end)
{
    union {
        char bytes[256];
        struct cmsghdr align;
    } control;
    memset(end, 0, sizeof *end);
    struct iovec part = {&end->id, sizeof end->id};
    struct msghdr message = {.msg_name = &end->remote,
                             .msg_namelen = sizeof end->remote,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    end->open = now();
    ssize_t count = recvmsg(fd, &message, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (count != (ssize_t)sizeof end->id)
        die("receiving a datagram");
    end->open = end->close = now();
    end->role = SERVER;
    end->protocol = IPPROTO_UDP;
    socklen_t size = sizeof end->local;
    if (getsockname(fd, &end->local.any, &size) != 0)
        die("getsockname");
    for (struct cmsghdr *told = CMSG_FIRSTHDR(&message); told; told = CMSG_NXTHDR(&message, told)) {
        if (told->cmsg_level == IPPROTO_IP && told->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(told), sizeof info);
            end->local.v4.sin_addr = info.ipi_addr;
        } else if (told->cmsg_level == IPPROTO_IPV6 && told->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(told), sizeof info);
            end->local.v6.sin6_addr = info.ipi6_addr;
        }
    }
    return true;
}

/* One datagram of one process. Without a peer the kernel binds the socket as it sends, to the
 * wildcard: that end then does not know its own address, but whoever receives it does. */
static void send_one(const struct options *options, unsigned number)
{
    struct end end = {.role = CLIENT, .protocol = IPPROTO_UDP, .id = options->first_id + number};
    end.remote = options->to[number % (unsigned)options->to_count];
    int fd = socket_for(&end.remote, SOCK_DGRAM, 0);
    ssize_t count;
    if (options->connected) {
        if (connect(fd, &end.remote.any, address_size(&end.remote)) != 0)
            die("connect");
        /* Not before: until it has its port, another process may be using that. */
        end.open = now();
        count = send(fd, &end.id, sizeof end.id, 0);
    } else {
        end.open = now();
        count = sendto(fd, &end.id, sizeof end.id, 0, &end.remote.any, address_size(&end.remote));
    }
    if (count != (ssize_t)sizeof end.id)
        die("sending a datagram");
    socklen_t size = sizeof end.local;
    if (getsockname(fd, &end.local.any, &size) != 0)
        die("getsockname");
    sleep_us(options->hold_us);
    close(fd);
    end.close = now();
    truth_process(&end);
}

void udp_sends(const struct options *options)
{
    crowd(options, send_one);
}

void udp_serve(const struct options *options)
{
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < options->at_count; i++) {
        int fd = bound_socket(&options->at[i], SOCK_DGRAM | SOCK_NONBLOCK), size = 4 << 20;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        want_destination(fd, &options->at[i]);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
    }
    ready();
    for (;;) {
        struct epoll_event events[16];
        int many = epoll_wait(poll, events, 16, -1);
        struct end end;
        for (int i = 0; i < many; i++)
            while (receive(events[i].data.fd, &end))
                truth_process(&end);
    }
}

/* ---- sockets that never send ---- */

/* What a receiver asks for: one datagram with this id, to this address. */
struct wish {
    union address where;
    uint64_t id;
};

static int wishes[2];

static void receive_one(const struct options *options, unsigned number)
{
    union address at = options->at[number % (unsigned)options->at_count];
    int fd = bound_socket(&at, SOCK_DGRAM);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    want_destination(fd, &at);
    struct wish wish = {.id = options->first_id + number};
    socklen_t size = sizeof wish.where;
    if (getsockname(fd, &wish.where.any, &size) != 0)
        die("getsockname");
    if (address_is_wildcard(&at)) {
        in_port_t port = address_port(&wish.where);
        wish.where = options->to[0];
        address_set_port(&wish.where, port);
    }
    if (write(wishes[1], &wish, sizeof wish) != (ssize_t)sizeof wish)
        die("asking for a datagram");
    struct end end;
    if (!receive(fd, &end))
        die("no datagram came");
    sleep_us(options->hold_us);
    close(fd);
    end.close = now();
    truth_process(&end);
}

/* Sends what is wished for, all from one socket for each family. */
static void grant(void)
{
    int v4 = -1, v6 = -1;
    struct wish wish;
    while (read(wishes[0], &wish, sizeof wish) == (ssize_t)sizeof wish) {
        int *fd = wish.where.any.sa_family == AF_INET ? &v4 : &v6;
        if (*fd < 0)
            *fd = socket_for(&wish.where, SOCK_DGRAM, 0);
        struct end end = {.role = CLIENT, .protocol = IPPROTO_UDP, .id = wish.id};
        end.remote = wish.where;
        end.open = now();
        if (sendto(*fd, &wish.id, sizeof wish.id, 0, &wish.where.any, address_size(&wish.where)) < 0)
            die("sending a datagram");
        end.close = now();
        socklen_t size = sizeof end.local;
        if (getsockname(*fd, &end.local.any, &size) != 0)
            die("getsockname");
        truth_process(&end);
    }
}

void udp_receivers(const struct options *options)
{
    if (pipe(wishes) != 0)
        die("pipe");
    /* The pace is another process's than the sender's, which ends when nobody can wish any more. */
    if (fork_bound() == 0) {
        close(wishes[0]);
        crowd(options, receive_one);
        _exit(0);
    }
    close(wishes[1]);
    grant();
    int status;
    if (wait(&status) < 0 || status != 0)
        _exit(1);
}
