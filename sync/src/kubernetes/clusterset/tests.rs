//! Tables of candidates.

use super::*;

/// `own` or `p`, then: `u=` the UID of who answers, `i=` the id that it gives itself, `!` it gives itself none, `c=` the
/// configured id, `U=` and `I=` the pinned ones, `h=` what the table holds of it, `n=` a namespace that its exports are
/// accepted in, `+` synced, `-` withdrawn.
fn candidate(text: &str) -> Candidate {
    let mut candidate = Candidate::default();
    let id = |text: &str| ClusterId::new(text).unwrap();
    for word in text.split_whitespace() {
        let identity = &mut candidate.identity;
        match (word, word.split_once('=')) {
            ("own", _) => identity.own = true,
            ("p", _) => {}
            ("!", _) => identity.asked = true,
            ("+", _) => candidate.synced = true,
            ("-", _) => candidate.withdrawn = true,
            (_, Some(("u", uid))) => identity.said_uid = Some(uid.to_owned()),
            (_, Some(("i", said))) => (identity.said_id, identity.asked) = (Some(id(said)), true),
            (_, Some(("c", configured))) => identity.configured = Some(id(configured)),
            (_, Some(("U", uid))) => identity.pinned_uid = Some(uid.to_owned()),
            (_, Some(("I", pinned))) => {
                (identity.pinned_id, candidate.hint) = (Some(id(pinned)), Some(id(pinned)));
            }
            (_, Some(("n", namespace))) => {
                candidate.accepted.get_or_insert_default().insert(namespace.to_owned());
            }
            (_, Some(("h", held))) => candidate.holds = [id(held)].into(),
            _ => panic!("{text}: {word}"),
        }
    }
    candidate
}

fn candidates(texts: &[&str]) -> Vec<Candidate> {
    texts.iter().map(|text| candidate(text)).collect()
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Wait => "wait".to_owned(),
        Verdict::Follow(id) => id.to_string(),
        Verdict::Own => "own".to_owned(),
        Verdict::Duplicate(of, Likeness::Cluster(_)) => format!("cluster={of}"),
        Verdict::Duplicate(of, Likeness::Id(_)) => format!("id={of}"),
    }
}

fn judged(cases: &[(&str, &[&str], &str)]) {
    for (case, entries, expected) in cases {
        let verdicts: Vec<_> = judge(&candidates(entries)).iter().map(verdict).collect();
        assert_eq!(verdicts.join(" "), *expected, "{case}");
    }
}

#[test]
fn every_cluster_is_followed_once() {
    judged(&[
        ("nobody is known yet", &["own", "p", "p"], "wait wait wait"),
        ("all differ", &["own u=1 i=a", "p u=2 i=b", "p u=3 i=c"], "a b c"),
        ("a peer is the own cluster", &["own u=1 i=a", "p u=1 i=a", "p u=1 i=z"], "a own own"),
        ("another cluster claims the own id", &["own u=1 i=a", "p u=2 i=a"], "a id=0"),
        ("two peers are one cluster", &["own u=1 i=a", "p u=2 i=b", "p u=2 i=b"], "a b cluster=1"),
        ("two peers are one cluster under two ids", &["p u=2 i=b", "p u=2 i=c"], "b cluster=0"),
        ("who is followed stays so", &["p u=2 i=b", "p u=3 i=b U=3 I=b h=b"], "id=1 b"),
        ("who had the id stays so", &["p u=2 i=b", "p u=3 i=b U=3 I=b"], "id=1 b"),
        ("the own cluster waits until a peer lets go", &["own u=1 i=a", "p u=1 i=a U=1 I=a h=a"], "wait own"),
        ("an id changes hands", &["p u=1 i=b c=b h=c", "p u=2 i=c"], "b wait"),
        ("UIDs that can't be read tell nothing", &["p i=b", "p i=c"], "b c"),
        ("who says no id has the configured one", &["p u=2 ! c=b", "p u=3 !"], "b wait"),
        ("who says no id any more has the pinned one", &["p u=2 ! U=2 I=b"], "b"),
        ("what a configured id is, is not known before it was asked", &["p u=2 c=b"], "wait"),
        ("the own cluster is who it says it is", &["own u=1 i=a c=z U=9 I=y h=y"], "a"),
        ("the operator gives a followed cluster another id", &["p u=2 i=c c=c U=2 I=b h=b"], "c"),
    ]);
}

/// An id or a UID is its owner's while that one can't be heard, and whoever answers in its place is a stranger.
#[test]
fn nobody_takes_the_place_of_another() {
    judged(&[
        // The owner is silent: claims of others.
        ("of its id", &["p u=2 i=west", "p U=1 I=west"], "id=1 wait"),
        ("of its UID, under any id", &["p u=1 i=east", "p U=1 I=west"], "cluster=1 wait"),
        ("of an id that it only has by configuration", &["p u=2 i=west", "p c=west"], "id=1 wait"),
        (
            "by one that is followed under its own id",
            &["p u=2 i=west U=2 I=east h=east", "p U=1 I=west"],
            "east wait",
        ),
        ("by one that was, before a restart", &["p u=2 i=west U=2 I=east", "p U=1 I=west"], "wait wait"),
        (
            "of its UID by one that is followed",
            &["p u=1 i=east U=2 I=east h=east", "p U=1 I=west"],
            "east wait",
        ),
        // The owner is back.
        ("it is followed", &["p u=2 i=west", "p u=1 i=west U=1 I=west"], "id=1 west"),
        ("beside a stranger", &["p u=2 i=west U=2 I=east", "p u=1 i=west U=1 I=west"], "wait west"),
        // West's kubeconfig is in east's Secret.
        ("both go on", &["p u=1 i=west U=2 I=east h=east", "p u=1 i=west U=1 I=west h=west"], "east west"),
        (
            "east is held back after a restart",
            &["p u=1 i=west U=2 I=east", "p u=1 i=west U=1 I=west"],
            "wait west",
        ),
        ("at first: only the ids tell", &["p u=1 i=west c=east", "p u=1 i=west c=west"], "wait west"),
        // The cluster was rebuilt behind its address.
        ("without a word on its id", &["p u=9 ! U=2 I=east h=east"], "east"),
        ("with the same id", &["p u=9 i=east U=2 I=east"], "wait"),
        ("under a new entry the id is still the old one's", &["p U=2 I=east", "p u=9 i=east"], "wait id=0"),
        // What it says against what is configured.
        ("the configured id is another", &["p u=2 i=west c=east"], "wait"),
        ("what was known under it holds", &["p u=2 i=west c=east U=2 I=east h=east"], "east"),
    ]);
}

/// Role, whether the peers are known, entries → home, expected, heard.
#[test]
fn the_table_hears_what_it_may_rely_on() {
    use Role::{Controller as C, Server as S};
    let own = "own u=1 i=a h=a +";
    let cases: [(&str, Role, bool, &[&str], &str); 18] = [
        ("own alone, unknown", S, true, &["own"], "home - expect - hear only "),
        ("own alone, not read", S, true, &["own c=a"], "home - expect - hear only "),
        ("own alone", S, true, &[own], "home a expect a hear only "),
        ("direct, one is unknown", S, true, &["p u=2 i=b h=b +", "p"], "home - expect - hear only b"),
        (
            "direct, one is not synced",
            S,
            true,
            &["p u=2 i=b h=b +", "p u=3 i=c"],
            "home - expect b,c hear only b",
        ),
        ("direct, one is down", S, true, &["p u=2 i=b h=b +", "p I=c"], "home - expect b,c hear only b"),
        ("direct, one is gone", S, true, &["p u=2 i=b h=b +", "p I=c -"], "home - expect b hear only b,c"),
        ("direct, a duplicate", S, true, &["p u=2 i=b h=b +", "p u=2 i=b"], "home - expect b hear only b"),
        ("own and direct", S, true, &[own, "p u=3 i=b"], "home a expect a,b hear only a"),
        ("peers are not known", C, false, &[own], "home a expect a hear only a"),
        ("no peers", C, true, &[own], "home a expect a hear but "),
        ("own is not synced", C, true, &["own u=1 i=a"], "home a expect a hear but a"),
        ("a peer that was heard before", C, true, &[own, "p I=b"], "home a expect a hear but b"),
        (
            "a peer that nobody knows",
            C,
            true,
            &[own, "p u=2 i=b h=b +", "p"],
            "home a expect a hear only a,b",
        ),
        ("a peer that is gone", C, true, &[own, "p I=b -"], "home a expect a hear but "),
        ("a stranger in its place", C, true, &[own, "p u=9 i=z U=2 I=b"], "home a expect a hear but b"),
        ("a claimant of its id", C, true, &[own, "p u=9 i=b", "p U=2 I=b"], "home a expect a hear but b"),
        (
            "a peer with a new id, until it is read: others tell of it by the old one",
            C,
            true,
            &[own, "p u=2 i=c c=c U=2 I=b"],
            "home a expect a hear but b,c",
        ),
    ];
    let list = |ids: &BTreeSet<ClusterId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for (case, role, told, entries, expected) in cases {
        let candidates = candidates(entries);
        let Announcement { home, expected: awaited, hearing, .. } =
            announce(role, &candidates, &judge(&candidates), told);
        let home = home.map_or("-".to_owned(), |id| id.to_string());
        let awaited = awaited.as_ref().map_or("-".to_owned(), list);
        let hearing = match &hearing {
            Hearing::Only(ids) => format!("only {}", list(ids)),
            Hearing::AllBut(ids) => format!("but {}", list(ids)),
        };
        assert_eq!(format!("home {home} expect {awaited} hear {hearing}"), expected, "{case}");
    }
}

/// Entries → id and namespaces of those that may not speak for all.
#[test]
fn it_is_told_who_may_speak_for_what() {
    let cases: [(&str, &[&str], &str); 5] = [
        ("all may", &["p u=2 i=b +", "p I=c"], ""),
        ("one is heard, one is silent", &["p u=2 i=b n=x +", "p I=c n=y n=z"], "b: x; c: y z"),
        ("a stranger is silent for whom it stands in", &["p u=9 i=z U=2 I=b n=x"], "b: x"),
        ("by its new id and by the old one", &["p u=2 i=c c=c U=2 I=b n=x"], "b: x; c: x"),
        ("a duplicate limits nobody", &["p u=2 i=b h=b +", "p u=2 i=b n=x"], ""),
    ];
    for (case, entries, expected) in cases {
        let candidates = candidates(entries);
        let told = announce(Role::Controller, &candidates, &judge(&candidates), true).accepted;
        let text = |(id, names): (&ClusterId, &BTreeSet<String>)| {
            format!("{id}: {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(told.iter().map(text).collect::<Vec<_>>().join("; "), expected, "{case}");
    }
}

#[test]
fn only_news_are_announced() {
    let first = Announcement { home: ClusterId::new("a").ok(), ..Announcement::default() };
    assert_eq!(first.news(&Announcement::default()), [Event::Home(first.home.clone())]);
    let second = Announcement { expected: Some(BTreeSet::new()), ..first.clone() };
    assert_eq!(second.news(&first), [Event::Expect(BTreeSet::new())]);
    assert_eq!(second.news(&second), []);
    assert_eq!(Announcement::default().news(&second), [], "what is not known any more holds");
    let limited =
        Announcement { accepted: [(ClusterId::new("b").unwrap(), BTreeSet::new())].into(), ..first.clone() };
    assert_eq!(limited.news(&first), [Event::Accept(limited.accepted.clone())]);
    assert_eq!(first.news(&limited), [Event::Accept(BTreeMap::new())], "nor is a limit that is no more");
    let heard =
        Announcement { hearing: Hearing::Only(first.home.clone().into_iter().collect()), ..first.clone() };
    assert_eq!(
        first.news(&heard),
        [Event::Hear(Hearing::default())],
        "that nobody is heard any more but by home's imports is told, too"
    );
}
