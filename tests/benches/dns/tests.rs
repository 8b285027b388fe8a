//! What dnsperf prints becomes figures, a table and a chart: `cargo test -p portolan-tests --test bench-dns`.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a failed step fails the test, and what is tested is of the benchmark"
)]

mod figures;

use std::time::Duration;

use figures::chart::svg;
use figures::columns::{OVERLOADED, SATURATED, SOAKED};
use figures::dnsperf::{Run, latencies};
use figures::limits::Bound::{Least, Most};
use figures::limits::Limit;
use figures::memory::{Memory, Sample};
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
        sent: rate,
        capacity: rate,
        user,
        system,
        busy: 0.9,
        outstanding: 200,
        reply_octets: 60,
        latency: [20.0, 40.0, 80.0],
        ..Round::default()
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
    let rows = vec![ours, other, none];
    Group { title: "10,000 names".into(), columns: SATURATED, rows, limits: Vec::new() }
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_line_has_medians_and_the_ratios_of_the_rounds() {
    let text = text(&group());
    let lines: Vec<&str> = text.lines().collect();
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
    let (of, bound) = (Round::total, Most(0.5));
    let lines = [
        Limit { what: "total", of, against: &["Knot", "NSD"], bound },
        Limit { what: "user", of: |round| round.user, against: &[], bound },
        Limit { what: "none", of, against: &["NSD", "BIND"], bound },
    ];
    let lines = lines.map(|limit| limit.line(&group()));
    assert_eq!(lines[0].as_deref(), Some("  total: 0.50–0.80–1.00 (limit 0.500, ratio 1.60)\n"));
    assert_eq!(lines[1].as_deref(), Some("  user: 0.30–0.30–0.50 (limit 0.500, ratio 0.60)\n"));
    assert_eq!(lines[2], None);
}

/// Where more is better the best is the most, and a ratio above 1 is a limit that is missed, too.
#[test]
fn limits_are_on_either_side() {
    let mut group = group();
    group.rows[2] = Row { name: "NSD".into(), missing: None, ..group.rows[1].clone() };
    for round in &mut group.rows[2].rounds {
        round.rate *= 2.0;
    }
    let limit = Limit { what: "rate", of: |round| round.rate, against: &["Knot", "NSD"], bound: Least(0.9) };
    let expected = "  rate: 0.56–0.60–0.65 (limit at least 0.900, ratio 1.49)\n";
    assert_eq!(limit.line(&group).as_deref(), Some(expected));
}

/// Of a round that others did not finish there is nothing to compare with.
#[test]
fn limits_are_of_rounds_that_others_had() {
    let mut group = group();
    group.rows[1].rounds.truncate(1);
    let limit = Limit { what: "total", of: Round::total, against: &["Knot"], bound: Most(1.0) };
    assert_eq!(limit.line(&group).as_deref(), Some("  total: 0.80–0.80–0.80 (limit 1.000, ratio 0.80)\n"));
}

/// Asked three times as much as it answers: the ratios are to the capacity, and the latency is of what was answered.
fn overloaded() -> Group {
    let memory = Memory::between(50 << 20, 51 << 20);
    let ours = Round { sent: 300.0, capacity: 100.0, memory, counted: Some(0.99), ..round(95.0, 0.3, 3.7) };
    let others = Round { counted: None, ..ours };
    let row = |name: &str, round| Row { name: name.into(), rounds: vec![round], ..Row::default() };
    let rows = vec![row("Portolan", ours), row("Knot", others)];
    Group { title: "overload".into(), columns: OVERLOADED, rows, limits: Vec::new() }
}

#[test]
fn a_line_of_overload_has_ratios_to_the_capacity() {
    let text = text(&overloaded());
    let lines: Vec<_> = text.lines().map(words).collect();
    let head = "capacity asked answers/s goodput CPU µs busy p50 µs p99 µs p99.9 µs before after counted ours/this (min–median–max)";
    let ours = "Portolan 100 3.00× 95 0.95 4.00 90% 20 40 80 50.0 MB 51.0 MB 99.0%";
    let others = "Knot 100 3.00× 95 0.95 4.00 90% 20 40 80 50.0 MB 51.0 MB – 1.00–1.00–1.00";
    assert_eq!(lines[2..], [head, ours, others]);
}

/// What nobody counted is miscounted as a whole.
#[test]
fn lost_queries_are_counted_or_not() {
    let run = Run { sent: 300, answered: 100, good: 100, seconds: 1.0, reply_octets: 60 };
    let all = Run { answered: 300, ..run };
    let found = [run.counted(200), run.counted(100), run.counted(202), run.counted(0), all.counted(0)];
    assert_eq!(found, [1.0, 0.5, 1.01, 0.0, 1.0]);
    assert!(all.counted(5) > 1.0);
    let miscounted = |counted| Round { counted, ..Round::default() }.miscounted();
    let found = [Some(1.0), Some(0.75), Some(1.25), None].map(miscounted);
    assert_eq!(found, [0.0, 0.25, 0.25, 1.0]);
}

/// At 50,000 answers a second, 40 ms are as long as 2,000 queries that are answered before.
#[test]
fn a_latency_is_as_long_as_what_waits_before_it() {
    let round = Round { latency: [0.0, 40_000.0, 0.0], ..round(50_000.0, 0.3, 3.7) };
    assert_eq!(round.waiting().round(), 2_000.0);
}

/// A megabyte more with every sample: the first tenth ends with the second one.
fn samples() -> Vec<Sample> {
    (0..=10).map(|at| Sample { at: Duration::from_secs(5 * at), octets: (50 + at) << 20 }).collect()
}

#[test]
fn memory_is_compared_with_that_after_the_first_tenth() {
    let mut samples = samples();
    samples[7].octets = 90 << 20;
    let memory = Memory::soaked(&samples).unwrap();
    assert_eq!(memory, Memory { before: 51 << 20, after: 60 << 20, most: 90 << 20 });
    assert!((memory.growth() - 60.0 / 51.0).abs() < 1e-12);
    assert_eq!(Memory::soaked(&[]), None);
    assert_eq!(Memory::soaked(&samples[..1]).map(|memory| memory.growth()), Some(1.0));
}

#[test]
fn a_line_of_a_soak_has_its_memory() {
    let mut group = group();
    group.columns = SOAKED;
    group.rows.truncate(1);
    let memory = Memory::soaked(&samples()).unwrap();
    group.rows[0].rounds = vec![Round { memory, ..round(100.0, 0.3, 3.7) }];
    let text = text(&group);
    assert!(
        text.lines().any(|line| words(line) == "Portolan 100 0.00% 4.00 90% 51.0 MB 60.0 MB 60.0 MB"),
        "{text}"
    );
}

#[test]
fn a_sample_is_a_line_of_csv() {
    let sample = Sample { at: Duration::from_millis(2_500), octets: 42 };
    assert_eq!(sample.csv(), "2.5,42\n");
    assert_eq!(Sample::CSV_HEAD.split(',').count(), sample.csv().split(',').count());
}

/// Each figure ends where its head does.
#[test]
fn figures_stand_under_their_heads() {
    for group in [group(), overloaded(), Group { columns: SOAKED, ..group() }] {
        let text = text(&group);
        let lines: Vec<&str> = text.lines().collect();
        let wide = 30 + group.columns.iter().map(|column| column.head.chars().count()).sum::<usize>();
        assert!(lines[2].chars().count() > wide, "{text}");
        assert_eq!(lines[3].chars().count(), wide, "{text}");
    }
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
        "\"10,000 names\",Portolan,2,110,110,110,0.000000,0.5000,3.5000,4.0000,0.9000,200,60,20.0,40.0,80.0,0,0,0,"
    );
    let columns = lines[0].split(',').count();
    // The comma of the title counts once more.
    assert!(lines[1..].iter().all(|line| line.split(',').count() == columns + 1));
}

#[test]
fn overload_is_in_the_csv() {
    let csv = rounds_csv(&[overloaded()]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[1],
        "overload,Portolan,1,95,300,100,0.000000,0.3000,3.7000,4.0000,0.9000,200,60,20.0,40.0,80.0,52428800,53477376,53477376,0.9900"
    );
    assert!(lines[2].ends_with(",53477376,"));
}

fn row(name: &str, user: f64, system: f64) -> Row {
    Row { name: name.into(), rounds: vec![round(1.0, user, system)], ..Row::default() }
}

#[test]
fn bars_are_as_long_as_the_figures() {
    let none = Row { name: "absent".into(), ..Row::default() };
    let rows = vec![row("ours", 1.0, 3.0), row("a<b", 2.0, 6.0), none];
    let svg = svg(&[Group { title: "t".into(), columns: SATURATED, rows, limits: Vec::new() }]);
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
        columns: SATURATED,
        rows: vec![row("ours", 1.0, 1.0), row("far", 50.0, 50.0)],
        limits: Vec::new(),
    }]);
    assert!(svg.contains("100.00 →"));
}
