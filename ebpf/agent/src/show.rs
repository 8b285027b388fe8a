//! `portolan-agent status`, `trace` and `detach`: asks a running agent, or the kernel where there is none.

use std::io::Write;

use anyhow::Context;
use portolan_ebpf::abi::ABI_VERSION;
use portolan_ebpf::pins::Pins;
use portolan_program::{Outcome, Table, get, print};

use crate::cli::{Asked, Detach, Format, Status, Trace};
use crate::report::{HookReport, PortReport, Report, hooks};
use crate::settings::Settings;
use crate::trace::{Decision, Told};

/// What is attached where, and how full the maps are; or a service's backends.
pub(crate) fn status(asked: &Status) -> anyhow::Result<Outcome> {
    if let Some(service) = &asked.service {
        return services(&asked.asked, service);
    }
    let text = match get("portolan-agent", &asked.asked.admin, "/status") {
        Ok(text) => text,
        Err(error) => return without_agent(asked, &error),
    };
    let report: Report = serde_json::from_str(&text).context("its answer is no status of an agent")?;
    let is_well = report.ready && report.problems.is_empty() && report.refused_count == 0;
    let text = if asked.asked.format == Format::Json { text } else { human(&report) };
    Ok(Outcome { text, status: u8::from(!is_well) })
}

/// The programs may well be there.
fn without_agent(asked: &Status, error: &anyhow::Error) -> anyhow::Result<Outcome> {
    let pins = Settings::pins(&asked.places)?;
    let hooks = hooks(&pins);
    let text = match (asked.asked.format, hooks.is_empty()) {
        (Format::Json, _) => {
            let told = serde_json::json!({ "error": format!("{error:#}"), "pins": pins, "hooks": hooks });
            format!("{told:#}\n")
        }
        (Format::Human, true) => {
            format!("no agent answers: {error:#}\nnothing is attached by {}\n", pins.display())
        }
        (Format::Human, false) => format!(
            "no agent answers: {error:#}\nconnections are redirected by what the last one knew:\n{}\n{}",
            of_another_abi(&hooks),
            hook_table(&hooks)
        ),
    };
    Ok(Outcome { text, status: 1 })
}

/// What becomes of what an agent of another release pinned.
fn of_another_abi(hooks: &[HookReport]) -> String {
    let theirs = |is_other: fn(u32, u32) -> bool| {
        hooks.iter().map(|hook| hook.abi).find(|abi| is_other(*abi, ABI_VERSION))
    };
    let newer = theirs(|abi, ours| abi > ours)
        .map(|abi| format!("it was a newer one (ABI {abi}, this one has {ABI_VERSION}): start that one\n"));
    let older = || {
        theirs(|abi, ours| abi < ours).map(|abi| {
            format!("it was an older one (ABI {abi}, this one has {ABI_VERSION}): `portolan-agent run` takes over from it\n")
        })
    };
    newer.or_else(older).unwrap_or_default()
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    line(
        "agent",
        format!("{}, {}", report.version, if report.ready { "redirecting" } else { "not redirecting yet" }),
    );
    line("cgroup", report.cgroup.clone());
    line("pins", report.pins.clone());
    line("clients", report.place.clone());
    let pass =
        format!("generation {}, in the kernel after {} ms", report.generation, report.last_pass_milliseconds);
    line("snapshot", pass);
    line("services", format!("{}, {} refused", report.services, report.refused_count));
    if !report.neighbours.is_empty() {
        line("beside", report.neighbours.join(" "));
    }
    text.push('\n');
    text.push_str(&hook_table(&report.hooks));
    let mut maps = Table::new(["MAP", "USED", "OF", ""]);
    for map in &report.maps {
        let share = f64::from(map.used) / f64::from(map.size.max(1));
        let bar = "#".repeat((share * 20.0).ceil() as usize);
        maps.row([map.name.clone(), map.used.to_string(), map.size.to_string(), bar]);
    }
    text.push('\n');
    text.push_str(&maps.to_string());
    for refused in &report.refused {
        text.push_str(&format!("\nrefused {}: {}", refused.service, refused.reason));
    }
    for problem in &report.problems {
        text.push_str(&format!("\nproblem: {problem}"));
    }
    for note in &report.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn hook_table(hooks: &[HookReport]) -> String {
    let mut table = Table::new(["HOOK", "PROGRAM", "CGROUP"]);
    for hook in hooks {
        let cgroup = if hook.cgroup == 0 { "gone".to_owned() } else { hook.cgroup.to_string() };
        table.row([hook.name.clone(), hook.program.to_string(), cgroup]);
    }
    table.to_string()
}

fn services(asked: &Asked, service: &str) -> anyhow::Result<Outcome> {
    // What a name may hold needs no escaping but for a slash, which may stand in a query (RFC 3986 §3.4).
    let safe: String = service.chars().filter(|c| c.is_ascii_alphanumeric() || "-./".contains(*c)).collect();
    let text = get("portolan-agent", &asked.admin, &format!("/services?name={safe}"))?;
    if asked.format == Format::Json {
        return Ok(Outcome::good(text));
    }
    let ports: Vec<PortReport> = serde_json::from_str(&text).context("its answer is no list of services")?;
    if ports.is_empty() {
        let text = format!("no service with `{service}` in its name is redirected\n");
        return Ok(Outcome { text, status: 1 });
    }
    let mut table = Table::new([
        "SERVICE",
        "PORT",
        "CONNECTIONS",
        "UNREACHABLE",
        "CLUSTER",
        "BACKEND",
        "ITS CONNECTIONS",
    ]);
    for port in &ports {
        let number = format!("{}/{}", port.port, port.protocol);
        let head = [port.service.clone(), number, port.connections.to_string(), port.unreachable.to_string()];
        let mut first = Some(head);
        for backend in &port.backends {
            let [service, number, connections, unreachable] = first.take().unwrap_or_default();
            let (cluster, address) = (backend.cluster.clone(), backend.address.to_string());
            table.row([
                service,
                number,
                connections,
                unreachable,
                cluster,
                address,
                backend.connections.to_string(),
            ]);
        }
        if let Some([service, number, connections, unreachable]) = first {
            let none = ["-", "none", "-"].map(str::to_owned);
            let [cluster, address, its] = none;
            table.row([service, number, connections, unreachable, cluster, address, its]);
        }
    }
    Ok(Outcome::good(table.to_string()))
}

/// Prints decisions until there are as many as asked for.
pub(crate) fn trace(asked: &Trace) -> anyhow::Result<Outcome> {
    let Asked { admin, format } = &asked.asked;
    let (mut after, mut left) = (None, asked.count);
    loop {
        let number = after.map(|number| format!("&after={number}")).unwrap_or_default();
        let text = get("portolan-agent", admin, &format!("/trace?sample={}{number}", asked.sample))?;
        let told: Told = serde_json::from_str(&text).context("its answer is no trace")?;
        after = Some(told.next);
        let mut lines = Vec::new();
        if told.lost > 0 {
            writeln!(lines, "({} decisions came too fast to be told; see --sample)", told.lost)?;
        }
        for decision in told.decisions.iter().take(left.map_or(usize::MAX, |left| left as usize)) {
            match format {
                Format::Human => writeln!(lines, "{}", line(decision))?,
                Format::Json => writeln!(lines, "{}", serde_json::to_string(decision)?)?,
            }
            left = left.map(|left| left - 1);
        }
        if !print(&String::from_utf8(lines)?)? || left == Some(0) {
            return Ok(Outcome::good(""));
        }
    }
}

fn line(decision: &Decision) -> String {
    let Decision { at, pid, command, protocol, service, vip, backend, verdict, connected } = decision;
    let who = if *pid == 0 { "-".to_owned() } else { format!("{command}[{pid}]") };
    let what = if *connected { "connect" } else { "send" };
    let to = backend.map_or_else(|| "-".to_owned(), |backend| backend.to_string());
    let service = service.as_deref().unwrap_or("-");
    format!("{at:>14.6}  {who:<24} {protocol} {what} {service} {vip} -> {to}  {verdict}")
}

/// Leaves nothing behind.
pub(crate) fn detach(asked: &Detach) -> anyhow::Result<Outcome> {
    let path = Settings::pins(&asked.places)?;
    let Some(pins) = Pins::find(&path)? else {
        return Ok(Outcome::good(format!("nothing is pinned in {}\n", path.display())));
    };
    let removed = pins.remove()?;
    Ok(Outcome::good(format!("detached {} hooks, and removed {}\n", removed.len(), path.display())))
}
