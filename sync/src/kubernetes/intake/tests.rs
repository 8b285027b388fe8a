//! What becomes of a cluster's words.

use std::time::Duration;

use super::*;
use crate::kubernetes::known::MOST_OBJECTS;

fn raw(json: &str) -> Raw {
    serde_json::from_str(json).unwrap()
}

fn namespace(name: &str) -> Raw {
    raw(&format!(r#"{{"metadata": {{"name": "{name}", "resourceVersion": "1"}}}}"#))
}

fn export(namespace: &str, name: &str) -> Raw {
    raw(&format!(
        r#"{{"metadata": {{"namespace": "{namespace}", "name": "{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}}}}"#
    ))
}

/// A Service with a load balancer of this name.
fn balanced(host: &str) -> Raw {
    raw(&format!(
        r#"{{"metadata": {{"namespace": "shop", "name": "web"}}, "spec": {{"clusterIP": "10.0.0.1", "ports": []}},
            "status": {{"loadBalancer": {{"ingress": [{{"hostname": "{host}"}}]}}}}}}"#
    ))
}

fn property(id: &str) -> Raw {
    raw(&format!(r#"{{"metadata": {{"name": "cluster.clusterset.k8s.io"}}, "spec": {{"value": "{id}"}}}}"#))
}

fn broken(text: &str) -> Word {
    if text == "denied" { Word::Denied(text.to_owned()) } else { Word::Broken(text.to_owned()) }
}

struct Case {
    intake: Intake,
    now: Instant,
}

impl Case {
    fn of(topics: &[Topic]) -> Self {
        let mut intake = Intake::new("west", false);
        intake.listen(topics, None);
        Self { intake, now: Instant::now() }
    }

    /// The changes by which the table hears of these words, as texts.
    fn hear(&mut self, topic: Topic, words: impl IntoIterator<Item = Word>) -> Vec<String> {
        words.into_iter().for_each(|word| self.intake.hear(topic, word, self.now));
        self.changes()
    }

    fn list(&mut self, topic: Topic, objects: impl IntoIterator<Item = Raw>) -> Vec<String> {
        let words = objects.into_iter().map(Word::Listed);
        self.hear(topic, std::iter::once(Word::Begin).chain(words).chain([Word::Done]))
    }

    fn changes(&mut self) -> Vec<String> {
        let text = |change| match change {
            Change::Apply(object) => format!("+{}", object.key()),
            Change::Delete(key) => format!("-{key}"),
            Change::Reset(_) | Change::Synced => "?".to_owned(),
        };
        self.intake.take_changes().into_iter().map(text).collect()
    }

    fn is_complete(&self) -> bool {
        self.intake.is_complete(self.now, Duration::from_secs(30))
    }

    fn problems(&self) -> Vec<String> {
        self.intake.problems.texts()
    }
}

#[test]
fn a_second_list_tells_only_the_difference() {
    let mut case = Case::of(&[Topic::Namespace]);
    assert_eq!(case.list(Topic::Namespace, ["a", "b"].map(namespace)), ["+Namespace a", "+Namespace b"]);
    assert_eq!(case.hear(Topic::Namespace, [Word::Apply(namespace("c"))]), ["+Namespace c"]);
    assert_eq!(case.list(Topic::Namespace, ["b", "c"].map(namespace)), ["-Namespace a"]);
    assert_eq!(case.hear(Topic::Namespace, [Word::Delete(namespace("b"))]), ["-Namespace b"]);
    let broken_off = [Word::Begin, Word::Listed(namespace("d"))];
    assert_eq!(
        case.hear(Topic::Namespace, broken_off),
        ["+Namespace d"],
        "nothing is gone before the list is done"
    );
}

#[test]
fn a_cluster_is_complete_when_all_that_is_needed_was_listed() {
    let mut case = Case::of(&[Topic::Node, Topic::Service, Topic::ServiceExport]);
    assert!(!case.is_complete());
    case.list(Topic::Service, []);
    case.hear(Topic::Node, [broken("denied")]);
    assert!(!case.is_complete());
    assert_eq!(case.intake.deaf_since(), None, "Nodes are optional");
    case.hear(Topic::ServiceExport, [Word::Absent]);
    assert!(case.is_complete(), "no CRD, no exports");
    assert!(case.problems()[1].contains("does not serve serviceexports.multicluster.x-k8s.io"));
    case.list(Topic::ServiceExport, []);
    assert_eq!(case.problems(), ["denied"], "the CRD is there");
}

/// ClusterPeers are optional: where their CRD lacks, or nobody may read them, all else counts. But who may is waited for, so
/// that no cluster is up that people drained.
#[test]
fn peers_of_the_own_cluster_are_waited_for_as_long_as_that_helps() {
    let topics = [Topic::ServiceImport, Topic::ClusterPeer];
    let peer = |state: &str| {
        raw(&format!(
            r#"{{"metadata": {{"name": "west", "annotations": {{"portolan.dev/state": "{state}"}}}}, "spec": {{"clusterId": "lima"}}}}"#
        ))
    };
    let case = || {
        let mut case = Case::of(&topics);
        case.list(Topic::ServiceImport, []);
        assert!(!case.is_complete(), "nobody knows who is drained");
        case
    };
    let mut absent = case();
    absent.hear(Topic::ClusterPeer, [Word::Absent]);
    assert!(absent.is_complete());
    assert_eq!(absent.problems(), [""; 0], "a cluster that names no others is none the worse");
    let mut denied = case();
    denied.hear(Topic::ClusterPeer, [Word::Denied("may not list clusterpeers".to_owned())]);
    assert!(denied.is_complete());
    assert_eq!(
        (denied.problems(), denied.intake.deaf_since()),
        (vec!["may not list clusterpeers".into()], None)
    );
    let mut good = case();
    assert_eq!(good.list(Topic::ClusterPeer, [peer("drain")]), ["+ClusterPeer west"]);
    assert!(good.is_complete());
    assert_eq!(good.hear(Topic::ClusterPeer, [Word::Apply(peer("drained"))]), [""; 0], "it stays drained");
    let problem = good.problems().remove(0);
    assert!(problem.contains("west: metadata.annotations[portolan.dev/state]: `drained`"), "{problem}");
    assert!(problem.ends_with("what was known of it holds"), "{problem}");
    assert_eq!(
        good.list(Topic::ClusterPeer, [peer("drained")]),
        [""; 0],
        "nor does another list take it back"
    );
    assert_eq!(good.hear(Topic::ClusterPeer, [Word::Apply(peer("up"))]), ["+ClusterPeer west"]);
    assert_eq!(good.problems(), [""; 0]);
    let nameless = raw(r#"{"metadata": {"name": "west"}, "spec": {}}"#);
    assert_eq!(good.hear(Topic::ClusterPeer, [Word::Apply(nameless)]), ["-ClusterPeer west"]);
}

/// The word is only said after two looks at a server that says what it serves (see the watch's tests).
#[test]
fn an_absent_kind_takes_away_what_was_known() {
    let mut case = Case::of(&[Topic::ServiceExport]);
    case.list(Topic::ServiceExport, [export("shop", "web")]);
    assert_eq!(case.hear(Topic::ServiceExport, [broken("404")]), [""; 0]);
    assert_eq!(case.hear(Topic::ServiceExport, [Word::Absent]), ["-ServiceExport shop/web"]);
}

#[test]
fn what_can_not_be_watched_makes_us_deaf_until_it_can() {
    let mut case = Case::of(&[Topic::Service]);
    let began = case.now;
    case.hear(Topic::Service, [broken("refused")]);
    case.now += Duration::from_secs(5);
    case.hear(Topic::Service, [broken("still refused")]);
    assert_eq!((case.intake.deaf_since(), case.problems()), (Some(began), vec!["still refused".into()]));
    case.hear(Topic::Service, [Word::Mended]);
    assert_eq!((case.intake.deaf_since(), case.problems()), (None, vec![]));
}

#[test]
fn a_broken_object_keeps_its_last_good_version() {
    let mut case = Case::of(&[Topic::ServiceExport]);
    let good = || export("shop", "web");
    let bad = || raw(r#"{"metadata": {"namespace": "shop", "name": "web", "creationTimestamp": "soon"}}"#);
    case.list(Topic::ServiceExport, [good()]);
    assert_eq!(case.hear(Topic::ServiceExport, [Word::Apply(bad())]), [""; 0]);
    assert!(case.problems()[0].starts_with("ServiceExport shop/web: metadata.creationTimestamp: `soon`"));
    assert!(case.problems()[0].ends_with("what was known of it holds"));
    assert_eq!(case.list(Topic::ServiceExport, [bad()]), [""; 0], "it is there");
    assert_eq!(case.problems().len(), 1);
    assert_eq!(case.hear(Topic::ServiceExport, [Word::Apply(good())]), [""; 0]);
    assert_eq!(case.problems(), [""; 0]);
    case.hear(Topic::ServiceExport, [Word::Apply(bad())]);
    assert_eq!(case.list(Topic::ServiceExport, []), ["-ServiceExport shop/web"]);
    assert_eq!(case.problems(), [""; 0], "what is gone is no problem");
    case.list(Topic::ServiceExport, [raw("7"), bad()]);
    assert!(case.problems()[1].ends_with("it is left out"), "{:?}", case.problems());
}

#[test]
fn exports_of_other_namespaces_are_counted_and_dropped() {
    let mut case = Case::of(&[Topic::ServiceExport]);
    let all = || [export("shop", "web"), export("bank", "vault")];
    case.list(Topic::ServiceExport, all());
    let accepted = BTreeSet::from(["shop".to_owned()]);
    case.intake.listen(&[Topic::ServiceExport], Some(&accepted));
    assert_eq!(case.list(Topic::ServiceExport, all()), ["-ServiceExport bank/vault"]);
    assert_eq!(case.intake.refused_exports(), (1, vec!["bank/vault".to_owned()]));
    case.hear(Topic::ServiceExport, [Word::Apply(export("bank", "vault"))]);
    assert_eq!(case.intake.refused_exports().0, 1, "the same again");
    case.hear(Topic::ServiceExport, [Word::Delete(export("bank", "vault"))]);
    assert_eq!(case.intake.refused_exports().0, 0);
}

#[test]
fn a_load_balancers_name_is_resolved_and_told_again_when_it_moves() {
    let mut case = Case::of(&[Topic::Service]);
    case.list(Topic::Service, [balanced("lb.example")]);
    assert_eq!(case.intake.take_wanted_names(), Some(BTreeSet::from(["lb.example".into()])));
    let address = |last| Box::from([IpAddr::from([192, 0, 2, last])]);
    case.intake.resolved("lb.example", Ok(address(1)));
    assert_eq!(case.changes(), ["+Service shop/web"]);
    case.intake.resolved("lb.example", Ok(address(1)));
    assert_eq!(case.changes(), [""; 0], "the same again");
    assert_eq!(case.list(Topic::Service, [balanced("lb.example")]), [""; 0], "what was resolved holds");
    assert_eq!(case.intake.take_wanted_names(), None, "nothing to look up that was not before");
    case.intake.resolved("lb.example", Err("no such name".to_owned()));
    assert_eq!(case.changes(), [""; 0], "last good addresses hold");
    let problem = "host name lb.example of a gateway can't be resolved (Service shop/web): no such name; what it was holds";
    assert_eq!(case.problems(), [problem]);
    case.intake.hear(Topic::Service, Word::Begin, case.now);
    case.intake.resolved("lb.example", Ok(address(2)));
    let gone = case.hear(Topic::Service, [Word::Done]);
    assert_eq!(gone, ["+Service shop/web", "-Service shop/web"], "an address is no sign of life");
    assert_eq!((case.intake.take_wanted_names(), case.problems()), (Some(BTreeSet::new()), vec![]));
}

/// A gateway that is not known yet is not a gateway that is gone: what was written of it before must not be taken back for it.
#[test]
fn a_cluster_is_complete_when_every_name_was_looked_up_once() {
    for answer in [Ok(Box::from([IpAddr::from([192, 0, 2, 1])])), Err("no answer in 5 s".to_owned())] {
        let mut case = Case::of(&[Topic::Service]);
        case.list(Topic::Service, [balanced("lb.example")]);
        assert!(!case.is_complete());
        case.intake.take_wanted_names();
        assert!(!case.is_complete());
        case.intake.resolved("lb.example", answer);
        assert!(case.is_complete(), "with an answer or without");
    }
    let mut case = Case::of(&[Topic::Service]);
    case.list(Topic::Service, [balanced("localhost")]);
    assert!(case.is_complete(), "a name that is never looked up is not waited for");
    assert!(
        case.problems()[0]
            .starts_with("Service shop/web: status.loadBalancer.ingress: `localhost` is neither")
    );
    case.hear(Topic::Service, [Word::Apply(balanced("lb.example"))]);
    assert_eq!(case.problems(), [""; 0]);
}

/// An operator who takes a namespace from a cluster must not depend on that cluster's next word.
#[test]
fn namespaces_that_are_no_longer_accepted_go_at_once() {
    let mut case = Case::of(&[Topic::ServiceExport, Topic::Namespace, Topic::Node]);
    case.list(Topic::ServiceExport, [export("shop", "web"), export("bank", "vault")]);
    case.list(Topic::Namespace, ["shop", "bank"].map(namespace));
    case.list(Topic::Node, [namespace("node-1")]);
    let topics = [Topic::ServiceExport, Topic::Namespace, Topic::Node];
    case.intake.listen(&topics, Some(&BTreeSet::from(["shop".to_owned()])));
    let mut gone = case.changes();
    gone.sort();
    assert_eq!(gone, ["-Namespace bank", "-ServiceExport bank/vault"], "nodes are in no namespace");
    assert_eq!(case.intake.refused_exports(), (1, vec!["bank/vault".to_owned()]));
    case.intake.listen(&topics, None);
    assert_eq!(
        case.list(Topic::ServiceExport, [export("shop", "web"), export("bank", "vault")]),
        ["+ServiceExport bank/vault"]
    );
    assert_eq!(case.intake.refused_exports().0, 0);
}

/// One bad entry does not take the rest of its object away, and is said.
#[test]
fn entries_that_are_left_out_are_told() {
    let mut case = Case::of(&[Topic::EndpointSlice]);
    let slice = |bad: &str| {
        raw(&format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "web-1", "labels": {{"kubernetes.io/service-name": "web"}}}},
                "addressType": "IPv4", "endpoints": [{{"addresses": ["10.0.0.1"]}}, {{"addresses": ["{bad}"]}}]}}"#
        ))
    };
    assert_eq!(case.list(Topic::EndpointSlice, [slice("127.0.0.1")]), ["+EndpointSlice shop/web-1"]);
    let problem = || case.problems();
    assert!(
        problem()[0].starts_with("EndpointSlice shop/web-1: endpoints[1].addresses[0]: 127.0.0.1 can't be")
    );
    case.list(Topic::EndpointSlice, [slice("127.0.0.1")]);
    assert_eq!(case.problems().len(), 1, "still so");
    case.list(Topic::EndpointSlice, [slice("10.0.0.2")]);
    assert_eq!(case.problems(), [""; 0]);
}

/// KEP-2149: the property `cluster.clusterset.k8s.io` is the cluster's id.
#[test]
fn a_cluster_says_its_id() {
    let mut case = Case::of(&[Topic::ClusterProperty]);
    let id = |case: &Case| case.intake.id().map(ToString::to_string);
    assert!(!case.intake.knows_id(case.now, Duration::from_secs(60)));
    case.hear(Topic::ClusterProperty, [broken("refused")]);
    assert!(!case.intake.knows_id(case.now, Duration::from_secs(60)));
    assert!(case.intake.knows_id(case.now, Duration::ZERO), "a conversion webhook may be broken for good");
    case.hear(Topic::ClusterProperty, [broken("denied")]);
    assert!(
        case.intake.knows_id(case.now, Duration::from_secs(60)) && id(&case).is_none(),
        "who may not read it has to do without"
    );
    case.list(Topic::ClusterProperty, [namespace("other"), property("west")]);
    assert_eq!(id(&case).as_deref(), Some("west"));
    case.hear(Topic::ClusterProperty, [Word::Apply(property("west-2"))]);
    assert_eq!(id(&case).as_deref(), Some("west-2"));
    case.list(Topic::ClusterProperty, [property("no id")]);
    assert_eq!(id(&case).as_deref(), Some("west-2"), "broken, so the last good one holds");
    let former = |value: &str| {
        raw(&format!(r#"{{"metadata": {{"name": "id.k8s.io"}}, "spec": {{"value": "{value}"}}}}"#))
    };
    case.list(Topic::ClusterProperty, [property("west"), former("Not valid")]);
    assert_eq!(id(&case).as_deref(), Some("west"), "one that is broken takes no other away");
    case.list(Topic::ClusterProperty, [former("Not valid"), property("west-2")]);
    case.hear(Topic::ClusterProperty, [Word::Apply(property("west")), Word::Delete(property("west"))]);
    assert_eq!(id(&case), None);
}

#[test]
fn kinds_that_are_no_longer_of_interest_are_taken_back() {
    let mut case = Case::of(&[Topic::Namespace, Topic::ServiceExport]);
    case.list(Topic::Namespace, [namespace("a")]);
    case.list(Topic::ServiceExport, [export("shop", "web")]);
    case.intake.listen(&[Topic::Namespace], None);
    assert_eq!(case.changes(), ["-ServiceExport shop/web"]);
    assert_eq!(case.list(Topic::Namespace, [namespace("a")]), [""; 0], "what stays is known");
    case.intake.forget();
    assert_eq!(case.list(Topic::Namespace, [namespace("a")]), ["+Namespace a"]);
}

/// A list that never ends is cut off and begun anew, and a watch can tell of new objects for ever: what is known stays
/// bounded, and what was known before the flood goes on to change.
#[test]
fn what_is_known_of_a_kind_is_bounded() {
    let mut case = Case::of(&[Topic::Namespace]);
    for number in 0..MOST_OBJECTS {
        case.intake.hear(Topic::Namespace, Word::Apply(namespace(&format!("n{number}"))), case.now);
    }
    assert_eq!(case.changes().len(), MOST_OBJECTS);
    assert_eq!(case.hear(Topic::Namespace, [Word::Apply(namespace("more"))]), [""; 0]);
    assert_eq!(case.problems(), ["there are too many namespaces: not all are taken in"]);
    case.hear(Topic::Namespace, [broken("refused"), Word::Mended]);
    assert_eq!(case.problems().len(), 1, "still so");
    assert_eq!(case.hear(Topic::Namespace, [Word::Delete(namespace("n0"))]), ["-Namespace n0"]);
    assert_eq!(case.hear(Topic::Namespace, [Word::Apply(namespace("more"))]), ["+Namespace more"]);
    case.list(Topic::Namespace, [namespace("more")]);
    assert_eq!(case.problems(), [""; 0], "a list told all that there is");
}

/// A proxy before a peer may answer 404 or 500 for Nodes for ever; the own cluster is reached without knowing them.
#[test]
fn nodes_that_can_not_be_read_are_not_waited_for_forever() {
    let mut case = Case::of(&[Topic::Node, Topic::Service]);
    case.list(Topic::Service, []);
    case.hear(Topic::Node, [broken("404")]);
    case.now += Duration::from_secs(29);
    assert!(!case.is_complete());
    case.now += Duration::from_secs(1);
    assert!(case.is_complete());
    let mut own = Case::of(&[Topic::Node, Topic::Service]);
    own.intake.own = true;
    own.list(Topic::Service, []);
    assert!(own.is_complete());
}

/// Look-ups that hang must not have a cluster count as unknown for long; what is written of gateways that are not known is
/// kept anyway. The own cluster's are for clients outside only, and nobody waits for them.
#[test]
fn names_that_hang_are_waited_for_a_moment_only() {
    let mut case = Case::of(&[Topic::Service]);
    case.list(Topic::Service, [balanced("lb.example")]);
    case.intake.take_wanted_names();
    case.now += NAMES - Duration::from_secs(1);
    assert!(!case.is_complete());
    case.now += Duration::from_secs(1);
    assert!(case.is_complete());
    let mut own = Case::of(&[Topic::Service]);
    own.intake.own = true;
    own.list(Topic::Service, [balanced("lb.example")]);
    assert!(own.is_complete());
    assert_eq!(own.intake.take_wanted_names(), Some(["lb.example".into()].into()));
    own.intake.resolved("lb.example", Ok([IpAddr::from([192, 0, 2, 1])].into()));
    assert_eq!(own.changes(), ["+Service shop/web"]);
}

#[test]
fn late_answers_about_names_that_nobody_wants_are_no_problem() {
    let mut case = Case::of(&[Topic::Service]);
    case.list(Topic::Service, [balanced("lb.example")]);
    case.intake.take_wanted_names();
    case.list(Topic::Service, []);
    case.intake.take_wanted_names();
    case.intake.resolved("lb.example", Err("no answer in 5 s".to_owned()));
    assert_eq!(case.problems(), [""; 0]);
}

/// What is left out of the table is not kept for its names either.
#[test]
fn objects_that_are_left_out_have_no_names() {
    let mut case = Case::of(&[Topic::Service]);
    for number in 0..MOST_OBJECTS {
        let json = format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "s{number}"}}, "spec": {{"clusterIP": "10.0.0.1"}}}}"#
        );
        case.intake.hear(Topic::Service, Word::Apply(raw(&json)), case.now);
    }
    case.hear(Topic::Service, [Word::Apply(balanced("lb.example"))]);
    assert_eq!(case.intake.take_wanted_names(), None);
}

/// A cluster may tell of ever new exports in namespaces that are not accepted.
#[test]
fn exports_that_are_refused_are_remembered_up_to_a_limit() {
    let mut case = Case::of(&[Topic::ServiceExport]);
    case.intake.listen(&[Topic::ServiceExport], Some(&BTreeSet::new()));
    for number in 0..MOST_REFUSED + 9 {
        case.hear(Topic::ServiceExport, [Word::Apply(export("bank", &format!("e{number}")))]);
    }
    assert_eq!(case.intake.refused_exports().0, MOST_REFUSED);
}
