//! What processes use: time, memory, requests.

use std::time::Duration;

use portolan_tests::harness::kubernetes::Cluster;

/// User and system time so far; the kernel counts hundredths of seconds (proc_pid_stat(5)).
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Octets in memory.
pub fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most octets in memory since [`reset_peak`].
pub fn peak(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

/// See proc_pid_clear_refs(5).
pub fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The processor's name.
pub fn cpu_model() -> String {
    let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = all.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "an unknown processor".to_owned(), |(_, name)| name.to_owned())
}

/// Requests that an API server had so far which change what a controller writes.
pub fn writes(cluster: &Cluster) -> u64 {
    let written = ["endpointslices", "serviceimports", "services", "serviceexports"];
    requests(cluster, &["APPLY", "PATCH", "POST", "PUT", "DELETE"], &written)
}

/// Requests of some verbs about some resources.
fn requests(cluster: &Cluster, verbs: &[&str], resources: &[&str]) -> u64 {
    sum(cluster, "apiserver_request_total", &[("verb", verbs), ("resource", resources)])
}

/// Complete lists of a resource that an API server has given, streamed or not.
pub fn lists(cluster: &Cluster, resource: &str) -> u64 {
    let streamed = sum(cluster, "apiserver_watch_list_duration_seconds_count", &[("resource", &[resource])]);
    streamed + requests(cluster, &["LIST"], &[resource])
}

/// All samples of a metric that have one of the values for each of the labels.
fn sum(cluster: &Cluster, metric: &str, labels: &[(&str, &[&str])]) -> u64 {
    let text = cluster.try_text("/metrics").unwrap();
    let samples =
        text.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{')));
    let has = |line: &str, (name, values): &(&str, &[&str])| {
        values.iter().any(|value| line.contains(&format!("{name}=\"{value}\"")))
    };
    let ours = samples.filter(|line| labels.iter().all(|label| has(line, label)));
    ours.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}
