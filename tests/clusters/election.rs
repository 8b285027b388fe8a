//! A controller that ends hands its lead over: an upgrade must not cost what a crash costs.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{CONTROLLER, Cluster, Options, SYSTEM, install};
use portolan_tests::harness::{DYING_WITH_US, Server, Setup, until};

fn cluster() -> Cluster {
    let cluster = Cluster::start(Options { controllers: false, ..Options::new("paris") });
    install(&cluster);
    cluster
}

fn controller(cluster: &Cluster) -> Server {
    let kubeconfig = cluster.kubeconfig(CONTROLLER);
    let own = format!("kubernetes: {{kubeconfig: '{}'}}", kubeconfig.display());
    Setup::new(&own).for_command("controller").under(&DYING_WITH_US).start()
}

/// The Lease's holder, and how often it had another one before.
fn leader(cluster: &Cluster) -> Option<(String, u64)> {
    let lease = cluster.get("Lease", SYSTEM, "portolan-controller")?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty())?;
    Some((holder.to_owned(), lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default()))
}

/// Who ends in order gives the Lease back: with client-go's times, nobody waits for 15 seconds.
#[test]
fn a_leader_that_ends_hands_over() {
    let cluster = cluster();
    let mut first = controller(&cluster);
    let ((holder, _), _) = until("the first leads", || leader(&cluster));
    let _second = controller(&cluster);
    first.signal("TERM");
    assert!(first.wait().success());
    let ((_, count), took) =
        until("another one leads", || leader(&cluster).filter(|(now, _)| *now != holder));
    assert_eq!(count, 1);
    // It looks every 2 to 4.4 seconds.
    assert!(took < Duration::from_secs(8), "{took:?}");
}
