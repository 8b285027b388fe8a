//! Namespaces of a test's own, in which the test is run again: what it changes there is nobody else's.

use super::program::{Package, program, run};

/// Set where a test runs in a namespace of its own.
const INSIDE: &str = "PORTOLAN_NAMESPACE_OF_A_TEST";

/// Whether this is in a network of its own that has these addresses: endpoints have no loopback addresses, and nobody else's
/// network is to be touched. Elsewhere the test is run again in one.
pub fn in_network_with(test: &str, addresses: &[&str]) -> bool {
    is_inside(test, &["--map-root-user"], addresses)
}

/// Whether this is where processes have numbers of their own, which [`number_from`] sets, and a network. Elsewhere the test is run again
/// there.
pub fn with_own_processes(test: &str) -> bool {
    let own = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    // Programs that find themselves to be root become somebody else, and nobody else may be there.
    let as_now: &[_] = if is_root() { &[] } else { &["--map-current-user", "--keep-caps"] };
    is_inside(test, &[&own, as_now].concat(), &[])
}

/// The next process has this number, or the next that is free, as when the kernel has been at the last one (proc(5),
/// `ns_last_pid`).
pub fn number_from(process: u32) {
    assert_eq!(std::process::id(), 1, "only where numbers are the test's own");
    std::fs::write("/proc/sys/kernel/ns_last_pid", (process - 1).to_string()).unwrap();
}

/// Whether this process has all rights that there are.
pub(super) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn is_inside(test: &str, unshared: &[&str], addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    drop(program("ip", Package::Iproute2));
    let own = addresses.iter().map(|address| format!("ip address add {address}/32 dev lo && "));
    let script =
        format!("ip link set lo up && {}exec \"$0\" --exact \"$1\" --nocapture", own.collect::<String>());
    let mut command = program("unshare", Package::UtilLinux);
    command.args(unshared).args(["--net", "--", "bash", "-c", &script]);
    command.arg(std::env::current_exe().unwrap()).arg(test);
    let (good, text) = run(command.env(INSIDE, "1"));
    assert!(good && text.contains("1 passed"), "{text}");
    false
}
