/* An event: what a program tells, in the layout that record.rs reads. Events go through one ring
 * buffer, in the order in which room for them was reserved. What finds no room is counted, with the
 * first and the last moment, so that the reader can say what it does not know. */
#pragma once
#include "kernel.h"

enum kind {
	CONNECTING = 0, /* TCP, before the SYN leaves */
	ACCEPTING,	/* TCP, the handshake is done; nobody holds it yet */
	LISTENING,	/* TCP */
	BOUND,		/* datagrams, no peer */
	ASSOCIATED,	/* datagrams, with a peer */
	ACTING,		/* a process that was not known to hold the socket used it */
	CLOSED,
	FORKED,
	EXECUTED,
	EXITED,
	KINDS,
};

/* Bits of `flags`. */
enum {
	HAS_OWNER = 1,	/* `actor` holds the socket */
	V6_ONLY = 2,	/* takes no IPv4 */
	HAS_TUPLE = 4,	/* namespace, protocol and endpoints are filled in */
	TRUNCATED = 8,	/* a path was longer than what is told of it */
	RAW = 16,	/* one of many conversations of a raw socket */
	FRAMES = 64,	/* of a socket below the network layer, which nobody tells the end of */
	KERNEL = 32,	/* the kernel made the socket for itself */
};

struct actor {
	u64 start;  /* boot-time clock */
	u64 cgroup; /* inode of its cgroup2 directory */
	u32 pid;    /* thread group, initial pid namespace */
	u32 uid;    /* real */
	char comm[16];
};

struct event {
	u8 kind;
	u8 flags;
	u8 protocol;
	u8 family;
	u16 local_port; /* host byte order */
	u16 remote_port;
	u64 time; /* boot-time clock */
	struct actor actor;
	u64 cookie;
	u64 namespace;
	u8 local[16]; /* IPv4 in the first four */
	u8 remote[16];
};

/* FORKED: `actor` is the child, `cookie` its parent's start and `namespace` its parent's pid. */

enum { PATH = 1024, NAME = 256, COMPONENTS = 32, ARGUMENTS = 4096 };

/* EXECUTED: an event, which file the executable is, its path from the last component to the root, each
 * ended by a zero byte; then the arguments, each ended by a zero byte. */
struct execution {
	struct event event;
	u32 path_length;
	u32 arguments_length;
	u64 inode;
	s64 changed; /* seconds and, below, nanoseconds: ctime */
	u32 changed_nanoseconds;
	u32 device; /* minor number in the lower 20 bits, as the kernel has it */
	char path[PATH + NAME];
};

struct execution_with_arguments {
	struct execution execution;
	char arguments[ARGUMENTS];
};

struct {
	UINT(type, BPF_MAP_TYPE_RINGBUF);
	UINT(max_entries, 1 << 25);
} ring SECTION(".maps");

/* Of each kind of event: how many were to be told, how many of them found no room. In one piece, so
 * that reading them all is one system call. */
struct count {
	u64 attempted;
	u64 lost;
	u64 first_lost; /* in this epoch */
	u64 epoch;
};

struct count_of_all {
	struct count kinds[KINDS];
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct count_of_all);
} counts SECTION(".maps");

/* Counted up by the reader when events got lost: everything is to be told again. */
volatile u32 epoch = 0;

/* Room for an event of one kind, or NULL and a count. */
INLINE void *reserve(u32 kind, u64 size, u64 now)
{
	u32 all = 0;
	struct count_of_all *counted = bpf_map_lookup_elem(&counts, &all);
	void *room = bpf_ringbuf_reserve(&ring, size, 0);

	if (counted && kind < KINDS) {
		struct count *count = &counted->kinds[kind];

		/* An interrupt may count between reading and writing. */
		__sync_fetch_and_add(&count->attempted, 1);
		if (!room) {
			if (!count->first_lost || count->epoch != epoch)
				count->first_lost = now;
			count->epoch = epoch;
			__sync_fetch_and_add(&count->lost, 1);
		}
	}
	return room;
}

/* The reader looks every few milliseconds by itself: waking it for every event would cost each
 * connection 13 us more. */
INLINE void submit(void *event)
{
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}
