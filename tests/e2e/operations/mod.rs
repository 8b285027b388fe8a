//! What operators see and do: probes, metrics, status, signals, changed files, privileges.

use portolan_tests::harness::{Server, eventually};

mod files;
mod lifecycle;
mod manifests;
mod privileges;
mod probes;
mod reload;

/// Waits until the data of the answer is this, and returns how long it took.
fn answers(server: &Server, question: &str, data: &[&str]) -> std::time::Duration {
    eventually(&format!("{question} is {data:?}"), || server.dig(question).data() == data)
}
