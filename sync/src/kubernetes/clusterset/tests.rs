//! Tables of candidates.

use super::*;

/// `name/uid/id/hint/holds` with `+` for synced and `-` for withdrawn after it; empty for unknown.
fn candidate(text: &str) -> Candidate {
    let flags = text.trim_start_matches(|c| c != '+' && c != '-');
    let mut parts = text.trim_end_matches(['+', '-']).split('/');
    let own = parts.next() == Some("own");
    let uid = parts.next().filter(|t| !t.is_empty()).map(str::to_owned);
    let mut id = || parts.next().filter(|t| !t.is_empty()).map(|t| ClusterId::new(t).unwrap());
    let (id, hint, holds) = (id(), id(), id().into_iter().collect());
    Candidate { own, uid, id, hint, holds, synced: flags.contains('+'), withdrawn: flags.contains('-') }
}

fn candidates(texts: &[&str]) -> Vec<Candidate> {
    texts.iter().map(|text| candidate(text)).collect()
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Wait => "wait".to_owned(),
        Verdict::Follow(id) => id.to_string(),
        Verdict::Own => "own".to_owned(),
        Verdict::Duplicate(of) => format!("={of}"),
    }
}

#[test]
fn every_cluster_is_followed_once() {
    let cases: [(&str, &[&str], &str); 11] = [
        ("nobody is known yet", &["own", "p", "p"], "wait wait wait"),
        ("all differ", &["own/u1/a", "p/u2/b", "p/u3/c"], "a b c"),
        ("a peer is the own cluster", &["own/u1/a", "p/u1/a", "p/u1/z"], "a own own"),
        ("another cluster claims the own id", &["own/u1/a", "p/u2/a"], "a =0"),
        ("two peers are one cluster", &["own/u1/a", "p/u2/b", "p/u2/b"], "a b =1"),
        ("two peers are one cluster under two ids", &["p/u2/b", "p/u2/c"], "b =0"),
        ("who is followed stays so", &["p/u2/b", "p/u3/b//b"], "=1 b"),
        ("who had the id stays so", &["p/u2/b", "p/u3/b/b"], "=1 b"),
        ("the own cluster waits until a peer lets go of its id", &["own/u1/a", "p/u1/a//a"], "wait own"),
        ("an id changes hands", &["p/u1/b//c", "p/u2/c"], "b wait"),
        ("UIDs that can't be read tell nothing", &["p//b", "p//c"], "b c"),
    ];
    for (case, entries, expected) in cases {
        let verdicts: Vec<_> = judge(&candidates(entries)).iter().map(verdict).collect();
        assert_eq!(verdicts.join(" "), expected, "{case}");
    }
}

/// Role, whether the peers are known, entries → home, expected, heard.
#[test]
fn the_table_hears_what_it_may_rely_on() {
    use Role::{Controller as C, Server as S};
    let cases: [(&str, Role, bool, &[&str], &str); 14] = [
        ("own alone, unknown", S, true, &["own"], "home - expect - hear -"),
        ("own alone", S, true, &["own/u/a//a+"], "home a expect a hear -"),
        ("direct, one is unknown", S, true, &["p/u/b//b+", "p"], "home - expect - hear only b"),
        ("direct, one is not synced", S, true, &["p/u/b//b+", "p/v/c"], "home - expect b,c hear only b"),
        ("direct, one is down", S, true, &["p/u/b//b+", "p///c"], "home - expect b,c hear only b"),
        ("direct, one is gone", S, true, &["p/u/b//b+", "p///c-"], "home - expect b hear only b,c"),
        ("direct, a duplicate", S, true, &["p/u/b//b+", "p/u/b"], "home - expect b hear only b"),
        ("own and direct", S, true, &["own/u/a//a+", "p/v/b"], "home a expect a,b hear only a"),
        ("peers are not known", C, false, &["own/u/a//a+"], "home a expect a hear only a"),
        ("no peers", C, true, &["own/u/a//a+"], "home a expect a hear but "),
        ("own is not synced", C, true, &["own/u/a"], "home a expect a hear but a"),
        ("a peer that was heard before", C, true, &["own/u/a//a+", "p///b"], "home a expect a hear but b"),
        (
            "a peer that nobody knows",
            C,
            true,
            &["own/u/a//a+", "p/v/b//b+", "p"],
            "home a expect a hear only a,b",
        ),
        ("a peer that is gone", C, true, &["own/u/a//a+", "p///b-"], "home a expect a hear but "),
    ];
    let list = |ids: &BTreeSet<ClusterId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for (case, role, told, entries, expected) in cases {
        let candidates = candidates(entries);
        let Announcement { home, expected: awaited, hearing } =
            announce(role, &candidates, &judge(&candidates), told);
        let home = home.map_or("-".to_owned(), |id| id.to_string());
        let awaited = awaited.as_ref().map_or("-".to_owned(), list);
        let hearing = match &hearing {
            None => "-".to_owned(),
            Some(Hearing::Only(ids)) => format!("only {}", list(ids)),
            Some(Hearing::AllBut(ids)) => format!("but {}", list(ids)),
        };
        assert_eq!(format!("home {home} expect {awaited} hear {hearing}"), expected, "{case}");
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
}
