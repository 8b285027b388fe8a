//! What a line of the table has, by what was measured.

use super::table::{Round, Row, thousands};

/// A figure of a row under its head, as wide as that is.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub head: &'static str,
    pub shown: fn(&Row) -> String,
}

/// What is not known.
const NONE: &str = "–";

const ANSWERS: Column =
    Column { head: "  answers/s", shown: |row| thousands(row.median(|round| round.rate) as usize) };
const LOSS: Column =
    Column { head: "    loss", shown: |row| format!("{:.2}%", row.median(|round| round.loss * 100.0)) };
const USER: Column = Column { head: "  user", shown: |row| format!("{:.2}", row.median(|round| round.user)) };
const SYSTEM: Column =
    Column { head: "  system", shown: |row| format!("{:.2}", row.median(|round| round.system)) };
const TOTAL: Column = Column { head: "  CPU µs", shown: |row| format!("{:.2}", row.median(Round::total)) };
const BUSY: Column =
    Column { head: "  busy", shown: |row| format!("{:.0}%", row.median(|round| round.busy * 100.0)) };
const P50: Column =
    Column { head: "   p50 µs", shown: |row| format!("{:.0}", row.median(|round| round.latency[0])) };
const P99: Column =
    Column { head: "   p99 µs", shown: |row| format!("{:.0}", row.median(|round| round.latency[1])) };
const P999: Column =
    Column { head: " p99.9 µs", shown: |row| format!("{:.0}", row.median(|round| round.latency[2])) };
const MEMORY: Column =
    Column { head: "   memory", shown: |row| row.memory.map_or_else(|| NONE.into(), megabytes) };
const LOAD: Column = Column {
    head: "   load",
    shown: |row| row.loading.map_or_else(|| NONE.into(), |seconds| format!("{seconds:.1} s")),
};
const CAPACITY: Column =
    Column { head: "  capacity", shown: |row| thousands(row.median(|round| round.capacity) as usize) };
const ASKED: Column = Column { head: "  asked", shown: |row| format!("{:.2}×", row.median(Round::asked)) };
const GOODPUT: Column =
    Column { head: "  goodput", shown: |row| format!("{:.2}", row.median(Round::goodput)) };
const COUNTED: Column = Column {
    head: "  counted",
    shown: |row| match row.rounds.iter().all(|round| round.counted.is_some()) {
        true => format!("{:.1}%", row.median(|round| round.counted.unwrap_or(0.0) * 100.0)),
        false => NONE.into(),
    },
};
const BEFORE: Column =
    Column { head: "    before", shown: |row| tenths(row.median(|round| round.memory.before as f64)) };
const AFTER: Column =
    Column { head: "     after", shown: |row| tenths(row.median(|round| round.memory.after as f64)) };
const FIRST_TENTH: Column = Column { head: "  first tenth", ..BEFORE };
const END: Column = Column { head: "       end", ..AFTER };
const MOST: Column =
    Column { head: "      most", shown: |row| tenths(row.median(|round| round.memory.most as f64)) };

/// As much as is answered, and the latency at half of it.
pub const SATURATED: &[Column] = &[ANSWERS, LOSS, USER, SYSTEM, TOTAL, BUSY, P50, P99, P999, MEMORY, LOAD];
/// More than can be answered. Memory is what it was before it was ever asked, and after this.
pub const OVERLOADED: &[Column] =
    &[CAPACITY, ASKED, ANSWERS, GOODPUT, TOTAL, BUSY, P50, P99, P999, BEFORE, AFTER, COUNTED];
/// For long.
pub const SOAKED: &[Column] = &[ANSWERS, LOSS, TOTAL, BUSY, FIRST_TENTH, END, MOST];

fn megabytes(octets: u64) -> String {
    format!("{} MB", octets >> 20)
}

/// For what hardly changes.
fn tenths(octets: f64) -> String {
    format!("{:.1} MB", octets / f64::from(1 << 20))
}
