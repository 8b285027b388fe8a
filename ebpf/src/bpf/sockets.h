// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Which socket was sent where: what programs note, and the agent reads. */
#ifndef PORTOLAN_SOCKETS_H
#define PORTOLAN_SOCKETS_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "address.h"
#include "maps.h"

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

/* Where a UDP socket is connected to, by a virtual IP. */
static __always_inline struct origin *connection(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_UDP)
		return 0;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	return bpf_map_lookup_elem(&connected, &cookie);
}

/* A UDP socket that connects is noted by its cookie, for nothing but the agent tells it that its backend is gone. Whether there was room. */
static __always_inline int note(struct bpf_sock_addr *ctx, const struct origin *origin)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	if (!bpf_map_update_elem(&connected, &cookie, origin, BPF_ANY))
		return 1;
	__u32 at = COUNT_UNNOTED;
	__u64 *unnoted = bpf_map_lookup_elem(&counts, &at);
	if (unnoted)
		__sync_fetch_and_add(unnoted, 1);
	return 0;
}

/* A socket connects to what is no virtual IP, perhaps the very backend that it was sent to before: then it is shown as what it is. */
static __always_inline void forget(struct bpf_sock_addr *ctx, const struct destination *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	if (origin && origin->backend_port == to->port && same(&origin->backend, &to->address))
		origin->backend_port = 0;
	if (ctx->protocol != IPPROTO_UDP || (!origin && !connection(ctx)))
		return;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	bpf_map_delete_elem(&connected, &cookie);
	struct flow_key key = { .cookie = cookie, .backend = to->address, .port = to->port };
	bpf_map_delete_elem(&flows, &key);
}

/* Where packets to this virtual IP went, if the last ones were to it. */
static __always_inline int went(const struct origin *origin, const struct destination *vip, struct destination *was)
{
	if (!origin || !origin->backend_port || origin->vip_port != vip->port || !same(&origin->vip, &vip->address))
		return 0;
	was->address = origin->backend;
	was->port = origin->backend_port;
	return 1;
}

/* The same of a UDP socket, whatever it did last. Who connects clears where packets went before: what is there is newer. */
static __always_inline void went_before(struct bpf_sock_addr *ctx, const struct destination *vip, struct destination *was)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	if (!went(origin, vip, was))
		went(connection(ctx), vip, was);
}

/* Makes of a backend the virtual IP by which it was reached, if it was. */
static __always_inline int shown_as(const struct origin *origin, struct destination *peer)
{
	if (!origin || origin->backend_port != peer->port || !same(&origin->backend, &peer->address))
		return 0;
	peer->address = origin->vip;
	peer->port = origin->vip_port;
	return 1;
}

#endif
