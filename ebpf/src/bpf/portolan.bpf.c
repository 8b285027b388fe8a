// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The socket hook: connections to a service's virtual IP go to one of its backends, chosen as DNS chooses.
 *
 *   address -> service -> port -> front -> cluster, by share -> backend, by share
 *
 * Programs of cgroups: `connect` and `sendmsg` choose and rewrite the destination, `recvmsg` and `getpeername` show the virtual
 * IP again. They keep nothing of their own but who was sent where. choose.h draws, sockets.h is that memory; see maps.h for the
 * maps and abi.h for what is in them. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "address.h"
#include "choose.h"
#include "maps.h"
#include "sockets.h"

#define ALLOW 1
#define REFUSE 0

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

/* A random number for a draw. Packets of a socket to one virtual IP have the same: it may send to several in turn, and only where it
 * sent last is remembered. */
static __always_inline __u64 number_for(struct bpf_sock_addr *ctx, const struct destination *vip, int connected)
{
	if (connected)
		return mix((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32());
	return mix(bpf_get_socket_cookie(ctx) ^ mix(vip->address.words[0] ^ mix(vip->address.words[1] ^ mix(vip->port))));
}

/* Chooses where to go instead of to `vip`. Whether that is elsewhere: else `*answer` is what the hook answers. `was` is set to where
 * packets to it went before. */
static __always_inline int redirect(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice, struct destination *was, int connected, int *answer)
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
	choice->draw = number_for(ctx, vip, connected);
	if (!connected)
		went_before(ctx, vip, was);
	__u8 family = ctx->family == 2 /* AF_INET */ || is_mapped(&vip->address) ? V4 : ANY;
	choice->verdict = choose(ctx, front, choice, family, was);
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

/* A socket connects. */
static __always_inline int connect(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice)
{
	int answer;
	struct destination was = {};
	if (!redirect(ctx, vip, choice, &was, 1, &answer)) {
		if (answer == ALLOW)
			forget(ctx, vip);
		return answer;
	}
	struct origin to = {
		.vip = vip->address,
		.vip_port = vip->port,
		.backend = choice->to.address,
		.backend_port = choice->to.port,
	};
	int noted = 0;
	if (!choice->asks) {
		count(choice->backend);
		noted = ctx->protocol == IPPROTO_UDP && note(ctx, &to);
	} else {
		__u64 cookie = bpf_get_socket_cookie(ctx);
		bpf_map_delete_elem(&connected, &cookie);
	}
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, noted ? 0 : BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (origin && noted)
		origin->backend_port = 0;
	else if (origin)
		*origin = to;
	return -1;
}

/* A UDP socket sends a packet to an address: where its packets to that went before, also when it is connected, for only that peer's
 * answers reach it then. A flow is counted when it begins. */
static __always_inline int send(struct bpf_sock_addr *ctx, const struct destination *vip, struct choice *choice)
{
	int answer;
	struct destination was = {};
	if (!redirect(ctx, vip, choice, &was, 0, &answer))
		return answer;
	if (was.port == choice->to.port && same(&was.address, &choice->to.address))
		return -1;
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
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
	if (shown_as(origin, peer) || shown_as(connection(ctx), peer))
		return 1;
	if (!origin || ctx->protocol != IPPROTO_UDP)
		return 0;
	struct flow_key key = { .cookie = bpf_get_socket_cookie(ctx), .backend = peer->address, .port = peer->port };
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return 0;
	peer->address = flow->vip;
	peer->port = flow->port;
	return 1;
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
