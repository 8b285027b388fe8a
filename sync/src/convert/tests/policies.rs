//! What TrafficPolicies say, what is said of those that can't be, and what of them travels.

use std::time::Duration;

use portolan_zones::policy::{Attached, Form, Latency, Policy, Rules, Source};

use super::*;
use crate::convert::policy::told;

fn policy_of(spec: Value) -> Result<Policy, String> {
    let text = json!({"metadata": {"namespace": "shop", "name": "near"}, "spec": spec}).to_string();
    let read: TrafficPolicy<'_> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match policy(&read, &mut Interner::default()) {
        Ok(Object::Policy(policy)) => Ok(policy),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn rules_of(spec: Value) -> Rules {
    Rules::clone(&policy_of(spec).unwrap().rules)
}

fn latency(milliseconds: u64, hold_down: u32) -> Option<Latency> {
    Some(Latency { margin: Duration::from_millis(milliseconds), hold_down })
}

#[test]
fn latency_has_a_margin_and_a_hold_down() {
    for (spec, expected) in [
        (json!({}), None),
        (json!({"latency": {}}), latency(10, 60)),
        (json!({"latency": {"margin": "1ms", "holdDown": "0s"}}), latency(1, 0)),
        (json!({"latency": {"margin": "10s", "holdDown": "1h"}}), latency(10_000, 3600)),
        (json!({"latency": {"margin": "250ms", "holdDown": "1m30s"}}), latency(250, 90)),
    ] {
        assert_eq!(rules_of(spec.clone()).latency, expected, "{spec}");
    }
}

#[test]
fn a_slow_start_is_of_seconds() {
    for (text, expected) in [("1s", 1), ("30s", 30), ("2m", 120), ("1h", 3600)] {
        assert_eq!(rules_of(json!({"slowStart": text})).slow_start.map(u16::from), Some(expected), "{text}");
    }
    assert_eq!(rules_of(json!({})).slow_start, None);
}

#[test]
fn weights_by_labels_keep_their_order() {
    let rules = rules_of(json!({"weights": [
        {"matchLabels": {"tier": "gold", "site": "north"}, "weight": 5},
        {"cluster": "tokyo", "weight": 1},
        {"matchLabels": {"tier": "gold"}, "weight": 0},
        {"cluster": "paris", "weight": 3},
    ]}));
    let named: Vec<_> = rules.weights.iter().map(|(id, weight)| (id.as_str(), *weight)).collect();
    assert_eq!(named, [("paris", 3), ("tokyo", 1)], "sorted, for they are searched");
    let labels = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let expected: [(portolan_zones::peers::Labels, u32); 2] =
        [(labels(&[("site", "north"), ("tier", "gold")]), 5), (labels(&[("tier", "gold")]), 0)];
    assert_eq!(*rules.label_weights, expected, "the first that fits holds");
}

#[test]
fn a_bad_field_of_a_policy_is_named() {
    let labels = |count: usize| -> Value { (0..count).map(|i| (format!("l{i}"), json!("x"))).collect() };
    let weight = |with: Value| json!({"weights": [{"weight": 1}, with]});
    let one = "spec.weights[0]: one of cluster and matchLabels must be given, and not both";
    let big: Vec<Value> = (0..256)
        .map(|i| json!({"matchLabels": {format!("{i:03}{}", "k".repeat(300)): "v"}, "weight": 1}))
        .collect();
    for (spec, message) in [
        (
            json!({"latency": {"margin": "0ms"}}),
            "spec.latency.margin: `0ms` is not a time such as 10ms, from 1ms to 10s",
        ),
        (json!({"latency": {"margin": "10001ms"}}), "spec.latency.margin: `10001ms` is not a time"),
        (json!({"latency": {"margin": "fast"}}), "spec.latency.margin: `fast` is not a time"),
        (json!({"latency": {"margin": "-1s"}}), "spec.latency.margin: `-1s` is not a time"),
        (
            json!({"latency": {"holdDown": "61m"}}),
            "spec.latency.holdDown: `61m` is not a time such as 60s, from 0s to 1h",
        ),
        (json!({"latency": {"holdDown": ""}}), "spec.latency.holdDown: `` is not a time"),
        (json!({"latency": {"jitter": "1s"}}), "unknown field `jitter`"),
        (json!({"slowStart": "0s"}), "spec.slowStart: `0s` is not a time such as 30s, from 1s to 1h"),
        (json!({"slowStart": "2h"}), "spec.slowStart: `2h` is not a time"),
        (json!({"slowStart": "99999999999999999999h"}), "spec.slowStart: `99999999999999999999h` is not"),
        (json!({"answer": "Gateway"}), "unknown variant `Gateway`"),
        (weight(json!({"cluster": "a", "weight": 1})), one),
        (json!({"weights": [{"cluster": "a", "matchLabels": {"b": "c"}, "weight": 1}]}), one),
        (
            json!({"weights": [{"cluster": "a", "weight": 1}, {"cluster": "a", "weight": 2}]}),
            "spec.weights[1].cluster: `a` is listed twice",
        ),
        (
            json!({"weights": [{"matchLabels": {"a": "b", "c": ""}, "weight": 1}, {"matchLabels": {"c": "", "a": "b"}, "weight": 1}]}),
            "spec.weights[1].matchLabels: `a=b,c=` is listed twice",
        ),
        (
            json!({"weights": [{"matchLabels": labels(0), "weight": 1}]}),
            "spec.weights[0].matchLabels has 0 labels, allowed are 1 to 8",
        ),
        (
            json!({"weights": [{"matchLabels": labels(9), "weight": 1}]}),
            "spec.weights[0].matchLabels has 9 labels, allowed are 1 to 8",
        ),
        (
            json!({"weights": [{"matchLabels": {"a": "b".repeat(64)}, "weight": 1}]}),
            "spec.weights[0].matchLabels has 64 characters, allowed are 63",
        ),
        (
            json!({"weights": [{"matchLabels": {"a": "b"}, "weight": -1}]}),
            "spec.weights[0].weight: -1 is not a number from 0 to 1000000",
        ),
        (json!({"weights": big}), "would make them more than 65536 octets"),
    ] {
        let error = policy_of(spec.clone()).unwrap_err();
        assert!(error.contains(message), "{spec}: {error}");
    }
}

/// What an exporter says is what clients of an import get to know: all that rules hold survives the annotation.
#[test]
fn what_is_told_on_an_import_is_what_was_said() {
    for spec in [
        json!({}),
        json!({"answer": "Endpoints", "locality": {"order": ["Zone", "Region"], "mode": "Pin"}, "sticky": true}),
        json!({"answer": "Gateways", "maxRecords": 3, "ttlSeconds": 5, "whenAllDown": "Nothing"}),
        json!({"latency": {}}),
        json!({"latency": {"margin": "3s", "holdDown": "0s"}, "slowStart": "1h", "spillThreshold": 50}),
        json!({
            "weights": [
                {"matchLabels": {"tier": "gold", "site": "b"}, "weight": 7},
                {"cluster": "paris", "weight": 0},
                {"matchLabels": {"tier": "gold"}, "weight": 2},
            ],
            "failover": ["paris", "lima"],
            "panicThreshold": 10,
        }),
        json!({"healthCheck": {"type": "HTTPS", "host": "a.example", "expectedStatuses": "204", "interval": "1m"}}),
    ] {
        let policy = policy_of(spec.clone()).unwrap();
        let source = Source::Export(ClusterId::new("lima").unwrap(), policy.name.clone());
        let attached = Attached { rules: policy.rules.clone(), source, created: None };
        let text = tell_policy(&attached).unwrap();
        let told = told(&text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(told.rules, policy.rules, "{text}");
        assert_eq!(told.source, attached.source);
    }
    assert_eq!(rules_of(json!({"answer": "Gateways"})).answer, Form::Gateways);
}
