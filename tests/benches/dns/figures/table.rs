//! The table that is printed, and the rows as CSV.

use super::columns::Column;
use super::limits::Limit;
use super::memory::Memory;
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Round {
    pub rate: f64,
    /// Queries a second.
    pub sent: f64,
    /// Answers a second when next to nothing is lost; the same as the rate unless the server was asked for more, or less.
    pub capacity: f64,
    pub loss: f64,
    /// Of the server's CPU for an answer, in microseconds.
    pub user: f64,
    pub system: f64,
    /// The part of its core that the server used.
    pub busy: f64,
    /// Queries that dnsperf had, or could have had, on their way at once.
    pub outstanding: u32,
    pub reply_octets: u32,
    /// Microseconds: p50, p99 and p99.9; at half of the rate, or of what was answered under overload.
    pub latency: [f64; 3],
    pub memory: Memory,
    /// The part of the lost queries that the server says it dropped; `None` of those that were not asked.
    pub counted: Option<f64>,
}

impl Round {
    pub fn total(&self) -> f64 {
        self.user + self.system
    }

    /// Queries as a ratio to the capacity.
    pub fn asked(&self) -> f64 {
        self.sent / self.capacity
    }

    /// Answers as a ratio to the capacity.
    pub fn goodput(&self) -> f64 {
        self.rate / self.capacity
    }

    /// Queries that were answered while one waited for as long as p99.
    pub fn waiting(&self) -> f64 {
        self.latency[1] / 1e6 * self.rate
    }

    /// How far what the server says it dropped is from what was lost, as a part of that.
    pub fn miscounted(&self) -> f64 {
        (self.counted.unwrap_or(0.0) - 1.0).abs()
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
    pub columns: &'static [Column],
    pub rows: Vec<Row>,
    pub limits: Vec<Limit>,
}

/// A number with commas: 1,000,000.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let comma = |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
    digits.char_indices().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
}

/// A group as text: a line for each row, and one for each limit.
pub fn text(group: &Group) -> String {
    let heads: String = group.columns.iter().map(|column| column.head).collect();
    let mut text = format!("\n{}\n  {:<28}{heads}  {RATIO}\n", group.title, "");
    for (at, row) in group.rows.iter().enumerate() {
        text.push_str(&line(row, group.columns, group.rows.first().filter(|_| at > 0)));
    }
    text.extend(group.limits.iter().filter_map(|limit| limit.line(group)));
    text
}

const RATIO: &str = "ours/this (min–median–max)";

fn line(row: &Row, columns: &[Column], ours: Option<&Row>) -> String {
    let mut line = format!("  {:<28}", row.name);
    if let Some(why) = &row.missing {
        return format!("{line} skipped: {why}\n");
    }
    for Column { head, shown } in columns {
        line.push_str(&format!("{:>width$}", shown(row), width = head.chars().count()));
    }
    if let Some(Spread { min, median, max }) = ours.and_then(|ours| row.ratio(ours)) {
        line.push_str(&format!("  {min:.2}–{median:.2}–{max:.2}"));
    }
    line + "\n"
}

/// Every round of every row.
pub fn rounds_csv(groups: &[Group]) -> String {
    let mut text = String::from(
        "group,row,round,answers_per_second,queries_per_second,capacity,loss,user_us,system_us,cpu_us,busy,outstanding,reply_octets,\
         p50_us,p99_us,p999_us,memory_before,memory_after,memory_most,counted\n",
    );
    for (group, row) in rows(groups) {
        for (number, round) in (1..).zip(&row.rounds) {
            let (title, name) = (quoted(&group.title), quoted(&row.name));
            text.push_str(&format!("{title},{name},{number},{}\n", figures(round)));
        }
    }
    text
}

fn figures(round: &Round) -> String {
    let Round { rate, sent, capacity, loss, user, system, busy, outstanding, reply_octets, .. } = round;
    let Round { latency: [p50, p99, p999], memory: Memory { before, after, most }, counted, .. } = round;
    let total = round.total();
    let counted = counted.map_or(String::new(), |part| format!("{part:.4}"));
    format!(
        "{rate:.0},{sent:.0},{capacity:.0},{loss:.6},{user:.4},{system:.4},{total:.4},{busy:.4},{outstanding},{reply_octets},\
         {p50:.1},{p99:.1},{p999:.1},{before},{after},{most},{counted}"
    )
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
