//! The DNS server against all others that people use, on this machine: answers a second, CPU for a query, latency, memory, time to
//! load. `make bench-dns` installs them, or `cargo bench -p portolan-tests --bench dns [-- only=knot,nsd groups=names,weight
//! names=10000,1000000 rounds=5 seconds=2]`.
//!
//! Each server has a core for itself and one thread that answers; dnsperf has another one. All have the same zone, which ours
//! exports, and are asked the same names over loopback; what they answer is checked before it is measured. They take turns, and
//! ratios are of the same round, so that whatever else the machine does is in all of them. The echo says what the kernel and dnsperf
//! leave to be had.
//!
//! Under overload, too (`groups=overload`); and for long, if that is asked for: `groups=soak seconds=600`.
//!
//! CPU for a query counts all that a server does while dnsperf asks as much as is answered. Who is not busy all the time
//! wakes more often, for fewer queries each, and pays for that.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a bench is no library"
)]

mod client;
mod figures;
mod load;
mod peers;
mod plan;
mod rounds;
mod running;
mod soak;
mod zone;

use std::fs;
use std::path::PathBuf;

use figures::chart;
use figures::table::{self, Group};
use plan::{FEW, GROUPS, MANY, Plan, SOAK, SOAK_SECONDS};
use portolan_tests::harness::{portolan, repository};
use rounds::{Rounds, measure};

fn main() {
    peers::serve();
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: a server and dnsperf need a core each, and there is only one");
        return;
    }
    if let Err(why) = running::find("dnsperf", "dnsperf") {
        println!("skipped: {why}");
        return;
    }
    // Built before anything is timed.
    portolan();
    println!("on {}, {} cores", cpu_model(), std::thread::available_parallelism().unwrap());
    let mut groups = Vec::new();
    for (rounds, make) in plans() {
        let mut plan = make();
        if let Some(only) = words("only") {
            plan.contenders.retain(|who| who.key == "portolan" || only.iter().any(|key| key == who.key));
        }
        let group = measure(plan, rounds);
        println!("{}", table::text(&group).trim_end());
        groups.push(group);
        keep(&groups);
    }
}

/// What was asked for, made one after the other: a million names take room.
fn plans() -> Vec<(Rounds, Box<dyn Fn() -> Plan>)> {
    let sizes: Vec<usize> = words("names")
        .map_or(vec![FEW, MANY], |sizes| sizes.iter().map(|size| size.parse().unwrap()).collect());
    let asked = words("groups");
    let mut plans: Vec<(Rounds, Box<dyn Fn() -> Plan>)> = Vec::new();
    for (name, make) in GROUPS {
        let wanted = asked.as_ref().map_or(name != SOAK, |asked| asked.iter().any(|word| word == name));
        if !wanted {
            continue;
        }
        let rounds = if name == SOAK {
            Rounds { rounds: 1, seconds: number("seconds", SOAK_SECONDS) }
        } else {
            Rounds { rounds: number("rounds", 5), seconds: number("seconds", 2) }
        };
        for size in &sizes {
            // What is more than names is measured with few of them.
            if name == "names" || *size <= FEW {
                let size = *size;
                plans.push((rounds, Box::new(move || make(size))));
            }
        }
    }
    plans
}

/// After each group, so that a run that is cut short leaves what it has.
fn keep(groups: &[Group]) {
    let folder = folder();
    fs::write(folder.join("rounds.csv"), table::rounds_csv(groups)).unwrap();
    fs::write(folder.join("rows.csv"), table::rows_csv(groups)).unwrap();
    fs::write(folder.join("chart.svg"), chart::svg(groups)).unwrap();
}

/// For all that is left of a run.
fn folder() -> PathBuf {
    let folder = repository().join("target/bench-dns");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// `KEY=a,b` of the command line.
fn words(key: &str) -> Option<Vec<String>> {
    let prefix = format!("{key}=");
    let value = std::env::args().find_map(|word| word.strip_prefix(&prefix).map(str::to_owned))?;
    Some(value.split(',').map(str::to_owned).collect())
}

fn number(key: &str, default: u32) -> u32 {
    words(key).map_or(default, |words| words[0].parse().unwrap())
}

/// The processor's name.
fn cpu_model() -> String {
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = all.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "an unknown processor".to_owned(), |(_, name)| name.to_owned())
}
