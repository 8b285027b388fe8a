//! The CPU for a query as bars, user and system, in SVG.

use std::fmt::Write as _;

use super::table::{Group, Round, Row};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 210.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const TITLE: f64 = 34.0;
/// A bar that is longer than so many times ours is cut, or it would leave no room for all others.
const LONGEST: f64 = 4.0;

/// One bar for each row that was measured.
pub fn svg(groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for group in groups {
        y += TITLE;
        text(&mut body, (10.0, y - 10.0), "font-weight=\"bold\"", &group.title);
        let measured = |row: &&Row| !row.rounds.is_empty();
        let ours = group.rows.first().map_or(0.0, |row| row.median(Round::total));
        let most = group.rows.iter().filter(measured).map(|row| row.median(Round::total)).fold(0.0, f64::max);
        let full = if ours > 0.0 { most.min(ours * LONGEST) } else { most };
        for row in group.rows.iter().filter(measured) {
            bar(&mut body, y, row, full);
            y += STEP;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"16\">µs of CPU for a query: user (dark) and system (light)</text>\n{body}</svg>\n",
        height = y + 10.0
    )
}

fn bar(body: &mut String, y: f64, row: &Row, full: f64) {
    let room = WIDTH - LEFT - 80.0;
    let wide = |micros: f64| (micros / full.max(f64::MIN_POSITIVE)).min(1.0) * room;
    let (user, total) = (row.median(|round| round.user), row.median(Round::total));
    text(body, (LEFT - 8.0, y + 12.0), "text-anchor=\"end\"", &row.name);
    for (from, to, fill) in [(0.0, wide(user), "#1f4e79"), (wide(user), wide(total), "#9dc3e6")] {
        let _ = writeln!(
            body,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{fill}\"/>",
            LEFT + from,
            (to - from).max(0.0)
        );
    }
    let more = if total > full { " →" } else { "" };
    text(body, (LEFT + wide(total) + 6.0, y + 12.0), "", &format!("{total:.2}{more}"));
}

fn text(body: &mut String, (x, y): (f64, f64), attributes: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>");
}
