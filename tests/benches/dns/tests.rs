//! What dnsperf prints becomes figures, a table and a chart: `cargo test -p portolan-tests --test bench-dns`.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step fails the test, and what is tested is of the benchmark"
)]

mod figures;

use figures::chart::svg;
use figures::dnsperf::{Run, latencies};
use figures::limits::Limit;
use figures::statistics::{Spread, percentile};
use figures::table::{Group, Round, Row, rounds_csv, rows_csv, text, thousands};

/// Of dnsperf 2.10.0.
const PRINTED: &str = "\
DNS Performance Testing Tool
Version 2.10.0

[Status] Sending queries (to 127.0.0.9:5399)
[Timeout] Query timed out: msg id 7
> NOERROR s1.ns.svc.clusterset.local A 0.000190
> NOERROR s2.ns.svc.clusterset.local A 0.000151
> T s2.ns.svc.clusterset.local A
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         290800
  Queries completed:    290792 (100.00%)
  Queries lost:         8 (0.00%)

  Response codes:       NOERROR 290790 (100.00%), REFUSED 2 (0.00%)
  Average packet size:  request 44, response 60
  Run time (s):         2.000064
  Queries per second:   145391.347477

  Average Latency (s):  0.000567 (min 0.000013, max 0.007498)
";

#[test]
fn a_run_is_what_dnsperf_says_of_it() {
    let run = Run::parse(PRINTED).unwrap();
    let expected =
        Run { sent: 290_800, answered: 290_792, good: 290_790, seconds: 2.000_064, reply_octets: 60 };
    assert_eq!(run, expected);
    assert_eq!(run.rate().round(), 145_391.0);
    assert!((run.loss() - 8.0 / 290_800.0).abs() < 1e-12);
}

#[test]
fn a_run_that_ended_early_is_none() {
    let (head, _) = PRINTED.split_once("  Run time").unwrap();
    assert_eq!(Run::parse(head), None);
    assert_eq!(Run::parse("Error: unable to connect\n"), None);
}

#[test]
fn a_run_without_answers_has_lost_all() {
    let text = "  Queries sent:         5\n  Queries completed:    0 (0.00%)\n  Run time (s):         1.0\n";
    let run = Run::parse(text).unwrap();
    assert_eq!((run.good, run.loss(), run.rate()), (0, 1.0, 0.0));
}

#[test]
fn latencies_are_sorted_microseconds_of_answers() {
    assert_eq!(latencies(PRINTED).iter().map(|micros| micros.round()).collect::<Vec<_>>(), [151.0, 190.0]);
}

#[test]
fn a_spread_is_of_all_figures() {
    assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
    assert_eq!(Spread::of([7.0]), Some(Spread { min: 7.0, median: 7.0, max: 7.0 }));
    assert_eq!(Spread::of([]), None);
}

/// A slow round is slow for both: the ratio is of one round, not of medians.
#[test]
fn ratios_are_of_the_same_round() {
    let (ours, others) = ([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]);
    assert_eq!(Spread::of_ratios(&ours, &others), Some(Spread { min: 0.5, median: 0.5, max: 0.5 }));
}

#[test]
fn percentiles_are_figures_that_were_there() {
    let all: Vec<f64> = (1..=1000).map(f64::from).collect();
    let found = [0.0, 0.5, 0.99, 0.999, 1.0].map(|part| percentile(&all, part));
    assert_eq!(found, [1.0, 500.0, 990.0, 999.0, 1000.0]);
    assert_eq!(percentile(&[], 0.5), 0.0);
}

fn round(rate: f64, user: f64, system: f64) -> Round {
    Round {
        rate,
        loss: 0.0,
        user,
        system,
        busy: 0.9,
        outstanding: 200,
        reply_octets: 60,
        latency: [20.0, 40.0, 80.0],
    }
}

fn group() -> Group {
    let ours = Row {
        name: "Portolan".into(),
        rounds: vec![round(100.0, 0.3, 3.7), round(110.0, 0.5, 3.5), round(120.0, 0.3, 3.7)],
        memory: Some(50 << 20),
        loading: Some(0.25),
        missing: None,
    };
    let other = Row {
        name: "Knot".into(),
        rounds: vec![round(90.0, 1.0, 4.0), round(91.0, 4.0, 4.0), round(92.0, 1.0, 3.0)],
        ..Row::default()
    };
    let none = Row { name: "NSD".into(), missing: Some("nsd, of the package".into()), ..Row::default() };
    Group { title: "10,000 names".into(), rows: vec![ours, other, none], limits: Vec::new() }
}

#[test]
fn a_line_has_medians_and_the_ratios_of_the_rounds() {
    let text = text(&group());
    let lines: Vec<&str> = text.lines().collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(lines[3]), "Portolan 110 0.00% 0.30 3.70 4.00 90% 20 40 80 50 MB 0.2 s");
    assert_eq!(words(lines[4]), "Knot 91 0.00% 1.00 4.00 5.00 90% 20 40 80 – – 0.50–0.80–1.00");
}

#[test]
fn numbers_have_commas() {
    let all = [0, 999, 1_000, 145_391, 1_000_000].map(thousands);
    assert_eq!(all, ["0", "999", "1,000", "145,391", "1,000,000"]);
}

/// Of the same round, and of the best of those that were there.
#[test]
fn limits_are_of_the_best_that_was_measured() {
    let (of, most) = (Round::total, 0.5);
    let lines = [
        Limit { what: "total", of, against: &["Knot", "NSD"], most },
        Limit { what: "user", of: |round| round.user, against: &[], most },
        Limit { what: "none", of, against: &["NSD", "BIND"], most },
    ];
    let lines = lines.map(|limit| limit.line(&group()));
    assert_eq!(lines[0].as_deref(), Some("  total: 0.50–0.80–1.00 (limit 0.500, ratio 1.60)\n"));
    assert_eq!(lines[1].as_deref(), Some("  user: 0.30–0.30–0.50 (limit 0.500, ratio 0.60)\n"));
    assert_eq!(lines[2], None);
}

/// Who was left out stands in the table, with the reason.
#[test]
fn what_is_missing_is_named() {
    assert!(
        text(&group())
            .lines()
            .any(|line| line.trim() == "NSD                          skipped: nsd, of the package")
    );
    assert!(
        rows_csv(&[group()]).lines().any(|line| line == "\"10,000 names\",NSD,,,\"nsd, of the package\"")
    );
}

#[test]
fn all_rounds_are_in_the_csv() {
    let csv = rounds_csv(&[group()]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 6);
    assert_eq!(
        lines[2],
        "\"10,000 names\",Portolan,2,110,0.000000,0.5000,3.5000,4.0000,0.9000,200,60,20.0,40.0,80.0"
    );
    let columns = lines[0].split(',').count();
    // The comma of the title counts once more.
    assert!(lines[1..].iter().all(|line| line.split(',').count() == columns + 1));
}

fn row(name: &str, user: f64, system: f64) -> Row {
    let round = Round {
        rate: 1.0,
        loss: 0.0,
        user,
        system,
        busy: 1.0,
        outstanding: 200,
        reply_octets: 60,
        latency: [0.0; 3],
    };
    Row { name: name.into(), rounds: vec![round], ..Row::default() }
}

#[test]
fn bars_are_as_long_as_the_figures() {
    let none = Row { name: "absent".into(), ..Row::default() };
    let rows = vec![row("ours", 1.0, 3.0), row("a<b", 2.0, 6.0), none];
    let svg = svg(&[Group { title: "t".into(), rows, limits: Vec::new() }]);
    let widths: Vec<f64> = svg
        .lines()
        .filter(|line| line.contains("fill=\"#"))
        .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(widths.len(), 4);
    assert!((widths[2] / widths[0] - 2.0).abs() < 0.01 && (widths[3] / widths[1] - 2.0).abs() < 0.01);
    assert!(svg.contains("a&lt;b") && !svg.contains("absent"));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn a_bar_that_has_no_room_says_so() {
    let svg = svg(&[Group {
        title: "t".into(),
        rows: vec![row("ours", 1.0, 1.0), row("far", 50.0, 50.0)],
        limits: Vec::new(),
    }]);
    assert!(svg.contains("100.00 →"));
}
