//! What the sources say → which clusters are followed, and what people are told. No API server.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::raw::Raw;

fn raw(object: &Value) -> Raw {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// All objects of a kind, as one list.
fn listed(objects: &[Value]) -> Vec<Word> {
    let objects = objects.iter().map(|object| Word::Listed(raw(object)));
    std::iter::once(Word::Begin).chain(objects).chain([Word::Done]).collect()
}

fn cluster_peer(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("credentials").is_none() {
        spec["credentials"] = json!({ "secret": { "name": name } });
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn kubeconfig(token: &str, user: &str) -> String {
    format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
         users: [{{name: u, user: {{token: {token}, {user}}}}}]\n"
    )
}

fn secret(name: &str, key: &str, text: &str) -> Value {
    let text = k8s_openapi::ByteString(text.as_bytes().to_vec());
    json!({ "metadata": { "namespace": "portolan-system", "name": name }, "data": { key: text } })
}

struct Sources(Inventory);

impl Sources {
    fn new(peers: &[Value]) -> Self {
        let mut inventory = Inventory::new("portolan-system".to_owned(), true, true);
        inventory.files = Some(Vec::new());
        let mut sources = Self(inventory);
        listed(&[]).into_iter().for_each(|word| sources.0.hear_profile(word));
        sources.peers(peers);
        sources
    }

    fn peers(&mut self, peers: &[Value]) {
        listed(peers).into_iter().for_each(|word| self.0.hear_cluster_peer(word));
        self.0.name_secrets();
    }

    fn profiles(&mut self, profiles: &[Value]) {
        listed(profiles).into_iter().for_each(|word| self.0.hear_profile(word));
        self.0.name_secrets();
    }

    /// What the API server says of a Secret: there is none, or it is this.
    fn secret(&mut self, name: &str, object: Option<Value>) {
        let name = ("portolan-system".to_owned(), name.to_owned());
        let objects: Vec<_> = object.into_iter().collect();
        listed(&objects).into_iter().for_each(|word| self.0.hear_secret(&name, word));
    }

    fn list(&mut self) -> PeerList {
        self.0.list().expect("nothing is awaited")
    }
}

/// `token` for credentials that hold it, `problem: …` for none.
fn access(config: &PeerConfig) -> String {
    match &config.access {
        Access::Kubeconfig { yaml, .. } => yaml
            .split_once("token")
            .map_or("none", |(_, rest)| rest)
            .split(['"', ' ', ',', '}'])
            .find(|word| word.len() > 1)
            .unwrap_or_default()
            .to_owned(),
        Access::Unknown { problem } => format!("problem: {problem}"),
        other => format!("{other:?}"),
    }
}

fn problems(list: &PeerList) -> String {
    list.problems.iter().map(|problem| format!("{}: {}\n", problem.name, problem.text)).collect()
}

#[test]
fn a_cluster_peer_is_followed_with_the_kubeconfig_of_its_secret() {
    let mut sources = Sources::new(&[cluster_peer(
        "west",
        json!({ "clusterId": "west.example", "network": "n1", "namespaces": ["shop"], "staleAfter": "1m", "withdrawAfter": "never" }),
    )]);
    assert!(sources.0.is_pending(), "its Secret has not been read");
    // Should that take too long, it is there all the same, and nobody else has to wait.
    let list = sources.list();
    assert!(list.complete && access(&list.peers[0]).ends_with("has not been read yet"), "{list:?}");
    sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
    assert!(!sources.0.is_pending());
    let list = sources.list();
    let [west] = &list.peers[..] else { panic!("{list:?}") };
    assert_eq!((&*west.name, west.origin, &*access(west)), ("west", Origin::ClusterPeer, "t1"));
    assert_eq!(west.id, ClusterId::new("west.example").ok());
    assert_eq!((&*west.network, west.stale_after.as_secs(), west.withdraw_after), ("n1", 60, None));
    assert_eq!(west.namespaces, Some(["shop".to_owned()].into()));
    assert!(list.complete && list.problems.is_empty());
}

/// Each tells what is missing and of what, what to do, and no credentials.
#[test]
fn credentials_that_cant_be_used_leave_a_cluster_that_cant_be_heard() {
    let exec = kubeconfig("s3cr3t", "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}");
    let cases = [
        (None, "Secret portolan-system/west is missing: create it"),
        (Some(secret("west", "config", "s3cr3t")), "has no key `kubeconfig`; its keys are: config"),
        (Some(secret("west", "kubeconfig", "users: {s3cr3t")), "is no kubeconfig"),
        (Some(secret("west", "kubeconfig", &exec)), "runs a program for its credentials (exec)"),
    ];
    for (object, expected) in cases {
        let mut sources = Sources::new(&[cluster_peer("west", json!({}))]);
        sources.secret("west", object);
        let list = sources.list();
        let text = problems(&list);
        assert!(text.starts_with("west: ") && text.contains(expected), "{text}");
        // It is there: its endpoints must not be judged gone.
        assert!(access(&list.peers[0]).contains(expected), "{list:?}");
        assert!(!format!("{list:?}").contains("s3cr3t"), "{list:?}");
    }
}

#[test]
fn exec_is_run_only_where_the_cluster_peer_allows_it() {
    let credentials = json!({ "secret": { "name": "west" }, "allowExec": true });
    let mut sources = Sources::new(&[cluster_peer("west", json!({ "credentials": credentials }))]);
    let exec = kubeconfig("t1", "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}");
    sources.secret("west", Some(secret("west", "kubeconfig", &exec)));
    let list = sources.list();
    assert_eq!((list.problems.len(), &*access(&list.peers[0])), (0, "t1"));
}

/// Nothing known is lost: a Secret that vanishes or breaks is a problem, and the last good one counts on.
#[test]
fn the_last_good_credentials_count_until_there_are_others() {
    let peer = cluster_peer("west", json!({}));
    let mut sources = Sources::new(std::slice::from_ref(&peer));
    let good = |token| Some(secret("west", "kubeconfig", &kubeconfig(token, "")));
    let steps = [
        (good("t1"), "t1", ""),
        (None, "t1", "is missing"),
        (Some(secret("west", "kubeconfig", "nonsense: [")), "t1", "is no kubeconfig"),
        (good("t2"), "t2", ""),
    ];
    for (object, token, problem) in steps {
        sources.secret("west", object);
        let list = sources.list();
        assert_eq!(access(&list.peers[0]), token);
        let text = problems(&list);
        assert!(text.contains(problem) && text.is_empty() == problem.is_empty(), "{text}");
    }
    // A ClusterPeer that was deleted and made anew has nothing to go on.
    sources.peers(&[]);
    assert_eq!(sources.list().peers, []);
    sources.peers(&[peer]);
    sources.secret("west", None);
    assert!(access(&sources.list().peers[0]).contains("is missing"));
}

/// A watch that is refused says nothing about the objects: a ClusterPeer stays, with the reason at hand.
#[test]
fn what_cant_be_read_is_said_and_takes_nothing_away() {
    let mut sources = Sources::new(&[cluster_peer("west", json!({}))]);
    sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
    let before = sources.list();
    sources.0.hear_cluster_peer(Word::Broken("clusterpeers can't be watched: 403".to_owned()));
    let broken = cluster_peer("west", json!({ "namespaces": "shop" }));
    sources.0.hear_cluster_peer(Word::Apply(raw(&broken)));
    let list = sources.list();
    assert_eq!(list.peers, before.peers);
    assert_eq!(list.source_problems, ["clusterpeers can't be watched: 403"]);
    let text = problems(&list);
    assert!(text.starts_with("west: can't be read, and what it was counts on: spec.namespaces: "), "{text}");

    // Nobody has listed anything yet: who is not there is not gone.
    let mut fresh = Inventory::new("portolan-system".to_owned(), true, false);
    fresh.files = Some(Vec::new());
    fresh.hear_cluster_peer(Word::Broken("no answer".to_owned()));
    assert_eq!(fresh.list().map(|list| list.complete), Some(false));
    // No such kind: there is none, and it is said what to install.
    fresh.hear_cluster_peer(Word::Absent);
    let list = fresh.list().unwrap();
    assert!(list.complete && list.source_problems[0].contains("install"), "{list:?}");
}

/// At a cold start there is nothing to go on but what can be read of them: they are there, they can't be heard, and who
/// they were when they were last followed holds. Were they missing, their endpoints would be deleted.
#[test]
fn what_never_could_be_read_is_a_cluster_that_cant_be_heard() {
    let status = json!({ "clusterId": "west-1", "uid": "u1", "exports": "many" });
    let no_credentials = json!({ "metadata": { "name": "west", "uid": "o1" }, "spec": {}, "status": status });
    let mut of_another_version = cluster_peer("west", json!({ "staleAfter": { "seconds": 30 } }));
    of_another_version["metadata"]["uid"] = json!("o1");
    of_another_version["status"] = json!({ "clusterId": "west-1", "uid": "u1" });
    let mut never_followed = cluster_peer("west", json!({ "clusterId": "west-1", "namespaces": "shop" }));
    never_followed["metadata"]["uid"] = json!("o1");
    let cases = [(no_credentials, Some("u1")), (of_another_version, Some("u1")), (never_followed, None)];
    for (object, uid) in cases {
        let mut sources = Sources::new(&[object]);
        let list = sources.list();
        let [west] = &list.peers[..] else { panic!("{list:?}") };
        let pinned = Pinned {
            id: ClusterId::new("west-1").ok(),
            uid: uid.map(str::to_owned),
            object: Some("o1".to_owned()),
        };
        assert_eq!((&west.pinned, west.withdraw_after), (&pinned, None), "{list:?}");
        assert!(list.complete && access(west).starts_with("problem: can't be read: "), "{list:?}");
        assert!(problems(&list).starts_with("west: can't be read: "), "{}", problems(&list));
        // Corrected, it is followed, and is whom it was.
        let mut corrected = cluster_peer("west", json!({}));
        corrected["metadata"]["uid"] = json!("o1");
        sources.peers(&[corrected]);
        sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
        let list = sources.list();
        assert_eq!((&*access(&list.peers[0]), &list.peers[0].pinned), ("t1", &pinned));
    }
    let mut sources = Sources::new(&[]);
    let property = json!({ "name": "cluster.clusterset.k8s.io", "value": "east-1" });
    let status = json!({ "properties": [property], "accessProviders": 7 });
    sources.profiles(&[json!({ "metadata": { "namespace": "fleet", "name": "east" }, "status": status })]);
    let list = sources.list();
    assert_eq!(&*list.peers[0].name, "fleet/east");
    assert_eq!(list.peers[0].pinned.id, ClusterId::new("east-1").ok());
}

/// To delete a ClusterPeer and to create it anew says that it may be another cluster now, even if both are seen at once.
#[test]
fn an_object_that_was_made_anew_is_bound_to_nobody() {
    let made = |uid: &str| {
        let mut peer = cluster_peer("west", json!({}));
        peer["metadata"]["uid"] = json!(uid);
        peer
    };
    let mut followed = made("o1");
    followed["status"] = json!({ "clusterId": "west", "uid": "u1" });
    let mut sources = Sources::new(&[followed]);
    sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
    assert_eq!(sources.list().peers[0].pinned.uid.as_deref(), Some("u1"));
    sources.peers(&[made("o2")]);
    sources.secret("west", None);
    let list = sources.list();
    let object = Some("o2".to_owned());
    assert_eq!(list.peers[0].pinned, Pinned { object, ..Pinned::default() });
    assert!(access(&list.peers[0]).contains("is missing"), "nor are the old credentials of use: {list:?}");
}

/// Our own status writes come back as changes of the ClusterPeer, and must not begin its connection anew.
#[test]
fn a_status_is_no_new_setting() {
    let with_id = |id: &str| {
        let mut peer = cluster_peer("west", json!({}));
        peer["status"] = json!({ "clusterId": id, "exports": 3 });
        peer
    };
    let mut sources = Sources::new(&[with_id("west")]);
    sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
    let before = sources.list();
    assert_eq!(before.peers[0].pinned.id, ClusterId::new("west").ok());
    sources.peers(&[with_id("renamed")]);
    assert_eq!(sources.list(), before);
}

fn profile(providers: &Value) -> Value {
    json!({
        "metadata": { "namespace": "fleet", "name": "west" },
        "spec": { "clusterManager": { "name": "m" } },
        "status": {
            "accessProviders": providers,
            "properties": [{ "name": "cluster.clusterset.k8s.io", "value": "west" }],
        },
    })
}

/// KEP-5339, plugin `secretreader`: Secret `<namespace of the consumer>/<cluster name>`, key `token`; server and CA
/// are the provider's.
#[test]
fn a_cluster_profile_is_followed_with_a_token() {
    let cluster = json!({ "server": "https://127.0.0.1:1", "certificate-authority-data": "Q0E=" });
    let extension =
        json!([{ "name": "client.authentication.k8s.io/exec", "extension": { "clusterName": "other" } }]);
    let mut named = cluster.clone();
    named["extensions"] = extension;
    let cases = [
        (json!([{ "name": "secretreader", "cluster": cluster }]), "west", "t1", ""),
        (json!([{ "name": "secretreader", "cluster": named }]), "other", "t1", ""),
        (
            json!([{ "name": "gcp", "cluster": cluster }]),
            "west",
            "problem: ",
            "status.accessProviders has: gcp",
        ),
        (json!([]), "west", "problem: ", "needs the access provider secretreader"),
    ];
    for (providers, name, expected, problem) in cases {
        let mut sources = Sources::new(&[]);
        sources.profiles(&[profile(&providers)]);
        sources.secret(name, Some(secret(name, "token", "t1\n")));
        let list = sources.list();
        let [west] = &list.peers[..] else { panic!("{list:?}") };
        assert_eq!((&*west.name, west.origin), ("fleet/west", Origin::ClusterProfile));
        assert_eq!(west.id, ClusterId::new("west").ok());
        assert!(access(west).starts_with(expected), "{providers}: {}", access(west));
        assert!(problems(&list).contains(problem), "{providers}: {}", problems(&list));
        if let Access::Kubeconfig { yaml, .. } = &west.access {
            assert!(yaml.contains("Q0E=") && yaml.contains("https://127.0.0.1:1"), "{yaml}");
        }
    }
}

#[test]
fn of_two_with_one_name_the_cluster_peer_is_followed() {
    let mut sources = Sources::new(&[cluster_peer("west", json!({}))]);
    sources.secret("west", Some(secret("west", "kubeconfig", &kubeconfig("t1", ""))));
    let config = nameless("west", Origin::Kubeconfig);
    sources.0.files = Some(vec![File { config, access: Ok(Access::InCluster) }]);
    let list = sources.list();
    assert_eq!(list.peers.len(), 1);
    assert_eq!(list.problems[0].origin, Origin::Kubeconfig);
    assert!(problems(&list).contains("a ClusterPeer has this name, too"), "{}", problems(&list));
}
