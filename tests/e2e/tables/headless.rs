//! Headless services: hostnames, families, readiness, dotted cluster ids.

use portolan_tests::harness::{Setup, check};

/// KEP-1645, DNS specification 2.4: `<hostname>.<clusterid>` of ready endpoints of every cluster. `ready`
/// unset is ready; serving while terminating is not (EndpointSlice API).
#[test]
fn statefulsets_of_two_clusters() {
    check(
        &Setup::sample("headless-statefulset").start(),
        "
? zk.data.svc A
 5 IN A 10.10.0.10
 5 IN A 10.10.1.10
 5 IN A 10.20.0.10
? zk-0.blue.zk.data.svc A
 5 IN A 10.10.0.10
? zk-0.green.zk.data.svc A
 5 IN A 10.20.0.10
? zk-1.green.zk.data.svc A
NXDOMAIN
? zk-0.zk.data.svc A
NXDOMAIN
? blue.zk.data.svc A
NODATA
? _client._tcp.zk.data.svc SRV
 5 IN SRV 0 33 2181 zk-0.blue.zk.data.svc
 5 IN SRV 0 33 2181 zk-1.blue.zk.data.svc
 5 IN SRV 0 33 2181 zk-0.green.zk.data.svc
+ zk-0.blue.zk.data.svc 5 IN A 10.10.0.10
+ zk-1.blue.zk.data.svc 5 IN A 10.10.1.10
+ zk-0.green.zk.data.svc 5 IN A 10.20.0.10
? _http._tcp.workers.data.svc SRV
 5 IN SRV 0 33 8080 10-10-0-21.blue.workers.data.svc
 5 IN SRV 0 33 8080 10-10-1-21.blue.workers.data.svc
 5 IN SRV 0 33 8081 10-20-0-21.green.workers.data.svc
+ 10-10-0-21.blue.workers.data.svc 5 IN A 10.10.0.21
+ 10-10-1-21.blue.workers.data.svc 5 IN A 10.10.1.21
+ 10-20-0-21.green.workers.data.svc 5 IN A 10.20.0.21
? leader.blue.leader.data.svc A
 5 IN A 10.10.0.31
 5 IN A 10.10.1.31
? _raft._tcp.leader.data.svc SRV
 5 IN SRV 0 50 7000 leader.blue.leader.data.svc
+ leader.blue.leader.data.svc 5 IN A 10.10.0.31
+ leader.blue.leader.data.svc 5 IN A 10.10.1.31
? portless.data.svc SRV
NODATA
? unnamed.data.svc SRV
 5 IN SRV 0 100 5000 unnamed-0.blue.unnamed.data.svc
+ unnamed-0.blue.unnamed.data.svc 5 IN A 10.10.0.51
? _tcp.unnamed.data.svc SRV
NXDOMAIN
? draining.data.svc A
 5 IN A 10.10.0.61
? draining-1.blue.draining.data.svc A
NXDOMAIN
? drained.data.svc A
NXDOMAIN
; EDE: 0
? bootstrap.data.svc A
 5 IN A 10.20.0.81
",
    );
}

/// KEP-1645, DNS specification 2.3 and 2.4: both families, the same pods in both.
#[test]
fn dual_stack() {
    check(
        &Setup::sample("dual-stack").start(),
        "
? front.web.svc A
 5 IN A 10.96.200.1
? front.web.svc AAAA
 5 IN AAAA fd96::1
? front6.web.svc A
NODATA
? front6.web.svc AAAA
 5 IN AAAA fd96::6
? peers.web.svc A
 5 IN A 10.41.0.20
 5 IN A 10.41.0.21
? peers.web.svc AAAA
 5 IN AAAA fd41::20
 5 IN AAAA fd41::21
 5 IN AAAA fd42::20
? peers-0.lisbon.peers.web.svc AAAA
 5 IN AAAA fd41::20
? peers-0.porto.peers.web.svc A
NODATA
? _http._tcp.peers.web.svc SRV
 5 IN SRV 0 20 8080 peers-0.lisbon.peers.web.svc
 5 IN SRV 0 20 8080 peers-1.lisbon.peers.web.svc
 5 IN SRV 0 20 8080 peers-0.porto.peers.web.svc
+ peers-0.lisbon.peers.web.svc 5 IN A 10.41.0.20
+ peers-0.lisbon.peers.web.svc 5 IN AAAA fd41::20
+ peers-1.lisbon.peers.web.svc 5 IN A 10.41.0.21
+ peers-1.lisbon.peers.web.svc 5 IN AAAA fd41::21
+ peers-0.porto.peers.web.svc 5 IN AAAA fd42::20
? only6.web.svc A
NODATA
? fd42-0-1--41.porto.only6.web.svc AAAA
 5 IN AAAA fd42:0:1::41
",
    );
}

/// KEP-1645, "Not allowing cluster-specific targeting": `clusterid` may be two labels; KEP-2149: an RFC 1123
/// subdomain.
#[test]
fn cluster_ids_with_dots() {
    check(
        &Setup::sample("dotted-cluster-ids").start(),
        "
? db.shop.svc A
 5 IN A 10.51.0.20
 5 IN A 10.52.0.20
 5 IN A 10.53.0.20
 5 IN A 10.53.0.21
? db-0.lon1.db.shop.svc A
 5 IN A 10.51.0.20
? db-0.fra1.registry-b.db.shop.svc A
 5 IN A 10.53.0.20
? 10-53-0-21.fra1.registry-b.db.shop.svc A
 5 IN A 10.53.0.21
? fra1.registry-b.db.shop.svc A
NODATA
? registry-b.db.shop.svc A
NODATA
? db-0.registry-b.db.shop.svc A
NXDOMAIN
? db-0.fra1.db.shop.svc A
NXDOMAIN
? lon1.registry-b.db.shop.svc A
NXDOMAIN
",
    );
}

/// KEP-1645, DNS specification 2.4: no ready endpoint, "the answer should be NXDOMAIN". A virtual IP stays
/// (2.3).
#[test]
fn no_ready_endpoints() {
    check(
        &Setup::sample("no-ready-endpoints").start(),
        "
? headless-starting.shop.svc A
NXDOMAIN
; EDE: 0 (Other): (no ready endpoints)
? headless-starting.shop.svc SRV
NXDOMAIN
? headless-scaled-to-zero.shop.svc A
NXDOMAIN
? headless-no-slices.shop.svc A
NXDOMAIN
? headless-one-cluster.shop.svc A
 5 IN A 10.62.0.31
? north.headless-one-cluster.shop.svc A
NXDOMAIN
? starting.shop.svc A
 5 IN A 10.96.61.1
? scaled-to-zero.shop.svc A
 5 IN A 10.96.61.2
? no-slices.shop.svc A
 5 IN A 10.96.61.3
? no-slices.shop.svc AAAA
NODATA
",
    );
}
