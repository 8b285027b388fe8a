//! Who gets what, wherever clients are: a row for each place, a column for each cluster.

use std::fmt::{self, Write};

use portolan_program::Table;
use portolan_zones::policy::explain::{Picture, Row};
use serde::{Deserialize, Serialize};

use super::told::{Place, percent};

/// Columns of clusters that a table has; of further ones only bars tell.
const MOST_COLUMNS: usize = 12;

/// A picture.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Drawn {
    service: String,
    /// `None`: any.
    r#type: Option<String>,
    generation: u64,
    policy: String,
    policy_age_seconds: Option<i64>,
    answer: String,
    clusters: Vec<Column>,
    rows: Vec<Line>,
    /// Rows that are left out.
    more_rows: usize,
    /// Whether clients on the nodes of endpoints get others than the rest of their place.
    by_node: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Column {
    cluster: String,
    /// In bars.
    letter: char,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    /// For people.
    place: String,
    /// All of them; the one of which nothing is known is anywhere else.
    places: Vec<Place>,
    /// By column.
    percent: Vec<f64>,
    bar: String,
}

impl From<&Picture> for Drawn {
    fn from(picture: &Picture) -> Self {
        let column = |(at, cluster): (usize, &portolan_zones::ClusterId)| Column {
            cluster: cluster.to_string(),
            letter: Picture::letter(at),
        };
        let line = |row: &Row| Line {
            place: row.place(),
            places: row.places.iter().map(Place::from).collect(),
            percent: row.parts.iter().map(|part| percent(*part)).collect(),
            bar: row.bar(),
        };
        Self {
            service: picture.service.to_string(),
            r#type: picture.rtype.map(|rtype| rtype.to_string()),
            generation: picture.generation,
            policy: picture.held.to_string(),
            policy_age_seconds: picture.held.age,
            answer: picture.answer.clone(),
            clusters: picture.clusters.iter().enumerate().map(column).collect(),
            rows: picture.rows.iter().map(line).collect(),
            more_rows: picture.more,
            by_node: picture.by_node,
        }
    }
}

impl Drawn {
    pub(super) fn human(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        writeln!(text, "{} for clients everywhere\n", self.service)?;
        let mut facts = Table::new(["policy", &self.policy]);
        facts.row(["answer".to_owned(), self.answer.clone()]);
        writeln!(text, "{facts}")?;
        write!(text, "{}", self.table())?;
        let notes = self.notes();
        if !notes.is_empty() {
            writeln!(text, "\n{}", notes.join("\n"))?;
        }
        Ok(text)
    }

    fn table(&self) -> Table {
        let named = |column: &Column| format!("{} {}", column.letter, column.cluster);
        let columns: Vec<String> = self.clusters.iter().take(MOST_COLUMNS).map(named).collect();
        let columns = columns.iter().map(String::as_str);
        let mut table = Table::new(["CLIENTS IN"].into_iter().chain(columns).chain(["SHARES"]));
        for line in &self.rows {
            let cell = |share: &f64| if *share > 0.0 { format!("{share:.1} %") } else { "-".to_owned() };
            let shares = line.percent.iter().take(MOST_COLUMNS).map(cell);
            let cells = [line.place.clone()].into_iter().chain(shares).chain([line.bar.clone()]);
            table.row(cells.collect::<Vec<_>>());
        }
        table
    }

    fn notes(&self) -> Vec<String> {
        let further: Vec<String> = self
            .clusters
            .iter()
            .skip(MOST_COLUMNS)
            .map(|column| format!("{} {}", column.letter, column.cluster))
            .collect();
        let further = (!further.is_empty()).then(|| format!("Further clusters: {}", further.join(", ")));
        let more = (self.more_rows > 0).then(|| format!("{} more rows are left out.", self.more_rows));
        let by_node =
            self.by_node.then(|| "Clients on a node that has endpoints prefer these: see --from.".to_owned());
        further.into_iter().chain(more).chain(by_node).collect()
    }
}
