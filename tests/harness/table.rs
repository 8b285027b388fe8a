//! Questions and answers as text, in the syntax of zone files.
//!
//! ```text
//! ? svc1.ns.svc A                     question; names are relative to the zone unless they end with a dot
//!   5 IN A 10.0.0.1                   answer; a line that begins with a blank has the question's name
//! + ns.dns 5 IN A 127.0.0.1           additional
//! ; EDE: 14                           part of a line of the OPT record
//! NODATA, NXDOMAIN, SERVFAIL, …       no answer; the first two have the SOA in their authority section
//! ```

use super::{Reply, Server, absolute, without_serial};

/// What one question must be answered with; records sorted.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    status: String,
    answer: Vec<String>,
    negative: bool,
    additional: Vec<String>,
}

/// Asks every question of a table about `clusterset.local`, over UDP and over TCP, with `dig`.
pub fn check(server: &Server, table: &str) {
    check_in(server, "clusterset.local", table);
}

/// [`check`] for another zone.
pub fn check_in(server: &Server, zone: &str, table: &str) {
    let mut wrong = Vec::new();
    let mut asked = 0;
    let rows =
        table.split("\n?").map(|row| row.trim_start_matches(['\n', '?', ' '])).filter(|r| !r.is_empty());
    for row in rows {
        let (question, lines) = row.split_once('\n').unwrap_or_else(|| panic!("no answer: {row}"));
        for transport in ["+notcp +ignore", "+tcp"] {
            let (name, rest) = question.trim().split_once(' ').expect("a name and a type");
            let name = if name.ends_with('.') { name.to_owned() } else { absolute_name(name, zone) };
            let reply = server.dig(&format!("{transport} {name} {rest}"));
            if let Err(why) = compare(&reply, lines, &name, zone) {
                wrong.push(format!("{question} {transport}: {why}\n{}", reply.text));
            }
            asked += 1;
        }
    }
    assert!(asked > 0, "an empty table");
    assert!(wrong.is_empty(), "{} of {asked} wrong:\n\n{}", wrong.len(), wrong.join("\n"));
}

fn absolute_name(name: &str, zone: &str) -> String {
    if name == "@" { format!("{zone}.") } else { format!("{name}.{zone}.") }
}

fn compare(reply: &Reply, lines: &str, name: &str, zone: &str) -> Result<(), String> {
    let mut expected = Expected { status: "NOERROR".into(), ..Expected::default() };
    let mut options = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("NODATA", _) => expected.negative = true,
            ("+", record) => expected.additional.push(absolute(record, name, zone)),
            (";", option) => options.push(option),
            (status, "") => {
                expected.status = status.to_owned();
                expected.negative = status == "NXDOMAIN";
            }
            _ => expected.answer.push(absolute(line, name, zone)),
        }
    }
    expected.answer.sort();
    expected.additional.sort();
    let soa = absolute("@ 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5", "", zone);
    let sorted = |records: &[String]| {
        let mut records: Vec<_> = records.iter().map(|record| without_serial(record)).collect();
        records.sort();
        records
    };
    let actual = Expected {
        status: reply.status.clone(),
        answer: sorted(&reply.answer),
        negative: sorted(&reply.authority) == [soa],
        additional: sorted(&reply.additional),
    };
    let authoritative = matches!(expected.status.as_str(), "NOERROR" | "NXDOMAIN");
    if actual != expected {
        Err(format!("\n  expected {expected:?}\n  answered {actual:?}"))
    } else if !actual.negative && !reply.authority.is_empty() {
        Err("an authority section that nobody asked for".to_owned())
    } else if !reply.question.iter().any(|question| question.starts_with(&format!("{name} "))) {
        Err(format!("the question is not echoed as it was asked: {:?}", reply.question))
    } else if reply.flag("aa") != authoritative || reply.flag("ra") || reply.flag("tc") {
        Err(format!("flags {:?}", reply.flags))
    } else if let Some(missing) = options.iter().find(|option| !reply.option(option)) {
        Err(format!("no `{missing}` in {:?}", reply.edns))
    } else {
        Ok(())
    }
}
