//! What the server remembers on disk: which service has which virtual IP.

use std::collections::BTreeMap;

use portolan_tests::harness::{Server, Setup, cluster_set_ip, eventually, list};

/// So few addresses for so many services that who has which depends on who came first.
const POOL: &str = "clusters: [{name: a, manifests: clusters/a}]
vips: {pool: {ipv4: 241.0.0.0/27, ipv6: ''}}";

fn services(names: std::ops::Range<u32>) -> String {
    list(names.flat_map(|name| cluster_set_ip(&format!("s{name}"))))
}

fn addresses(server: &Server, names: std::ops::Range<u32>) -> BTreeMap<u32, Vec<String>> {
    names.map(|name| (name, server.dig(&format!("s{name}.shop.svc.clusterset.local A")).data())).collect()
}

/// A virtual IP is a promise: clients hold it while the server restarts, whatever came and went meanwhile.
#[test]
fn a_restart_keeps_virtual_ips() {
    let server = Setup::new(POOL).file("clusters/a/s.json", services(0..16)).start();
    eventually("all services have addresses", || {
        addresses(&server, 0..16).values().all(|data| data.len() == 1)
    });
    let before = addresses(&server, 8..16);
    eventually("they are remembered", || {
        std::fs::read_to_string(server.path("vips.json"))
            .is_ok_and(|text| (8..16).all(|s| text.contains(&format!("s{s}"))))
    });
    // The ones that were first are gone, and others come.
    server.write("clusters/a/s.json", services(8..20));
    let server = server.restart();
    eventually("all services have addresses", || {
        addresses(&server, 8..20).values().all(|data| data.len() == 1)
    });
    assert_eq!(addresses(&server, 8..16), before);
    let all = addresses(&server, 8..20);
    let distinct: std::collections::BTreeSet<_> = all.values().collect();
    assert_eq!(distinct.len(), all.len(), "no address twice: {all:?}");
}

/// systemd.exec(5): a service of a dynamic user may write its StateDirectory=, which it is told as $STATE_DIRECTORY,
/// and not the folder of its configuration.
#[test]
fn virtual_ips_are_remembered_in_the_state_directory() {
    let setup = Setup::new(POOL).file("clusters/a/s.json", services(0..1)).file("state/empty", "");
    let told = format!("STATE_DIRECTORY={}", setup.path("state").display());
    let server = setup.under(&["env", &told]).start();
    eventually("they are remembered there", || server.path("state/vips.json").exists());
    assert!(!server.path("vips.json").exists());
}

/// A disk that is full when the state is written: served all the same, and told; what was there stays whole.
#[test]
fn a_full_disk_does_not_stop_serving() {
    // No file may grow beyond 32 KiB, and a write that would fails instead of killing.
    let full = ["bash", "-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "bash"];
    let server = Setup::new("clusters: [{name: a, manifests: clusters/a}]")
        .under(&full)
        .file("clusters/a/s.json", services(0..5))
        .start();
    eventually("the state is written", || server.path("vips.json").exists());
    server.write("clusters/a/s.json", services(0..2000));
    eventually("the last service is answered", || addresses(&server, 1999..2000)[&1999].len() == 1);
    eventually("the failure is told", || {
        server.status()["vips"]["stateFileError"].to_string().contains("vips.json")
            && server.log().contains("vips.json")
            && server.metric("portolan_vip_state_file_failed", &[]) == Some(1.0)
    });
    let state = std::fs::read_to_string(server.path("vips.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&state).expect("the last whole state");
    assert_eq!(server.get("/ready").0, 200);
}

/// A state file that makes no sense is put aside, told, and doesn't stop the start.
#[test]
fn a_corrupt_state_file_is_put_aside() {
    let server =
        Setup::new(POOL).file("clusters/a/s.json", services(0..3)).file("vips.json", "{\"ver").start();
    eventually("services have addresses", || addresses(&server, 0..3).values().all(|data| data.len() == 1));
    assert!(server.log().contains("vips.json"), "{}", server.log());
    let kept = std::fs::read_dir(server.path(".")).unwrap().filter_map(Result::ok);
    let kept = kept.filter(|entry| std::fs::read(entry.path()).is_ok_and(|text| text == b"{\"ver"));
    assert_eq!(kept.count(), 1, "for whoever wants to look into it");
}
