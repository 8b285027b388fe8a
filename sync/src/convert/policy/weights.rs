//! Weights of clusters, by their ids or by their labels.

use std::collections::BTreeMap;

use portolan_zones::ClusterId;
use portolan_zones::peers::Labels;
use portolan_zones::policy::Rules;

use super::{cluster_id, in_range};
use crate::convert::{ConvertError, bounded};
use crate::kubernetes::traffic_policy::Weight;

/// Weights of one policy.
const MOST: usize = 256;
/// The largest weight; all of a service's clusters together stay far below what is counted with.
const HEAVIEST: i64 = 1_000_000;
/// Labels of one weight.
const MOST_LABELS: usize = 8;
/// Characters of a label's key, and of its value.
const LONGEST: (usize, usize) = (317, 63);
/// Octets of all labels of a policy: it travels in an annotation.
const MOST_OCTETS: usize = 64 * 1024;

/// By clusters, sorted, and by labels, as they are written.
type Weights = (Box<[(ClusterId, u32)]>, Box<[(Labels, u32)]>);

/// What a spec says.
pub(super) fn read(weights: &[Weight]) -> Result<Weights, ConvertError> {
    let (mut named, mut labelled) = (Vec::with_capacity(weights.len().min(MOST)), Vec::new());
    let mut octets = 0;
    for (i, Weight { cluster, match_labels, weight }) in
        bounded("spec.weights", weights, MOST)?.iter().enumerate()
    {
        let field = |name: &str| format!("spec.weights[{i}].{name}");
        let weight = in_range(&field("weight"), *weight, 0, HEAVIEST)?;
        match (cluster, match_labels) {
            (Some(cluster), None) => {
                let id = cluster_id(field("cluster"), cluster)?;
                once(&named, &id, field("cluster"), || cluster.clone())?;
                named.push((id, weight));
            }
            (None, Some(map)) => {
                let labels = labels(&field("matchLabels"), map, &mut octets)?;
                once(&labelled, &labels, field("matchLabels"), || words(&labels))?;
                labelled.push((labels, weight));
            }
            _ => {
                let (field, these) = (format!("spec.weights[{i}]"), "cluster and matchLabels");
                return Err(ConvertError::OneOf { field, these });
            }
        }
    }
    named.sort();
    Ok((named.into(), labelled.into()))
}

fn once<K: PartialEq>(
    all: &[(K, u32)],
    key: &K,
    field: String,
    value: impl FnOnce() -> String,
) -> Result<(), ConvertError> {
    let twice = all.iter().any(|(other, _)| other == key);
    if twice { Err(ConvertError::Twice { field, value: value() }) } else { Ok(()) }
}

fn labels(field: &str, map: &BTreeMap<String, String>, octets: &mut usize) -> Result<Labels, ConvertError> {
    if map.is_empty() || map.len() > MOST_LABELS {
        return Err(ConvertError::Labels { field: field.to_owned(), len: map.len(), most: MOST_LABELS });
    }
    for (key, value) in map {
        for (text, most) in [(key, LONGEST.0), (value, LONGEST.1)] {
            let len = text.chars().count();
            if len > most {
                return Err(ConvertError::TooLong { field: field.to_owned(), len, most });
            }
        }
        *octets += key.len() + value.len();
        if *octets > MOST_OCTETS {
            let (field, key) = (field.to_owned(), key.chars().take(63).collect());
            return Err(ConvertError::TooLarge { field, key, most: MOST_OCTETS });
        }
    }
    Ok(map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
}

/// `tier=gold,site=a`.
fn words(labels: &Labels) -> String {
    let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join(",")
}

/// Weights as a spec again.
pub(super) fn spec(rules: &Rules) -> Vec<Weight> {
    let named = rules.weights.iter().map(|(cluster, weight)| Weight {
        cluster: Some(cluster.to_string()),
        match_labels: None,
        weight: i64::from(*weight),
    });
    let labelled = rules.label_weights.iter().map(|(labels, weight)| Weight {
        cluster: None,
        match_labels: Some(labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()),
        weight: i64::from(*weight),
    });
    named.chain(labelled).collect()
}
