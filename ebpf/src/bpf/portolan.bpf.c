// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The socket hook: connections to a service's virtual IP go to one of its backends, chosen as DNS chooses.
 *
 *   address -> service -> port -> front -> cluster, by share -> backend, by share
 *
 * Programs of cgroups: `connect` and `sendmsg` choose and rewrite the destination, `recvmsg` and `getpeername` show the virtual
 * IP again. They keep nothing of their own but who was sent where. See abi.h for the maps. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define ALLOW 1
#define REFUSE 0
#define NANOSECONDS 1000000000ULL
#define V4 0
#define ANY 1
/* Draws among clusters of which some are down, before all are gone through. */
#define TRIES 4

/* Set when the object is loaded. */
const volatile __u32 counter_mask = 0;   /* stripes of a counter, less one: a power of two */
const volatile __u8 has_set_retval = 1;  /* Linux 5.18 */
const volatile __u8 has_task_helpers = 1; /* who calls, Linux 6.10 */

#define TABLE(name, kind, key_type, value_type, more_flags) \
	struct { \
		__uint(type, kind); \
		__type(key, key_type); \
		__type(value, value_type); \
		__uint(max_entries, 1); \
		__uint(map_flags, more_flags); \
	} name SEC(".maps")

/* Arrays are written through memory, without system calls. */
TABLE(vips, BPF_MAP_TYPE_HASH, struct vip_key, __u64, BPF_F_NO_PREALLOC);
TABLE(ports, BPF_MAP_TYPE_HASH, struct port_key, __u64, BPF_F_NO_PREALLOC);
TABLE(members, BPF_MAP_TYPE_HASH, struct member_key, __u32, BPF_F_NO_PREALLOC);
TABLE(fronts, BPF_MAP_TYPE_ARRAY, __u32, struct front, BPF_F_MMAPABLE);
TABLE(slots, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);
TABLE(backends, BPF_MAP_TYPE_ARRAY, __u32, struct backend, BPF_F_MMAPABLE);
TABLE(clusters, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);
TABLE(hits, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);
TABLE(settings, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);
TABLE(counts, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);

/* What sessions need outlives the tables. */
TABLE(affinities, BPF_MAP_TYPE_LRU_HASH, struct affinity_key, struct affinity, 0);
TABLE(flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 0);
TABLE(connected, BPF_MAP_TYPE_HASH, __u64, struct origin, 0);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
} origins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* The ring has no type of its records: by this the object's BTF describes them, for the test that compares abi.rs with it. */
const struct event *const event_record __attribute__((used)) = 0;

/* Never read by a program: a change of it makes the kernel wait for those that run. */
struct barrier_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct barrier_inner);
} barrier SEC(".maps");

/* A destination, before and after. */
struct destination {
	struct address address;
	__u16 port;
};

struct choice {
	struct destination to;
	__u32 front;
	__u32 backend;
	__u8 verdict;
	__u8 asks; /* a UDP socket that is to send nothing */
};

static __always_inline struct address mapped(__u32 v4)
{
	struct address address = { .words = { 0, (__u64)v4 << 32 | bpf_htonl(0xffff) } };
	return address;
}

static __always_inline int is_mapped(const struct address *address)
{
	return address->words[0] == 0 && (__u32)address->words[1] == bpf_htonl(0xffff);
}

static __always_inline int same(const struct address *a, const struct address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1];
}

/* Two independent 32-bit numbers out of 64 bits (SplitMix64's finalizer). */
static __always_inline __u64 mix(__u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* The number that a map has for a key, or -1. What was another key's in the meantime is looked up once more. */
static __always_inline __s64 number_of(void *map, const void *key, __u64 first, __u64 second)
{
	__u32 check = mix(first ^ mix(second)) >> 32;
	for (int i = 0; i < 2; i++) {
		__u64 *found = bpf_map_lookup_elem(map, key);
		if (!found)
			return -1;
		__u64 value = *(volatile __u64 *)found;
		if (value >> 32 == check)
			return (__u32)value;
	}
	return -1;
}

static __always_inline __u64 *slot(__u32 at)
{
	return bpf_map_lookup_elem(&slots, &at);
}

static __always_inline int is_up(__u32 cluster)
{
	__u64 *down = bpf_map_lookup_elem(&clusters, &cluster);
	return down && !*(volatile __u64 *)down;
}

/* The second word of a cluster that is up, drawn by share; 0: none is. A cluster is marked as down the moment that it is known;
 * then its services are written anew, one by one. */
static __always_inline __u64 draw_cluster(__u32 first, __u32 count, __u64 number)
{
	/* The slots there are another front's. */
	if (!count)
		return 0;
	for (int i = 0; i < TRIES; i++) {
		__u64 spread = (number & 0xffffffff) * count;
		__u32 at = spread >> 32;
		__u64 *word = slot(first + 2 * at);
		if (!word)
			return 0;
		if ((__u32)spread >= (__u32)*word) {
			at = *word >> 32 & 0xffff;
			word = slot(first + 2 * at);
			if (!word)
				return 0;
		}
		if (is_up(*word >> 48)) {
			word = slot(first + 2 * at + 1);
			return word ? *word : 0;
		}
		number = mix(number + i + 1);
	}
	for (__u32 at = 0; at < MOST_CLUSTERS && at < count; at++) {
		__u64 *word = slot(first + 2 * at);
		if (word && is_up(*word >> 48)) {
			word = slot(first + 2 * at + 1);
			return word ? *word : 0;
		}
	}
	return 0;
}

/* A backend's number, drawn by share. */
static __always_inline __u32 draw_backend(__u64 of, __u32 number)
{
	__u32 first = of >> 32, count = of;
	__u64 spread = (__u64)number * count;
	__u64 *word = slot(first + (__u32)(spread >> 32));
	if (!word)
		return 0;
	if ((__u32)spread >> 16 >= (*word & 0xffff)) {
		word = slot(first + (*word >> 16 & 0xffff));
		if (!word)
			return 0;
	}
	return *word >> 32;
}

static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_ns() / NANOSECONDS;
}

static __always_inline void go_to(struct choice *choice, const struct backend *backend, __u32 number)
{
	choice->to.address = backend->address;
	choice->to.port = backend->port;
	choice->backend = number;
}

/* Goes to this backend, if the front has it still. What is looked up may be another's by now: it is compared. An IPv6 address has
 * backends of its own, unless all are IPv4's. */
static __always_inline int go_back(const struct front *front, struct choice *choice, const struct address *address, __u16 port, __u8 family)
{
	struct member_key key = { .address = *address, .front = choice->front, .port = port };
	__u32 *number = bpf_map_lookup_elem(&members, &key);
	__u32 at = number ? *(volatile __u32 *)number : 0;
	struct backend *backend = number ? bpf_map_lookup_elem(&backends, &at) : 0;
	if (!backend || backend->front != choice->front || backend->port != port || !same(&backend->address, address))
		return 0;
	__u64 v4 = *(volatile __u64 *)&front->heads[V4], any = *(volatile __u64 *)&front->heads[ANY];
	if (is_mapped(address) ? family == ANY && v4 != any : family == V4)
		return 0;
	if (!is_up(backend->cluster))
		return 0;
	go_to(choice, backend, at);
	return 1;
}

/* Where the client was lately, if that is a backend still. `kept`: what is known of it. */
static __always_inline int come_back(const struct front *front, struct choice *choice, struct affinity *kept, __u8 family)
{
	__u32 now = seconds();
	struct address address = kept->address;
	if (now - kept->seen > front->affinity || !go_back(front, choice, &address, kept->port, family))
		return 0;
	if (!choice->asks)
		kept->seen = now;
	return 1;
}

/* Chooses a backend of a front. `was`: where the socket's packets to this virtual IP went before. */
static __always_inline void choose(struct bpf_sock_addr *ctx, const struct front *front, struct choice *choice, __u8 family, const struct origin *was)
{
	struct affinity_key key = { .identity = front->identity };
	__u32 keeps = *(volatile __u32 *)&front->affinity;
	if (keeps) {
		key.client = bpf_get_netns_cookie(ctx);
		struct affinity *kept = bpf_map_lookup_elem(&affinities, &key);
		if (kept && come_back(front, choice, kept, family)) {
			choice->verdict = VERDICT_KEPT;
			return;
		}
	} else if (was) {
		struct address address = was->backend;
		if (go_back(front, choice, &address, was->backend_port, family))
			return;
	}
	/* Both are read: without the capability PERFMON, the verifier takes no pointer that depends on `family`. */
	__u64 v4 = *(volatile __u64 *)&front->heads[V4], any = *(volatile __u64 *)&front->heads[ANY];
	__u64 head = family == V4 ? v4 : any;
	__u64 number = mix((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32());
	__u64 of = draw_cluster(head >> 32, (__u32)head, number);
	__u32 at = draw_backend(of, number >> 32);
	struct backend *backend = of ? bpf_map_lookup_elem(&backends, &at) : 0;
	if (!backend) {
		choice->verdict = VERDICT_UNREACHABLE;
		return;
	}
	go_to(choice, backend, at);
	choice->verdict = VERDICT_REDIRECTED;
	if (keeps && !choice->asks) {
		struct affinity now = { .address = backend->address, .port = backend->port, .seen = seconds() };
		bpf_map_update_elem(&affinities, &key, &now, BPF_ANY);
	}
}

/* Each processor has a counter of its own, as far as there are stripes. */
static __always_inline void count(__u32 backend)
{
	__u32 at = backend * (counter_mask + 1) + (bpf_get_smp_processor_id() & counter_mask);
	__u64 *hit = bpf_map_lookup_elem(&hits, &at);
	if (hit)
		__sync_fetch_and_add(hit, 1);
}

static __noinline void tell(struct bpf_sock_addr *ctx, const struct destination *vip, const struct choice *choice, __u32 connected)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->vip = vip->address;
	event->vip_port = vip->port;
	event->backend = choice->to.address;
	event->backend_port = choice->to.port;
	event->protocol = ctx->protocol;
	event->verdict = choice->verdict;
	event->connected = connected;
	event->front = choice->front;
	if (has_task_helpers) {
		event->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(event->command, sizeof(event->command));
	}
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void sample(struct bpf_sock_addr *ctx, const struct destination *vip, const struct choice *choice, __u32 connected)
{
	__u32 at = SETTING_SAMPLE;
	__u64 *one_of = bpf_map_lookup_elem(&settings, &at);
	if (one_of && *one_of && bpf_get_prandom_u32() % (__u32)*one_of == 0)
		tell(ctx, vip, choice, connected);
}

static __always_inline int refuse(int error)
{
	if (has_set_retval)
		bpf_set_retval(-error);
	return REFUSE;
}

/* Chooses where to go instead of to `vip`. Whether that is elsewhere: else `*answer` is what the hook answers. */
static __always_inline int redirect(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice, const struct origin *was, int connected, int *answer)
{
	struct vip_key key = { .address = vip->address };
	__s64 service = number_of(&vips, &key, key.address.words[0], key.address.words[1]);
	*answer = ALLOW;
	if (service < 0)
		return 0;
	struct port_key port = { .service = service, .port = vip->port, .protocol = ctx->protocol };
	__u64 word;
	__builtin_memcpy(&word, &port, sizeof(word));
	__s64 found = number_of(&ports, &port, word, 0);
	__builtin_memset(choice, 0, sizeof(*choice));
	if (found < 0 && connected && ctx->protocol == IPPROTO_UDP) {
		/* Nothing is sent by that: resolvers ask so by which address of theirs a TCP service is reached (RFC 6724), at its port or
		 * any (0, 9 and 65535 in glibc, Go and musl), and leave out an address that is refused. They get the answer for its
		 * backends, or for the virtual IP; nothing is remembered of them. */
		choice->asks = 1;
		port.protocol = IPPROTO_TCP;
		__builtin_memcpy(&word, &port, sizeof(word));
		found = number_of(&ports, &port, word, 0);
		if (found < 0) {
			choice->verdict = VERDICT_ASKS;
			sample(ctx, vip, choice, connected);
			return 0;
		}
	}
	__u32 number = found;
	struct front *front = found < 0 ? 0 : bpf_map_lookup_elem(&fronts, &number);
	if (!front) {
		choice->verdict = VERDICT_NO_PORT;
		sample(ctx, vip, choice, connected);
		*answer = refuse(ECONNREFUSED);
		return 0;
	}
	choice->front = number;
	__u8 family = ctx->family == 2 /* AF_INET */ || is_mapped(&vip->address) ? V4 : ANY;
	choose(ctx, front, choice, family, was);
	/* The kernel takes no IPv4 destination for one packet of an IPv6 socket. */
	if (!connected && family == ANY && choice->verdict != VERDICT_UNREACHABLE && is_mapped(&choice->to.address))
		choice->verdict = VERDICT_FAMILY;
	sample(ctx, vip, choice, connected);
	if (choice->verdict == VERDICT_UNREACHABLE || choice->verdict == VERDICT_FAMILY) {
		if (!choice->asks)
			__sync_fetch_and_add(&front->unreachable, 1);
		*answer = refuse(choice->verdict == VERDICT_FAMILY ? EAFNOSUPPORT : EHOSTUNREACH);
		return 0;
	}
	return 1;
}

/* Whether it is a new one. */
static __always_inline int remember_flow(struct bpf_sock_addr *ctx, const struct origin *origin)
{
	struct flow_key key = { .cookie = bpf_get_socket_cookie(ctx), .backend = origin->backend, .port = origin->backend_port };
	struct flow *known = bpf_map_lookup_elem(&flows, &key);
	if (known && known->port == origin->vip_port && same(&known->vip, &origin->vip))
		return 0;
	struct flow flow = { .vip = origin->vip, .port = origin->vip_port };
	bpf_map_update_elem(&flows, &key, &flow, BPF_ANY);
	return 1;
}

/* A UDP socket that connected is noted, for nothing but the agent tells it that its backend is gone. What finds no room is counted. */
static __always_inline void note(struct bpf_sock_addr *ctx, const struct origin *origin)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	if (bpf_map_update_elem(&connected, &cookie, origin, BPF_ANY)) {
		__u32 at = COUNT_UNNOTED;
		__u64 *unnoted = bpf_map_lookup_elem(&counts, &at);
		if (unnoted)
			__sync_fetch_and_add(unnoted, 1);
	}
}

/* A socket connects to what is no virtual IP, perhaps the very backend that it was sent to before: then it is shown as what it is. */
static __always_inline void forget(struct bpf_sock_addr *ctx, const struct destination *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	if (!origin)
		return;
	if (origin->backend_port == to->port && same(&origin->backend, &to->address))
		origin->backend_port = 0;
	if (ctx->protocol != IPPROTO_UDP)
		return;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	bpf_map_delete_elem(&connected, &cookie);
	struct flow_key key = { .cookie = cookie, .backend = to->address, .port = to->port };
	bpf_map_delete_elem(&flows, &key);
}

/* A socket connects. */
static __always_inline int connect(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice)
{
	int answer;
	if (!redirect(ctx, vip, choice, 0, 1, &answer)) {
		if (answer == ALLOW)
			forget(ctx, vip);
		return answer;
	}
	if (!choice->asks)
		count(choice->backend);
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (origin) {
		origin->vip = vip->address;
		origin->vip_port = vip->port;
		origin->backend = choice->to.address;
		origin->backend_port = choice->to.port;
		if (ctx->protocol == IPPROTO_UDP && !choice->asks)
			note(ctx, origin);
	}
	return -1;
}

/* A UDP socket sends a packet to an address: where its packets to that went before, also when it is connected, for only that peer's
 * answers reach it then. A flow is counted when it begins. */
static __always_inline int send(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice)
{
	int answer;
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	int again = origin && origin->backend_port && origin->vip_port == vip->port && same(&origin->vip, &vip->address);
	if (!redirect(ctx, vip, choice, again ? origin : 0, 0, &answer))
		return answer;
	if (again && origin->backend_port == choice->to.port && same(&origin->backend, &choice->to.address))
		return -1;
	if (!origin && sk)
		origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return -1;
	/* Where it is connected to, perhaps: that is no flow yet, and it stays there. */
	if (origin->backend_port)
		remember_flow(ctx, origin);
	origin->vip = vip->address;
	origin->vip_port = vip->port;
	origin->backend = choice->to.address;
	origin->backend_port = choice->to.port;
	if (remember_flow(ctx, origin))
		count(choice->backend);
	return -1;
}

/* What the program knows the peer as; whether it is another address. */
static __always_inline int restore(struct bpf_sock_addr *ctx, struct destination *peer)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	if (!origin)
		return 0;
	if (origin->backend_port == peer->port && same(&origin->backend, &peer->address)) {
		peer->address = origin->vip;
		peer->port = origin->vip_port;
		return 1;
	}
	if (ctx->protocol != IPPROTO_UDP)
		return 0;
	struct flow_key key = { .cookie = bpf_get_socket_cookie(ctx), .backend = peer->address, .port = peer->port };
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return 0;
	peer->address = flow->vip;
	peer->port = flow->port;
	return 1;
}

static __always_inline struct destination destination4(struct bpf_sock_addr *ctx)
{
	struct destination to = { .address = mapped(ctx->user_ip4), .port = ctx->user_port };
	return to;
}

static __always_inline void write4(struct bpf_sock_addr *ctx, const struct destination *to)
{
	ctx->user_ip4 = to->address.words[1] >> 32;
	ctx->user_port = to->port;
}

static __always_inline struct destination destination6(struct bpf_sock_addr *ctx)
{
	struct destination to = { .port = ctx->user_port };
	to.address.words[0] = (__u64)ctx->user_ip6[1] << 32 | ctx->user_ip6[0];
	to.address.words[1] = (__u64)ctx->user_ip6[3] << 32 | ctx->user_ip6[2];
	return to;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct destination *to)
{
	ctx->user_ip6[0] = to->address.words[0];
	ctx->user_ip6[1] = to->address.words[0] >> 32;
	ctx->user_ip6[2] = to->address.words[1];
	ctx->user_ip6[3] = to->address.words[1] >> 32;
	ctx->user_port = to->port;
}

#define OUTGOING(hook, family) \
	SEC("cgroup/" #hook #family) \
	int portolan_##hook##family(struct bpf_sock_addr *ctx) \
	{ \
		struct destination vip = destination##family(ctx); \
		struct choice choice; \
		int answer = hook(ctx, &vip, &choice); \
		if (answer >= 0) \
			return answer; \
		write##family(ctx, &choice.to); \
		return ALLOW; \
	}

#define INCOMING(hook, family) \
	SEC("cgroup/" #hook #family) \
	int portolan_##hook##family(struct bpf_sock_addr *ctx) \
	{ \
		struct destination peer = destination##family(ctx); \
		if (restore(ctx, &peer)) \
			write##family(ctx, &peer); \
		return ALLOW; \
	}

#define sendmsg send

OUTGOING(connect, 4)
OUTGOING(connect, 6)
OUTGOING(sendmsg, 4)
OUTGOING(sendmsg, 6)
INCOMING(recvmsg, 4)
INCOMING(recvmsg, 6)
INCOMING(getpeername, 4)
INCOMING(getpeername, 6)

/* A socket is closed. */
SEC("cgroup/sock_release")
int portolan_sock_release(struct bpf_sock *sk)
{
	if (sk->protocol == IPPROTO_UDP) {
		__u64 cookie = bpf_get_socket_cookie(sk);
		bpf_map_delete_elem(&connected, &cookie);
	}
	return ALLOW;
}

char _license[] SEC("license") = "Dual MIT/GPL";
