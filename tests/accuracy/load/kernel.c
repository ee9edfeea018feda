/* What the kernel says by itself: RST from closed ports, ICMP port unreachable, echo replies. Whoever
 * provoked it has seen it come, and so can witness it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

/* The other end of the same conversation. */
static struct end other_end(const struct end *end)
{
    struct end other = *end;
    other.role = end->role == CLIENT ? SERVER : CLIENT;
    other.local = end->remote;
    other.remote = end->local;
    return other;
}

/* An ICMP message as NetFlow keys it: no source port, and type * 256 + code for the destination's. */
static struct end icmp(const union address *from, const union address *to, int type, int code,
                       struct moment open, struct moment close)
{
    struct end end = {.role = CLIENT, .protocol = IPPROTO_ICMP, .local = *from, .remote = *to};
    end.open = open;
    end.close = close;
    address_set_port(&end.local, 0);
    address_set_port(&end.remote, htons((uint16_t)(type * 256 + code)));
    return end;
}

/* A local address and port of its own, known before anything is refused. */
static int own_port(const struct options *options, int type, union address *local)
{
    union address at = options->at[0];
    int fd = socket_for(&at, type, 0);
    if (bind(fd, &at.any, address_size(&at)) != 0)
        die("bind");
    socklen_t size = sizeof *local;
    if (getsockname(fd, &local->any, &size) != 0)
        die("getsockname");
    return fd;
}

static void refuse_tcp(const struct options *options, unsigned number)
{
    struct end end = {.role = CLIENT, .protocol = IPPROTO_TCP, .id = options->first_id + number};
    end.remote = options->to[number % (unsigned)options->to_count];
    int fd = own_port(options, SOCK_STREAM, &end.local);
    end.open = now();
    if (connect(fd, &end.remote.any, address_size(&end.remote)) == 0 || errno != ECONNREFUSED)
        die("a closed port did not refuse");
    sleep_us(options->hold_us);
    close(fd);
    end.close = now();
    truth_process(&end);
    struct end kernel = other_end(&end);
    truth_kernel(&kernel);
}

void refused_tcp(const struct options *options)
{
    crowd(options, refuse_tcp);
}

static void refuse_udp(const struct options *options, unsigned number)
{
    struct end end = {.role = CLIENT, .protocol = IPPROTO_UDP, .id = options->first_id + number};
    end.remote = options->to[number % (unsigned)options->to_count];
    int fd = own_port(options, SOCK_DGRAM, &end.local);
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    end.open = now();
    if (connect(fd, &end.remote.any, address_size(&end.remote)) != 0)
        die("connect");
    uint64_t bytes = 0;
    if (send(fd, &bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        die("send");
    if (recv(fd, &bytes, sizeof bytes, 0) >= 0 || errno != ECONNREFUSED)
        die("a closed port was not reported unreachable");
    struct moment heard = now();
    sleep_us(options->hold_us);
    close(fd);
    end.close = now();
    truth_process(&end);
    struct end kernel = other_end(&end);
    truth_kernel(&kernel);
    struct end error = icmp(&end.remote, &end.local, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH,
                            end.open, heard);
    truth_kernel(&error);
}

void refused_udp(const struct options *options)
{
    crowd(options, refuse_udp);
}

static uint16_t checksum(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)(at[i] << 8 | at[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* ping: one process, one raw socket, an echo request at a time. Its requests are its own, the
 * replies are the other side's kernel's. */
void echoes(const struct options *options)
{
    struct timeval patience = {.tv_sec = 2};
    int fd = socket_for(&options->to[0], SOCK_RAW, IPPROTO_ICMP);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ready();
    for (unsigned number = 0; number < options->count; number++) {
        struct {
            struct icmphdr header;
            unsigned char body[48];
        } request = {.header = {.type = ICMP_ECHO}};
        request.header.un.echo.id = htons((uint16_t)getpid());
        request.header.un.echo.sequence = htons((uint16_t)number);
        request.header.checksum = checksum(&request, sizeof request);
        struct moment open = now();
        if (sendto(fd, &request, sizeof request, 0, &options->to[0].any,
                   address_size(&options->to[0])) < 0)
            die("sending an echo request");
        for (;;) {
            unsigned char packet[256];
            ssize_t count = recv(fd, packet, sizeof packet, 0);
            if (count < 0)
                die("no echo reply");
            size_t offset = (size_t)(packet[0] & 15) * 4;
            struct icmphdr reply;
            if ((size_t)count < offset + sizeof reply)
                continue;
            memcpy(&reply, packet + offset, sizeof reply);
            if (reply.type == ICMP_ECHOREPLY && reply.un.echo.id == request.header.un.echo.id &&
                reply.un.echo.sequence == request.header.un.echo.sequence)
                break;
        }
        struct moment close = now();
        struct end asked = icmp(&options->at[0], &options->to[0], ICMP_ECHO, 0, open, close);
        truth_process(&asked);
        struct end answered = icmp(&options->to[0], &options->at[0], ICMP_ECHOREPLY, 0, open, close);
        truth_kernel(&answered);
        sleep_us((unsigned)(1e6 / options->rate));
    }
}
