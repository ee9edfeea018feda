/* Sockets: who made them, whom they talk to, who uses them, when they end.
 *
 * What is known of a socket lives in the socket's own storage and goes away with it. Of an accepted
 * connection it begins as a copy of its listener's; that says who listened, not who accepted, so it
 * counts for nothing until somebody uses the connection.
 *
 * Every program that a cgroup calls returns 1 on every path: any other answer would forbid users what
 * they were about to do. */
#pragma once
#include "task.h"

/* How many users of a socket are remembered, and how often a new one is told: processes that take
 * turns on one socket must not fill the ring. */
enum { ACTORS = 4, MOST_ACTING = 250 };

enum {
	TOLD = 1,     /* an event with its endpoints was sent */
	ACCEPTED = 2, /* came from a listener, nobody has used it */
	STORED_V6_ONLY = 4,
	PEER = 8,     /* told with a peer */
	MANY = 16,    /* has a peer and sends to others as well */
};

/* Whom a raw socket sent to last. Ports in network byte order. */
struct __attribute__((aligned(8))) conversation {
	u8 family;
	u8 protocol;
	u16 unused;
	u16 local_port;
	u16 remote_port;
	u8 local[16];
	u8 remote[16];
};

INLINE int is_same(struct conversation *a, struct conversation *b)
{
	u64 *left = (u64 *)a, *right = (u64 *)b;

	return left[0] == right[0] && left[1] == right[1] && left[2] == right[2] &&
	       left[3] == right[3] && left[4] == right[4];
}

struct holding {
	struct actor owner; /* who made it, or used it last for the first time */
	u64 since;	    /* when it got its endpoint, as far as that is known */
	u64 starts[ACTORS]; /* who used it, newest in a ring */
	u32 pids[ACTORS];
	u32 epoch;
	u8 next;
	u8 acting; /* how many ACTING events were sent */
	u8 flags;
	u8 unused;
	struct conversation talk;
};

struct {
	UINT(type, BPF_MAP_TYPE_SK_STORAGE);
	UINT(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	TYPE(key, int);
	TYPE(value, struct holding);
} holdings SECTION(".maps");

INLINE int knows(struct holding *holding, u32 pid, u64 start)
{
#pragma unroll
	for (int i = 0; i < ACTORS; i++)
		if (holding->pids[i] == pid && holding->starts[i] == start)
			return 1;
	return 0;
}

INLINE void remember(struct holding *holding, struct actor *actor)
{
	u32 at = holding->next & (ACTORS - 1);

	/* Twice the same bound, for the verifier. */
	if (at < ACTORS) {
		holding->pids[at] = actor->pid;
		holding->starts[at] = actor->start;
	}
	holding->next = at + 1;
}

INLINE void forget_actors(struct holding *holding)
{
#pragma unroll
	for (int i = 0; i < ACTORS; i++)
		holding->pids[i] = 0;
	holding->next = 0;
}

INLINE void begin_epoch(struct holding *holding)
{
	holding->epoch = epoch;
	holding->flags &= ~TOLD;
	holding->acting = 0;
	holding->talk.family = 0;
	forget_actors(holding);
}

/* The current process becomes the (only known) owner. */
INLINE void own(struct holding *holding)
{
	fill_actor(&holding->owner);
	forget_actors(holding);
	remember(holding, &holding->owner);
}

INLINE u16 swapped(u16 port)
{
	return __builtin_bswap16(port);
}

INLINE void fill_tuple(struct event *event, struct sock *sk)
{
	event->family = sk->__sk_common.skc_family;
	event->protocol = sk->sk_protocol;
	event->local_port = sk->__sk_common.skc_num;
	event->remote_port = swapped(sk->__sk_common.skc_dport);
	event->namespace = sk->__sk_common.skc_net.net->net_cookie;
	event->flags |= HAS_TUPLE;
	/* Of TCP the mark proves nothing: the subflows of a process' MPTCP connection bear it, and what a
	 * listener of the kernel's accepts until somebody takes it. */
	if (event->protocol != IPPROTO_TCP && BIT(sk, sk_kern_sock))
		event->flags |= KERNEL;
	__builtin_memset(event->local, 0, sizeof(event->local));
	__builtin_memset(event->remote, 0, sizeof(event->remote));
	if (event->family == AF_INET6) {
		bpf_probe_read_kernel(event->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(event->remote, 16, &sk->__sk_common.skc_v6_daddr);
		if (BIT(sk, __sk_common.skc_ipv6only))
			event->flags |= V6_ONLY;
	} else {
		*(u32 *)event->local = sk->__sk_common.skc_rcv_saddr;
		*(u32 *)event->remote = sk->__sk_common.skc_daddr;
	}
}

/* An event with who and when; endpoints are the caller's. */
INLINE struct event *begin(u32 kind, struct actor *owner, u64 now, u64 when)
{
	struct event *event = reserve(kind, sizeof(*event), now);

	if (!event)
		return NULL;
	event->kind = kind;
	event->flags = 0;
	event->protocol = 0;
	event->family = 0;
	event->local_port = 0;
	event->remote_port = 0;
	event->time = when;
	event->namespace = 0;
	if (owner) {
		event->actor = *owner;
		event->flags |= HAS_OWNER;
	} else {
		__builtin_memset(&event->actor, 0, sizeof(event->actor));
	}
	return event;
}

/* ---- making, connecting, binding: in the process' own context ----
 *
 * Only `made` gives a socket its storage here: the kernel's own sockets connect and bind under
 * whatever task is running, and have none. */

SECTION("cgroup/sock_create")
int made(struct bpf_sock *ctx)
{
	struct holding *holding;

	if (is_kernel_thread())
		return 1;
	holding = bpf_sk_storage_get(&holdings, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (holding) {
		holding->since = bpf_ktime_get_boot_ns();
		holding->epoch = epoch;
		own(holding);
	}
	return 1;
}

/* Before connect(2) acts: a descriptor may have been inherited or passed since the socket was
 * made, and a datagram socket is about to get another peer. */
INLINE int connecting(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct holding *holding;

	if (!sk)
		return 1;
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	if (!holding)
		return 1;
	if (holding->owner.pid != current_pid() || holding->owner.start != current_start())
		own(holding);
	if (ctx->type != SOCK_STREAM) {
		holding->since = bpf_ktime_get_boot_ns();
		holding->flags &= ~(TOLD | PEER | MANY);
	}
	return 1;
}

SECTION("cgroup/connect4")
int connecting_v4(struct bpf_sock_addr *ctx)
{
	return connecting(ctx);
}

SECTION("cgroup/connect6")
int connecting_v6(struct bpf_sock_addr *ctx)
{
	return connecting(ctx);
}

/* Before bind(2) acts: only here a datagram socket shows whether it takes IPv4 as well. */
SECTION("cgroup/bind6")
int binding_v6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct holding *holding;
	struct sock *kernel_sk;

	if (!sk || ctx->protocol != IPPROTO_UDP)
		return 1;
	kernel_sk = bpf_skc_to_udp6_sock(sk);
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	if (!holding || !kernel_sk)
		return 1;
	if (BIT(kernel_sk, __sk_common.skc_ipv6only))
		holding->flags |= STORED_V6_ONLY;
	else
		holding->flags &= ~STORED_V6_ONLY;
	return 1;
}

INLINE int bound(struct bpf_sock *ctx, u8 family)
{
	struct holding *holding;
	struct event *event;
	u64 now;

	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	holding = bpf_sk_storage_get(&holdings, ctx, NULL, 0);
	if (!holding)
		return 1;
	now = bpf_ktime_get_boot_ns();
	if (holding->owner.pid != current_pid() || holding->owner.start != current_start())
		own(holding);
	holding->since = now;
	event = begin(BOUND, &holding->owner, now, now);
	if (!event)
		return 1;
	event->cookie = bpf_get_socket_cookie(ctx);
	event->namespace = bpf_get_netns_cookie(ctx);
	event->protocol = IPPROTO_UDP;
	event->family = family;
	event->local_port = ctx->src_port;
	event->flags |= HAS_TUPLE;
	__builtin_memset(event->local, 0, sizeof(event->local));
	__builtin_memset(event->remote, 0, sizeof(event->remote));
	if (family == AF_INET6) {
		u32 *local = (u32 *)event->local;

		local[0] = ctx->src_ip6[0];
		local[1] = ctx->src_ip6[1];
		local[2] = ctx->src_ip6[2];
		local[3] = ctx->src_ip6[3];
		if (holding->flags & STORED_V6_ONLY)
			event->flags |= V6_ONLY;
	} else {
		*(u32 *)event->local = ctx->src_ip4;
	}
	holding->flags |= TOLD;
	submit(event);
	return 1;
}

SECTION("cgroup/post_bind4")
int bound_v4(struct bpf_sock *ctx)
{
	return bound(ctx, AF_INET);
}

SECTION("cgroup/post_bind6")
int bound_v6(struct bpf_sock *ctx)
{
	return bound(ctx, AF_INET6);
}

/* sendto(2) to an address of its own: the port is bound by now, the datagram not yet sent. The endpoint
 * is told once the kernel's own socket can be read, at the end of the system call (see `used`), with
 * this moment as its time. A socket that has a peer as well is told anew, as one that talks to many. */
INLINE int sending(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct holding *holding;

	if (!sk)
		return 1;
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	if (!holding)
		return 1;
	if (holding->flags & PEER) {
		holding->flags |= MANY;
		holding->flags &= ~(TOLD | PEER);
	}
	if (!(holding->flags & TOLD))
		holding->since = bpf_ktime_get_boot_ns();
	return 1;
}

SECTION("cgroup/sendmsg4")
int sending_v4(struct bpf_sock_addr *ctx)
{
	return sending(ctx);
}

SECTION("cgroup/sendmsg6")
int sending_v6(struct bpf_sock_addr *ctx)
{
	return sending(ctx);
}

/* ---- TCP ---- */

SECTION("sockops")
int tcp(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct holding *holding;
	struct sock *kernel_sk;
	struct event *event;
	u32 kind;
	u64 now;

	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		kind = CONNECTING;
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		kind = ACCEPTING;
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		kind = LISTENING;
		break;
	default:
		return 1;
	}
	if (!sk)
		return 1;
	kernel_sk = bpf_skc_to_tcp_sock(sk);
	if (!kernel_sk)
		return 1;
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	now = bpf_ktime_get_boot_ns();
	event = begin(kind, holding ? &holding->owner : NULL, now, now);
	if (holding) {
		holding->since = now;
		holding->flags &= ~(TOLD | ACCEPTED);
		if (kind == ACCEPTING) {
			holding->flags |= ACCEPTED;
			holding->acting = 0;
			forget_actors(holding);
		}
	}
	if (!event)
		return 1;
	event->cookie = bpf_get_socket_cookie(ctx);
	fill_tuple(event, kernel_sk);
	if (holding)
		holding->flags |= TOLD;
	submit(event);
	return 1;
}

/* tp_btf/inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate): also what
 * nobody releases - orphans after close(2), subflows. */
SECTION("tp_btf/inet_sock_set_state")
int state_changed(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct event *event;
	u64 cookie, now;

	if ((s32)ctx[2] != TCP_CLOSE || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	cookie = sk->__sk_common.skc_cookie.counter;
	if (!cookie)
		return 0; /* never told of */
	now = bpf_ktime_get_boot_ns();
	event = begin(CLOSED, NULL, now, now);
	if (!event)
		return 0;
	event->cookie = cookie;
	__builtin_memset(event->local, 0, sizeof(event->local));
	__builtin_memset(event->remote, 0, sizeof(event->remote));
	submit(event);
	return 0;
}

/* ---- using: whoever sends or receives holds the socket ---- */

INLINE void tell_acting(struct sock *sk, struct holding *holding, u64 now)
{
	struct event *event;
	u32 kind = ACTING;

	if (holding->acting >= MOST_ACTING)
		return;
	event = begin(kind, &holding->owner, now, now);
	if (!event)
		return;
	event->cookie = bpf_get_socket_cookie(sk);
	fill_tuple(event, sk);
	submit(event);
	remember(holding, &holding->owner);
	holding->acting++;
	holding->flags &= ~ACCEPTED;
}

INLINE int used(struct sock *sk)
{
	struct holding *holding;
	u16 family = sk->__sk_common.skc_family;
	u16 protocol;
	u64 start, now;
	u32 pid;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	/* A socket that a process gave to the kernel (a block device's) is still that process'. */
	if (is_kernel_thread())
		return 0;
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	if (!holding) {
		/* Older than these programs, or the kernel's own. */
		if (BIT(sk, sk_kern_sock))
			return 0;
		holding = bpf_sk_storage_get(&holdings, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!holding)
			return 0;
	}
	if (holding->epoch != epoch)
		begin_epoch(holding);
	pid = current_pid();
	start = current_start();
	protocol = sk->sk_protocol;
	/* It has a peer no longer: connect(2) with AF_UNSPEC passes no hook. */
	if ((holding->flags & PEER) && !sk->__sk_common.skc_dport)
		holding->flags &= ~(TOLD | PEER);
	if (protocol == IPPROTO_UDP && !(holding->flags & TOLD) && sk->__sk_common.skc_num) {
		struct event *event;
		int peer = sk->__sk_common.skc_dport && !(holding->flags & MANY);
		u32 kind = peer ? ASSOCIATED : BOUND;

		now = bpf_ktime_get_boot_ns();
		if (!knows(holding, pid, start))
			own(holding);
		event = begin(kind, &holding->owner, now, holding->since ? holding->since : now);
		if (!event)
			return 0;
		event->cookie = bpf_get_socket_cookie(sk);
		fill_tuple(event, sk);
		holding->flags |= peer ? TOLD | PEER : TOLD;
		submit(event);
		return 0;
	}
	if (knows(holding, pid, start))
		return 0;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) {
		own(holding); /* told with what leaves next, see `leaving` */
		holding->talk.family = 0;
		return 0;
	}
	if (!sk->__sk_common.skc_num)
		return 0;
	now = bpf_ktime_get_boot_ns();
	fill_actor(&holding->owner);
	tell_acting(sk, holding, now);
	return 0;
}

/* tp_btf/sock_send_length(struct sock *sk, int ret, int flags), Linux 6.3 */
SECTION("tp_btf/sock_send_length")
int sent(u64 *ctx)
{
	return used((void *)ctx[0]);
}

/* tp_btf/sock_recv_length(struct sock *sk, int ret, int flags), Linux 6.3 */
SECTION("tp_btf/sock_recv_length")
int received(u64 *ctx)
{
	return used((void *)ctx[0]);
}

/* tp_btf/tcp_rcv_space_adjust(struct sock *sk): in recvmsg(2), for kernels without the former */
SECTION("tp_btf/tcp_rcv_space_adjust")
int read_tcp(u64 *ctx)
{
	return used((void *)ctx[0]);
}

/* Their first four bytes are the two ports. */
INLINE int has_ports(u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DCCP ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_UDPLITE;
}

/* RFC 791 and RFC 8200: where the protocol and the addresses stand. A packet with IPv6 extension headers
 * is told by the first of them. */
enum { IPV4_HEADER = 20, IPV6_HEADER = 40 };

INLINE void read_ipv4(struct conversation *talk, const u8 *header)
{
	talk->family = AF_INET;
	talk->protocol = header[9];
	__builtin_memcpy(talk->local, header + 12, 4);
	__builtin_memcpy(talk->remote, header + 16, 4);
}

INLINE void read_ipv6(struct conversation *talk, const u8 *header)
{
	talk->family = AF_INET6;
	talk->protocol = header[6];
	__builtin_memcpy(talk->local, header + 8, 16);
	__builtin_memcpy(talk->remote, header + 24, 16);
}

INLINE void fill_talk(struct event *event, struct conversation *talk, u64 namespace, u64 cookie, u8 flags)
{
	event->cookie = cookie;
	event->namespace = namespace;
	event->flags |= HAS_TUPLE | RAW | flags;
	event->family = talk->family;
	event->protocol = talk->protocol;
	event->local_port = swapped(talk->local_port);
	event->remote_port = swapped(talk->remote_port);
	__builtin_memcpy(event->local, talk->local, 16);
	__builtin_memcpy(event->remote, talk->remote, 16);
}

/* What leaves, of sockets that are neither TCP nor UDP: a raw or ping socket has no peer and no port,
 * so each packet says whom it talks to, told whenever that is not the one before. */
SECTION("cgroup_skb/egress")
int leaving(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct holding *holding;
	struct conversation talk = {};
	u8 header[IPV6_HEADER];
	struct event *event;
	u8 version = 0;
	u64 now;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol == IPPROTO_TCP || sk->protocol == IPPROTO_UDP)
		return 1;
	if (sk->family != AF_INET && sk->family != AF_INET6)
		return 1;
	holding = bpf_sk_storage_get(&holdings, sk, NULL, 0);
	if (!holding)
		return 1; /* the kernel's own, or older than this program */
	if (holding->epoch != epoch)
		begin_epoch(holding);
	if (bpf_skb_load_bytes(ctx, 0, &version, 1))
		return 1;
	if (version >> 4 == 4) {
		if (bpf_skb_load_bytes(ctx, 0, header, IPV4_HEADER))
			return 1;
		read_ipv4(&talk, header);
		if (has_ports(talk.protocol))
			bpf_skb_load_bytes(ctx, (version & 15) * 4, &talk.local_port, 4);
	} else {
		if (bpf_skb_load_bytes(ctx, 0, header, IPV6_HEADER))
			return 1;
		read_ipv6(&talk, header);
		if (has_ports(talk.protocol))
			bpf_skb_load_bytes(ctx, IPV6_HEADER, &talk.local_port, 4);
	}
	if (is_same(&holding->talk, &talk))
		return 1;
	now = bpf_ktime_get_boot_ns();
	event = begin(ASSOCIATED, &holding->owner, now, now);
	if (!event)
		return 1;
	fill_talk(event, &talk, bpf_get_netns_cookie(ctx), bpf_get_socket_cookie(ctx), 0);
	holding->talk = talk;
	submit(event);
	return 1;
}

/* Who sent frames of his own last, and to whom, by the address of his socket: sockets below the network
 * layer are not handed to us so that they could have storage. */
struct framer {
	struct actor actor;
	struct conversation talk;
	u64 epoch;
};

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, 1024);
	TYPE(key, u64);
	TYPE(value, struct framer);
} framers SECTION(".maps");

/* tp_btf/net_dev_queue(struct sk_buff *skb): frames of AF_PACKET sockets, which no cgroup program sees,
 * in the context of whoever sends them. */
SECTION("tp_btf/net_dev_queue")
int framing(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct sock *sk = skb->sk;
	struct framer *last, now_sends = {};
	u8 header[IPV6_HEADER] = {};
	struct event *event;
	u64 key = 0, now;
	u16 protocol;
	u8 *at;

	if (!sk || sk->__sk_common.skc_family != AF_PACKET)
		return 0;
	READ(key, skb->sk); /* the address as a mere number */
	protocol = swapped(skb->protocol);
	at = skb->head + skb->network_header;
	if (protocol == ETH_P_IP) {
		if (bpf_probe_read_kernel(header, IPV4_HEADER, at))
			return 0;
		read_ipv4(&now_sends.talk, header);
		at += (header[0] & 15) * 4;
	} else if (protocol == ETH_P_IPV6) {
		if (bpf_probe_read_kernel(header, IPV6_HEADER, at))
			return 0;
		read_ipv6(&now_sends.talk, header);
		at += IPV6_HEADER;
	} else {
		return 0;
	}
	if (has_ports(now_sends.talk.protocol))
		bpf_probe_read_kernel(&now_sends.talk.local_port, 4, at);
	fill_actor(&now_sends.actor);
	now_sends.epoch = epoch;
	last = bpf_map_lookup_elem(&framers, &key);
	if (last && last->epoch == epoch && last->actor.pid == now_sends.actor.pid &&
	    last->actor.start == now_sends.actor.start && is_same(&last->talk, &now_sends.talk))
		return 0;
	now = bpf_ktime_get_boot_ns();
	event = begin(ASSOCIATED, &now_sends.actor, now, now);
	if (!event)
		return 0;
	/* An address is given again, and several may send: each process' sending is a thing of its own. */
	fill_talk(event, &now_sends.talk, sk->__sk_common.skc_net.net->net_cookie,
		  key ^ (now_sends.actor.start << 16) ^ now_sends.actor.pid, FRAMES);
	submit(event);
	bpf_map_update_elem(&framers, &key, &now_sends, 0);
	return 0;
}

/* ---- the end ---- */

SECTION("cgroup/sock_release")
int released(struct bpf_sock *ctx)
{
	struct holding *holding = bpf_sk_storage_get(&holdings, ctx, NULL, 0);
	struct event *event;
	u64 now;

	if (!holding)
		return 1;
	now = bpf_ktime_get_boot_ns();
	if (ctx->protocol == IPPROTO_TCP) {
		/* Nobody read or wrote, but whoever closes it last held it. */
		if (!(holding->flags & ACCEPTED) || is_kernel_thread())
			return 1;
		fill_actor(&holding->owner);
		event = begin(ACTING, &holding->owner, now, now);
	} else {
		event = begin(CLOSED, NULL, now, now);
	}
	if (!event)
		return 1;
	event->cookie = bpf_get_socket_cookie(ctx);
	__builtin_memset(event->local, 0, sizeof(event->local));
	__builtin_memset(event->remote, 0, sizeof(event->remote));
	holding->flags &= ~ACCEPTED;
	submit(event);
	return 1;
}
