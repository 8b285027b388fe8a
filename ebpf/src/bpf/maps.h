// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* What is set when the object is loaded, the maps, and how single words of these are read. See abi.h for keys and values. */
#ifndef PORTOLAN_MAPS_H
#define PORTOLAN_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

/* Set when the object is loaded. */
const volatile __u32 counter_mask = 0;   /* stripes of a counter, less one: a power of two */
const volatile __u8 has_set_retval = 1;  /* Linux 6.1, for sockets' addresses */
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

#endif
