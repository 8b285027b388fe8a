//! A network of a test's own: endpoints have no loopback addresses, and nobody else's network is to be touched.

use portolan_tests::harness::{Package, program, run};

/// Set where a test runs in a network of its own.
const INSIDE: &str = "PORTOLAN_NETWORK_OF_A_TEST";

/// Whether this is in a network of its own that has these addresses. Elsewhere the test is run again in one.
pub(super) fn in_one_with(test: &str, addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let own: Vec<String> =
        addresses.iter().map(|address| format!("ip address add {address}/32 dev lo")).collect();
    let script =
        format!("ip link set lo up && {} && exec \"$0\" --exact \"$1\" --nocapture", own.join(" && "));
    drop(program("ip", Package::Iproute2));
    let mut command = program("unshare", Package::UtilLinux);
    command.args(["--map-root-user", "--net", "--", "bash", "-c", &script]);
    let (good, text) = run(command.arg(std::env::current_exe().unwrap()).arg(test).env(INSIDE, "1"));
    assert!(good && text.contains("1 passed"), "{text}");
    false
}
