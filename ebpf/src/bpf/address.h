// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Destinations, as the maps have them and as a socket gives them. */
#ifndef PORTOLAN_ADDRESS_H
#define PORTOLAN_ADDRESS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

/* A destination, before and after. */
struct destination {
	struct address address;
	__u16 port;
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

#endif
