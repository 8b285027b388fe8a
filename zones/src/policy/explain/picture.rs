//! The shares of all clients at once: a row for each place that clients are in, a column for each cluster.

use std::collections::BTreeMap;

use hickory_proto::rr::RecordType;

use super::{Held, Inquiry, answer, counted};
use crate::answers::{Target, candidates, targets};
use crate::name::{ClusterId, ServiceName};
use crate::places::Place;
use crate::policy::Level;
use crate::policy::spread::{Spread, apportion, spread};
use crate::question::QName;
use crate::service::Service;
use crate::snapshot::Snapshot;

/// With more places than this, those whose clients get the same have one row together.
const FEW: usize = 20;
/// Places that are looked at: answers are compiled for no more.
const MOST_AREAS: usize = 1000;
/// Rows of a picture.
const MOST_ROWS: usize = 50;
/// Signs of a bar: each stands for a tenth of the clients.
const SIGNS: u32 = 10;
/// What clusters are called in bars, in the order of the columns; further ones have the last sign together.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*";

/// Who gets how much, wherever clients are.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The service.
    pub service: ServiceName,
    /// The type that is asked for.
    pub rtype: Option<RecordType>,
    /// The snapshot's.
    pub generation: u64,
    /// Whose rules.
    pub held: Held,
    /// What the name answers.
    pub answer: String,
    /// The columns: the clusters behind the service.
    pub clusters: Vec<ClusterId>,
    /// Places in order; last the one of all clients that are in none of them.
    pub rows: Vec<Row>,
    /// Rows that are left out.
    pub more: usize,
    /// Whether clients on the nodes of endpoints get others than the rest of their place.
    pub by_node: bool,
}

/// What the clients of some places get.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The places, without nodes; the one without anything is anywhere else.
    pub places: Vec<Place>,
    /// What each cluster gets of [`WHOLE`](crate::policy::spread::WHOLE), by column; all 0: they get nothing.
    pub parts: Vec<u32>,
}

impl Snapshot {
    /// The picture of the shares of the service at a name; `None`: there is no such service. Who asks does not matter.
    pub fn picture(&self, name: &QName, inquiry: &Inquiry<'_>) -> Option<Picture> {
        let (service, zone) = self.in_zone(name)?;
        let service = &*inquiry.supposed.service(service, &self.standings);
        let (rules, policy) = inquiry.supposed.rules(service, zone);
        let targets: Vec<Target<'_>> = targets(service, rules.answer).collect();
        let groups = self.groups(&targets);
        let family = counted(&groups, inquiry.rtype);
        let clusters: Vec<ClusterId> = service.members.iter().map(|member| member.cluster.clone()).collect();
        let row = |place: Place| {
            let spread = spread(&candidates(service, &groups, &place.at(), family), &rules, &place.at());
            Row { parts: parts(&spread, &clusters), places: vec![place] }
        };
        let areas = self.areas_of(service);
        let unseen = areas.len().saturating_sub(MOST_AREAS);
        let mut rows: Vec<Row> = areas.into_iter().take(MOST_AREAS).map(row).collect();
        rows.push(row(Place::default()));
        if rows.len() > FEW {
            rows = together(rows);
        }
        let hidden = rows.len().saturating_sub(MOST_ROWS);
        rows.drain(rows.len() - 1 - hidden..rows.len() - 1);
        let order = rules.locality.as_ref().map(|locality| &locality.order);
        Some(Picture {
            service: service.name.clone(),
            rtype: inquiry.rtype,
            generation: self.generation,
            held: Held::new(policy, inquiry),
            answer: answer(service, zone, &rules, inquiry.rtype, &groups, &self.reach(service, &rules)),
            clusters,
            rows,
            more: hidden + unseen,
            by_node: order.is_some_and(|order| order.contains(&Level::Node)),
        })
    }

    /// The areas that clients of a service may be in, in order.
    fn areas_of(&self, service: &Service) -> Vec<Place> {
        let comes = |place: &Place| self.expects(service, place.cluster.as_ref());
        let areas = self.places.areas().into_iter().map(|(_, area)| area);
        areas.filter(|area| *area != Place::default() && comes(area)).collect()
    }
}

/// What each cluster gets, in all tiers.
fn parts(spread: &Spread, clusters: &[ClusterId]) -> Vec<u32> {
    let part = |cluster: &ClusterId| {
        let own = spread.shares().filter(|(_, share)| share.cluster == *cluster);
        own.map(|(_, share)| share.part).sum()
    };
    clusters.iter().map(part).collect()
}

/// One row for all places that get the same, where the first of them was; anywhere else stays for itself, and last.
fn together(rows: Vec<Row>) -> Vec<Row> {
    let mut merged: Vec<Row> = Vec::new();
    let mut known: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    let last = rows.len() - 1;
    for (at, row) in rows.into_iter().enumerate() {
        match known.get(&row.parts).filter(|_| at < last) {
            Some(at) => merged[*at].places.extend(row.places),
            None => {
                known.insert(row.parts.clone(), merged.len());
                merged.push(row);
            }
        }
    }
    merged
}

impl Picture {
    /// What a column's cluster is called in bars.
    pub fn letter(column: usize) -> char {
        char::from(LETTERS[column.min(LETTERS.len() - 1)])
    }
}

impl Row {
    /// Ten signs, by cluster; dots: nobody gets anything.
    pub fn bar(&self) -> String {
        let parts: Vec<u64> = self.parts.iter().map(|part| u64::from(*part)).collect();
        let signs = apportion(&parts, SIGNS);
        let of = |(column, count): (usize, &u32)| Picture::letter(column).to_string().repeat(*count as usize);
        let bar: String = signs.iter().enumerate().map(of).collect();
        if bar.is_empty() { ".".repeat(SIGNS as usize) } else { bar }
    }

    /// Where these clients are.
    pub fn place(&self) -> String {
        let first = match self.places.first() {
            Some(place) if *place != Place::default() => place.to_string(),
            _ => "anywhere else".to_owned(),
        };
        match self.places.len().saturating_sub(1) {
            0 => first,
            more => format!("{first}, and {more} more"),
        }
    }
}
