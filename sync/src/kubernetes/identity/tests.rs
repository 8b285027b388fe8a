//! Who answers → what people are told. Which entry is followed is in the tables of [`clusterset`](super::super::clusterset).

use super::*;

fn id(text: &str) -> Option<ClusterId> {
    ClusterId::new(text).ok()
}

fn pinned() -> Identity {
    let pinned = Pinned { id: id("west"), uid: Some("1".to_owned()), object: None };
    let mut identity = Identity::new(false, None, &pinned);
    identity.asked = true;
    identity
}

#[test]
fn a_stranger_is_said_to_be_one_with_what_to_do() {
    let answers = |uid: &str, said: &str, configured: &str| {
        let mut identity = pinned();
        identity.answers(Some(&uid.to_owned()));
        (identity.said_id, identity.configured) = (id(said), id(configured));
        identity
    };
    let cases: [(Identity, &[&str]); 8] = [
        (answers("1", "west", ""), &[]),
        (answers("1", "west", "west"), &[]),
        (answers("1", "", ""), &["it has no ClusterProperty", "taken for `west` as before"]),
        (answers("1", "", "west"), &[]),
        (
            answers("2", "west", ""),
            &[
                "another cluster than before (UID 2, was 1)",
                "what was known holds",
                "delete the ClusterPeer and create it",
            ],
        ),
        (
            answers("1", "east", ""),
            &["another cluster than before (id `east`", "was `west`", "set spec.clusterId to `east`"],
        ),
        (
            answers("1", "east", "west"),
            &["says `east`, and spec.clusterId says `west`", "correct one of them"],
        ),
        // The operator says that it is called otherwise now: that is no stranger.
        (answers("1", "east", "east"), &[]),
    ];
    for (identity, words) in cases {
        let text = identity.problem(Some(Origin::ClusterPeer)).unwrap_or_default();
        assert!(words.iter().all(|word| text.contains(word)), "{identity:?}: {text}");
        assert_eq!(words.is_empty(), text.is_empty(), "{identity:?}: {text}");
    }
    let of_a_file = answers("2", "west", "").problem(Some(Origin::Kubeconfig)).unwrap();
    assert!(of_a_file.contains("take it out of the configuration") && !of_a_file.contains("ClusterPeer"));
}

/// A UID that can't be read is no other one, and what is first known of it is what it is held to.
#[test]
fn an_entry_is_held_to_whom_it_was_first_followed_as() {
    let mut identity = Identity::new(false, None, &Pinned::default());
    identity.answers(None);
    (identity.said_id, identity.asked) = (id("west"), true);
    assert_eq!(identity.claim(), id("west").as_ref());
    identity.pin(&id("west").unwrap());
    identity.answers(Some(&"1".to_owned()));
    identity.pin(&id("west").unwrap());
    assert_eq!(identity.stranger(), None);
    identity.answers(None);
    assert_eq!(identity.stranger(), None);
    identity.answers(Some(&"2".to_owned()));
    assert_eq!(identity.stranger(), Some(Stranger::Uid { is: "2".to_owned(), was: "1".to_owned() }));
    assert_eq!((identity.claim(), identity.uid()), (None, Some(&"1".to_owned())));
}

/// Another cluster's kubeconfig was in the Secret, and is corrected: neither the id nor the UID of who answered before
/// speaks against who answers now.
#[test]
fn who_is_met_anew_is_judged_by_their_own_words_only() {
    let wrong = |uid: Option<&str>| {
        let mut identity = Identity { configured: id("east"), ..pinned() };
        identity.pinned_uid = uid.map(str::to_owned);
        identity.answers(Some(&"9".to_owned()));
        identity.said_id = id("west");
        assert!(identity.stranger().is_some());
        identity
    };
    for pinned in [None, Some("1")] {
        for uid in [None, Some("1".to_owned())] {
            let mut identity = wrong(pinned);
            identity.meets(uid);
            assert_eq!((identity.stranger(), identity.claim()), (None, None), "and nothing is claimed yet");
            (identity.said_id, identity.asked) = (id("east"), true);
            assert_eq!(identity.claim(), id("east").as_ref());
        }
    }
    let mut identity = wrong(Some("1"));
    identity.meets(Some("2".to_owned()));
    assert!(matches!(identity.stranger(), Some(Stranger::Uid { .. })));
}
