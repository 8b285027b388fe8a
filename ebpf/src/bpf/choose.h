// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Front -> cluster, by share -> backend, by share. */
#ifndef PORTOLAN_CHOOSE_H
#define PORTOLAN_CHOOSE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "address.h"
#include "maps.h"

#define NANOSECONDS 1000000000ULL
#define V4 0
#define ANY 1
/* Draws among clusters of which some are down, before all are gone through. */
#define TRIES 4

struct choice {
	struct destination to;
	__u64 draw; /* a random number, by which it is drawn */
	__u32 front;
	__u32 backend;
	__u8 verdict;
	__u8 asks; /* a UDP socket that is to send nothing */
};

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

/* Chooses a backend of a front: the verdict. `was`: where the socket's packets to this virtual IP went before, or port 0; they go on to
 * there, whatever became of the client's affinity. Not static: the verifier goes through it once then, and not for each state in which
 * it is called, which without PERFMON takes a minute. */
__noinline int choose(struct bpf_sock_addr *ctx, const struct front *front, struct choice *choice, __u8 family, const struct destination *was)
{
	if (!front || !choice || !was)
		return VERDICT_UNREACHABLE;
	/* Both are read: without the capability PERFMON, the verifier takes no pointer that depends on `family`. */
	__u64 v4 = *(volatile __u64 *)&front->heads[V4], any = *(volatile __u64 *)&front->heads[ANY];
	/* Where IPv6 has backends of its own, a client keeps one of each family. */
	struct affinity_key key = { .identity = front->identity ^ (family == ANY && v4 != any) };
	struct affinity *kept = 0;
	__u32 keeps = *(volatile __u32 *)&front->affinity;
	if (keeps) {
		key.client = bpf_get_netns_cookie(ctx);
		kept = bpf_map_lookup_elem(&affinities, &key);
	}
	if (was->port && go_back(front, choice, &was->address, was->port, family)) {
		if (kept && kept->port == was->port && same(&kept->address, &was->address))
			kept->seen = seconds();
		return VERDICT_REDIRECTED;
	}
	if (kept && come_back(front, choice, kept, family))
		return VERDICT_KEPT;
	__u64 head = family == V4 ? v4 : any;
	__u64 of = draw_cluster(head >> 32, (__u32)head, choice->draw);
	__u32 at = draw_backend(of, choice->draw >> 32);
	struct backend *backend = of ? bpf_map_lookup_elem(&backends, &at) : 0;
	if (!backend)
		return VERDICT_UNREACHABLE;
	go_to(choice, backend, at);
	if (keeps && !choice->asks) {
		struct affinity now = { .address = backend->address, .port = backend->port, .seen = seconds() };
		bpf_map_update_elem(&affinities, &key, &now, BPF_ANY);
	}
	return VERDICT_REDIRECTED;
}

#endif
