//! The table that is printed, and the rows as CSV.

use super::limits::Limit;
use super::statistics::Spread;

/// All of one server in one group, over the rounds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    pub name: String,
    /// Each round's; empty when it was not measured.
    pub rounds: Vec<Round>,
    /// Octets of memory, shared ones by part.
    pub memory: Option<u64>,
    /// Seconds from the start to the first right answer.
    pub loading: Option<f64>,
    /// Why there are no figures.
    pub missing: Option<String>,
}

/// What was measured in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    pub rate: f64,
    pub loss: f64,
    /// Of the server's CPU for a query, in microseconds.
    pub user: f64,
    pub system: f64,
    /// The part of its core that the server used.
    pub busy: f64,
    /// Queries that dnsperf had on their way at once.
    pub outstanding: u32,
    pub reply_octets: u32,
    /// Microseconds at half of the rate: p50, p99 and p99.9.
    pub latency: [f64; 3],
}

impl Round {
    pub fn total(&self) -> f64 {
        self.user + self.system
    }
}

impl Row {
    /// The middle of a figure over the rounds; zero without rounds.
    pub fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        Spread::of(self.rounds.iter().map(figure)).map_or(0.0, |spread| spread.median)
    }

    /// CPU for a query: ours against this row's, round by round.
    pub fn ratio(&self, ours: &Self) -> Option<Spread> {
        let totals = |row: &Self| row.rounds.iter().map(Round::total).collect::<Vec<_>>();
        Spread::of_ratios(&totals(ours), &totals(self))
    }
}

/// Rows of which the first one is ours, with which the others are compared.
#[derive(Debug, Clone)]
pub struct Group {
    pub title: String,
    pub rows: Vec<Row>,
    pub limits: Vec<Limit>,
}

const HEAD: &str = "                                answers/s     loss  user  system  CPU µs  busy   p50 µs   p99 µs p99.9 µs  memory   load  \
                    ours/this (min–median–max)";

/// A number with commas: 1,000,000.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let comma = |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
    digits.char_indices().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
}

/// A group as text: a line for each row, and one for each limit.
pub fn text(group: &Group) -> String {
    let mut text = format!("\n{}\n{HEAD}\n", group.title);
    for (at, row) in group.rows.iter().enumerate() {
        text.push_str(&line(row, group.rows.first().filter(|_| at > 0)));
    }
    text.extend(group.limits.iter().filter_map(|limit| limit.line(group)));
    text
}

fn line(row: &Row, ours: Option<&Row>) -> String {
    let name = &row.name;
    if let Some(why) = &row.missing {
        return format!("  {name:<28} skipped: {why}\n");
    }
    let median = |of: fn(&Round) -> f64| row.median(of);
    let ratio = ours.and_then(|ours| row.ratio(ours));
    let ratio = ratio.map_or(String::new(), |r| format!("{:.2}–{:.2}–{:.2}", r.min, r.median, r.max));
    let line = format!(
        "  {name:<28} {:>10} {:>7.2}% {:>5.2}  {:>6.2}  {:>6.2} {:>4.0}% {:>8.0} {:>8.0} {:>8.0} {} {}  {ratio}",
        thousands(median(|round| round.rate) as usize),
        median(|round| round.loss * 100.0),
        median(|round| round.user),
        median(|round| round.system),
        median(Round::total),
        median(|round| round.busy * 100.0),
        median(|round| round.latency[0]),
        median(|round| round.latency[1]),
        median(|round| round.latency[2]),
        row.memory.map_or_else(|| format!("{:>7}", "–"), |octets| format!("{:>4} MB", octets >> 20)),
        row.loading.map_or_else(|| format!("{:>6}", "–"), |seconds| format!("{seconds:>4.1} s")),
    );
    format!("{}\n", line.trim_end())
}

/// Every round of every row.
pub fn rounds_csv(groups: &[Group]) -> String {
    let mut text = String::from(
        "group,row,round,answers_per_second,loss,user_us,system_us,cpu_us,busy,outstanding,reply_octets,p50_us,p99_us,p999_us\n",
    );
    for (group, row) in rows(groups) {
        for (number, round) in (1..).zip(&row.rounds) {
            let Round {
                rate,
                loss,
                user,
                system,
                busy,
                outstanding,
                reply_octets,
                latency: [p50, p99, p999],
            } = round;
            let total = round.total();
            text.push_str(&format!(
                "{},{},{number},{rate:.0},{loss:.6},{user:.4},{system:.4},{total:.4},{busy:.4},{outstanding},{reply_octets},{p50:.1},{p99:.1},{p999:.1}\n",
                quoted(&group.title),
                quoted(&row.name)
            ));
        }
    }
    text
}

/// What is measured once for each row.
pub fn rows_csv(groups: &[Group]) -> String {
    let mut text = String::from("group,row,memory_octets,load_seconds,missing\n");
    for (group, row) in rows(groups) {
        text.push_str(&format!(
            "{},{},{},{},{}\n",
            quoted(&group.title),
            quoted(&row.name),
            row.memory.map_or(String::new(), |octets| octets.to_string()),
            row.loading.map_or(String::new(), |seconds| format!("{seconds:.3}")),
            quoted(row.missing.as_deref().unwrap_or("")),
        ));
    }
    text
}

fn rows(groups: &[Group]) -> impl Iterator<Item = (&Group, &Row)> {
    groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)))
}

/// A field of CSV (RFC 4180 §2).
fn quoted(field: &str) -> String {
    if !field.contains([',', '"', '\n']) {
        return field.to_owned();
    }
    format!("\"{}\"", field.replace('"', "\"\""))
}
