/* The kernel as these programs see it: the helpers they call, the contexts they are handed, and of
 * the kernel's own structures only the fields they read. Field offsets are relocated at load time
 * against the running kernel's BTF (CO-RE), so no vmlinux.h and no libbpf headers are needed.
 *
 * Numbers and layouts: include/uapi/linux/bpf.h. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NULL ((void *)0)

/* Maps in BTF form. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name

enum {
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum {
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_CLONE = 1 << 9,
};
enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };
enum { BPF_RB_NO_WAKEUP = 1 };

/* sock_ops: include/uapi/linux/bpf.h. */
enum {
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_TCP_LISTEN_CB = 11,
};

enum { AF_INET = 2, AF_INET6 = 10, AF_PACKET = 17 };
enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd };
enum { SOCK_STREAM = 1 };
enum {
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_DCCP = 33,
	IPPROTO_SCTP = 132,
	IPPROTO_UDPLITE = 136,
};
enum { TCP_CLOSE = 7 };

struct sock;
struct task_struct;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static long (*bpf_skb_load_bytes)(void *ctx, u32 offset, void *to, u32 size) = (void *)26;
static u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static struct bpf_sock *(*bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;
static long (*bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;
static void *(*bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static struct sock *(*bpf_skc_to_tcp_sock)(void *sk) = (void *)137;
static struct sock *(*bpf_skc_to_udp6_sock)(void *sk) = (void *)140;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;

/* Contexts. Their layout is fixed: no relocation. */

struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
	u32 mark;
	u32 priority;
	u32 src_ip4;
	u32 src_ip6[4];
	u32 src_port; /* host byte order */
	u16 dst_port; /* network byte order */
	u16 : 16;
	u32 dst_ip4;
	u32 dst_ip6[4];
	u32 state;
	s32 rx_queue_mapping;
};

struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family;
	u32 type;
	u32 protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
	union {
		struct bpf_sock *sk;
		u64 : 64;
	} __attribute__((aligned(8)));
};

struct bpf_sock_ops {
	u32 op;
	u32 args[4];
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 is_fullsock;
	u32 snd_cwnd;
	u32 srtt_us;
	u32 bpf_sock_ops_cb_flags;
	u32 state;
	u32 rtt_min;
	u32 snd_ssthresh;
	u32 rcv_nxt;
	u32 snd_nxt;
	u32 snd_una;
	u32 mss_cache;
	u32 ecn_flags;
	u32 rate_delivered;
	u32 rate_interval_us;
	u32 packets_out;
	u32 retrans_out;
	u32 total_retrans;
	u32 segs_in;
	u32 data_segs_in;
	u32 segs_out;
	u32 data_segs_out;
	u32 lost_out;
	u32 sacked_out;
	u32 sk_txhash;
	u64 bytes_received;
	u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		u64 : 64;
	} __attribute__((aligned(8)));
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	union {
		struct bpf_sock *sk;
		u64 : 64;
	} __attribute__((aligned(8)));
};

/* The kernel's own structures, relocated. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	u32 inum;
};

struct net {
	u64 net_cookie;
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

typedef struct {
	s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile u8 skc_state;
	u8 skc_reuse : 4;
	u8 skc_reuseport : 1;
	u8 skc_ipv6only : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	u8 sk_kern_sock : 1;
	u16 sk_protocol;
	u16 sk_type;
};

struct sk_buff {
	struct sock *sk;
	u8 *head;
	u16 network_header;
	u16 protocol; /* network byte order */
};

struct signal_struct {
	atomic_t live;
};

struct qstr {
	const u8 *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct super_block {
	u32 s_dev;
};

/* When a file was last changed has moved twice; what follows three underscores is no part of a
 * type's name to the kernel's BTF. */
struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
};

struct inode___before_6_11 {
	struct timespec64 __i_ctime;
};

struct inode___before_6_6 {
	struct timespec64 i_ctime;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

struct task_struct {
	u32 flags;
	s32 pid;
	s32 tgid;
	u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct signal_struct *signal;
	char comm[16];
};

struct linux_binprm;

#pragma clang attribute pop

/* Reads a field of a structure that the verifier does not vouch for. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)))

/* A one-bit field, found by its relocated offset and shifts. */
enum {
	FIELD_BYTE_OFFSET = 0,
	FIELD_EXISTS = 2,
	FIELD_LSHIFT_U64 = 4,
	FIELD_RSHIFT_U64 = 5,
};
#define BIT(record, field)                                                                        \
	({                                                                                        \
		u64 value = 0;                                                                    \
		u64 at = __builtin_preserve_field_info((record)->field, FIELD_BYTE_OFFSET);       \
		bpf_probe_read_kernel(&value, 1, (void *)(record) + at);                          \
		value <<= __builtin_preserve_field_info((record)->field, FIELD_LSHIFT_U64);       \
		value >>= __builtin_preserve_field_info((record)->field, FIELD_RSHIFT_U64);       \
		value != 0;                                                                       \
	})

/* Whether this kernel's structure has a field. */
#define HAS(type, field) __builtin_preserve_field_info(((type *)0)->field, FIELD_EXISTS)
