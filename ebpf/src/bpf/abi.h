/* What the programs and the agent share: the maps' keys and values. `abi.rs` has the same in Rust; a test compares both by
 * this object's BTF. A change of anything here needs another ABI_VERSION.
 *
 * Addresses are 16 octets, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2): an IPv6 socket that connects to a mapped address
 * meets the same keys. Ports are in network order. */
#ifndef PORTOLAN_ABI_H
#define PORTOLAN_ABI_H

#define ABI_VERSION 2

struct address {
	__u64 words[2]; /* as in memory: network order */
};

/* Values of `vips` and `ports` are check << 32 | number: the kernel may give an element to another key while a program looks at it,
 * and the check tells whose it is. It is the upper half of mix(first ^ mix(second)) of a key's two words; see maps.h. */

/* vips: whose address it is -> a service's number, for port_key alone. */
struct vip_key {
	struct address address;
};

/* ports: what a service has -> the number of a front. The key is one word; the second one is 0. */
struct port_key {
	__u32 service;
	__u16 port;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

/* fronts: one port of one service. Written once, before its number is in `ports`; but each word of `heads`, and `affinity`, is
 * replaced at once, as single words are. */
struct front {
	__u64 heads[2];    /* for sockets that reach IPv4 only, and for others; 0: no backend */
	__u64 identity;    /* of the service and port, the same for all generations of tables */
	__u32 affinity;    /* seconds that a client keeps its backend; 0: it does not */
	__u32 pad;
	__u64 unreachable; /* how often there was no backend */
};

/* A head says where in `slots` a front's clusters are: first << 32 | clusters. There are two words for each cluster:
 *   cluster << 48 | other << 32 | limit      which cluster; below `limit` it is this one, else that at position `other`
 *   first << 32 | count                      where in `slots` its backends are
 * and one for each backend:
 *   backend << 32 | other << 16 | limit      the same with 16 bits
 * These are alias tables (Walker): a draw is one number, whatever the shares. What a head points to never changes, but that where
 * there is no room for another spread a backend, and its cluster, may be replaced in its word; it is used again only when no
 * program can be reading it any more. */
#define MOST_CLUSTERS 256

/* backends: immutable while any slot names it. */
struct backend {
	struct address address;
	__u16 port;
	__u16 cluster;
	__u32 front;
	__u64 pad;
};

/* clusters: a word for each, 0 while it may be used. */

/* members: the backends that clients of a front with affinity, and packets of a UDP front's flows, may come back to -> the number
 * of a backend. */
struct member_key {
	struct address address;
	__u32 front;
	__u16 port;
	__u16 pad;
};

/* affinity: who was where. The client is a network namespace. */
struct affinity_key {
	__u64 client;
	__u64 identity; /* of the front; of IPv6 the last bit is another one, where that has backends of its own */
};

struct affinity {
	struct address address;
	__u32 seen; /* seconds of CLOCK_MONOTONIC */
	__u16 port;
	__u16 pad;
};

/* origins: what a TCP socket was told to connect to, and where it went; of a UDP socket, where its packets go, or what it is connected
 * to when `connected` had no room. Without a backend's port: it has flows. */
struct origin {
	struct address vip;
	struct address backend;
	__u16 vip_port;
	__u16 backend_port;
	__u32 pad;
};

/* connected: UDP sockets that were redirected when they connected, by their cookies -> struct origin. They are there until they are
 * closed or connect elsewhere: the agent looks there for those whose backend is gone. Those that found no room are counted. */

/* flows: where a UDP socket's packets come from -> what its program knows. */
struct flow_key {
	__u64 cookie;
	struct address backend;
	__u16 port;
	__u16 pad[3];
};

struct flow {
	struct address vip;
	__u16 port;
	__u16 pad[3];
};

/* settings: words. */
#define SETTING_SAMPLE 0 /* one decision of so many is told in `events`; 0: none */
#define SETTINGS 1

/* counts: words that programs add to. */
#define COUNT_UNNOTED 0 /* connected UDP sockets that found no room in `connected` */
#define COUNTS 1

#define VERDICT_REDIRECTED 0
#define VERDICT_KEPT 1        /* where affinity had it */
#define VERDICT_UNREACHABLE 2 /* no backend: EHOSTUNREACH */
#define VERDICT_NO_PORT 3     /* the service has no such port: ECONNREFUSED */
#define VERDICT_FAMILY 4      /* only IPv4 backends, and an unconnected IPv6 socket: EAFNOSUPPORT */

#define VERDICT_ASKS 5        /* a UDP socket connects to a port that has neither protocol: let through */

/* events: a decision. */
struct event {
	__u64 time; /* nanoseconds of CLOCK_MONOTONIC */
	struct address vip;
	struct address backend; /* 0 without one */
	__u32 pid;
	__u16 vip_port;
	__u16 backend_port;
	__u8 protocol;
	__u8 verdict;
	__u8 connected; /* 0: a packet of an unconnected socket */
	__u8 pad;
	char command[16];
	__u32 front;
};

#endif
