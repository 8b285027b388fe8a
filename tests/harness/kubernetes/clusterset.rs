//! Clusters that know each other, each with a controller and a server of ours under exactly the rights that
//! `deploy/` gives them.

use std::net::SocketAddr;
use std::ops::{Deref, Index, IndexMut};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::in_parallel;
use super::part::last_lines;
use super::{Cluster, Options, Proxy, condition, object, with};
use crate::harness::{DYING_WITH_US, Reply, Server, Setup, remove_at_the_end, repository, until_within};

/// The namespace of our own objects.
pub const SYSTEM: &str = "portolan-system";
/// Who the controller is in its own cluster.
pub const CONTROLLER: &str = "system:serviceaccount:portolan-system:portolan-controller";
/// Who the server is in its own cluster.
pub const SERVER: &str = "system:serviceaccount:portolan-system:portolan-server";
/// Who peers' controllers are.
pub const PEER: &str = "system:serviceaccount:portolan-system:portolan-peer";

const PATIENCE: Duration = Duration::from_secs(60);

/// How the members of a clusterset are.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The clusters' ids, and names of the ClusterPeers.
    pub ids: Vec<&'static str>,
    /// Sections of the controllers' configurations beside `kubernetes`.
    pub controller: String,
    /// Sections of the servers' configurations beside `kubernetes`.
    pub server: String,
    /// Merged into the `spec` of each ClusterPeer.
    pub peer: Value,
    /// Whether all ways to API servers lead through a [`Proxy`] of their own: [`Clusterset::proxy`].
    pub proxies: bool,
}

impl Plan {
    /// So many clusters (at most four) with all as by default.
    pub fn new(clusters: usize) -> Self {
        Self {
            ids: ["paris", "tokyo", "lima", "oslo"][..clusters].to_vec(),
            controller: String::new(),
            server: String::new(),
            peer: json!({}),
            proxies: false,
        }
    }
}

/// Clusters by number: `set[0]`.
#[derive(Debug)]
pub struct Clusterset {
    members: Vec<Member>,
    proxies: Vec<Vec<Proxy>>,
}

/// A cluster of a clusterset; the API, with all rights, is what it dereferences to.
#[derive(Debug)]
pub struct Member {
    /// `portolan controller`.
    pub controller: Server,
    /// `portolan serve`.
    pub server: Server,
    /// Its control plane.
    pub cluster: Cluster,
    /// Its id.
    pub id: &'static str,
}

impl Clusterset {
    /// Paris, Tokyo and Lima, which last as long as the tests: for those that break nothing and keep to namespaces of
    /// their own.
    pub fn shared() -> Shared {
        static SHARED: LazyLock<Clusterset> = LazyLock::new(|| {
            let plan = Plan::new(3);
            let ids = plan.ids.clone().into_iter();
            let clusters = in_parallel(ids.map(|id| move || Cluster::start_with(Options::new(id), None)));
            let set = Clusterset::over(clusters, &plan);
            for member in &set.members {
                remove_at_the_end(&member.controller.path(""));
                remove_at_the_end(&member.server.path(""));
            }
            set
        });
        Shared(&SHARED)
    }

    /// One for a test alone.
    pub fn start(plan: &Plan) -> Self {
        Self::over(Cluster::start_all(plan.ids.iter().map(|id| Options::new(id)).collect()), plan)
    }

    /// Installs what `deploy/` has, has the clusters know each other, and starts our programs.
    pub fn over(clusters: Vec<Cluster>, plan: &Plan) -> Self {
        in_parallel(clusters.iter().map(|cluster| move || install(cluster)));
        let proxies = match plan.proxies {
            true => {
                clusters.iter().map(|_| clusters.iter().map(|to| Proxy::start(to.at())).collect()).collect()
            }
            false => Vec::new(),
        };
        for from in 0..clusters.len() {
            for to in (0..clusters.len()).filter(|to| *to != from) {
                let at = proxies.get(from).map_or(clusters[to].at(), |proxies: &Vec<Proxy>| proxies[to].at());
                let kubeconfig = std::fs::read_to_string(clusters[to].kubeconfig_at(PEER, at)).unwrap();
                introduce(&clusters[from], plan.ids[to], &kubeconfig, &plan.peer);
            }
        }
        let at =
            |number: usize| proxies.get(number).map_or(clusters[number].at(), |proxies| proxies[number].at());
        let ways: Vec<_> = (0..clusters.len()).map(at).collect();
        let members = clusters.into_iter().zip(&plan.ids).zip(ways).map(|((cluster, id), way)| {
            move || Member {
                controller: ours(&cluster, CONTROLLER, way, &plan.controller)
                    .for_command("controller")
                    .start(),
                server: ours(&cluster, SERVER, way, &plan.server).start(),
                cluster,
                id,
            }
        });
        let set = Self { members: in_parallel(members), proxies };
        for member in &set.members {
            member.wait_for_peers();
        }
        set
    }

    /// The way that the programs of a cluster take to the API server of another one, or of their own.
    pub fn proxy(&self, from: usize, to: usize) -> &Proxy {
        &self.proxies.get(from).expect("the plan asks for proxies")[to]
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Makes a namespace in all clusters.
    pub fn namespace(&self, name: &str) {
        in_parallel(self.members.iter().map(|member| move || member.namespace(name)));
    }
}

impl Member {
    /// Asks its server with `dig`.
    pub fn dig(&self, words: &str) -> Reply {
        self.server.dig(words)
    }

    /// Data of the answer's records, sorted.
    pub fn answer(&self, words: &str) -> Vec<String> {
        self.dig(words).data()
    }

    fn wait_for_peers(&self) {
        until_within(PATIENCE, &format!("{} has synchronized with its peers", self.id), || {
            let synced =
                |peer| condition(peer, "Synced").is_some_and(|condition| condition["status"] == "True");
            self.list("ClusterPeer", "", "").iter().all(synced).then_some(())
        });
    }
}

/// Has a cluster know another one, by a ClusterPeer and its Secret, both named like the other.
pub fn introduce(cluster: &Cluster, peer: &str, kubeconfig: &str, spec: &Value) {
    let secret = object("v1", "Secret", SYSTEM, peer);
    cluster.put(&with(secret, json!({ "stringData": { "kubeconfig": kubeconfig } })));
    let known = json!({ "spec": { "credentials": { "secret": { "name": peer } } } });
    let known = with(object("portolan.dev/v1alpha1", "ClusterPeer", "", peer), known);
    cluster.put(&with(known, json!({ "spec": spec })));
}

/// Applies what people apply who install Portolan. Its Deployments stay without Pods: there is nobody to run them.
pub fn install(cluster: &Cluster) {
    for folder in ["deploy/crds", "deploy/kubernetes"] {
        let mut files: Vec<_> = std::fs::read_dir(repository().join(folder))
            .unwrap_or_else(|error| panic!("{folder}: {error}"))
            .map(|entry| entry.unwrap().path())
            .filter(|file| file.extension().is_some_and(|end| end == "yaml"))
            .collect();
        files.sort();
        for file in files {
            cluster.apply(&std::fs::read_to_string(file).unwrap());
        }
    }
}

/// A program of ours for a cluster, with a user's rights, that asks its API server at an address.
pub fn ours(cluster: &Cluster, user: &str, api: SocketAddr, sections: &str) -> Setup {
    let kubeconfig = cluster.kubeconfig_at(user, api);
    let own = format!("kubernetes: {{kubeconfig: '{}'}}\n", kubeconfig.display());
    Setup::new(&own).with(sections).under(&DYING_WITH_US)
}

/// The clusterset that tests share.
#[derive(Debug)]
pub struct Shared(&'static Clusterset);

impl Deref for Shared {
    type Target = Clusterset;

    fn deref(&self) -> &Clusterset {
        self.0
    }
}

/// A failed test shows what our programs said last.
impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in self.iter() {
                for (what, server) in [("controller", &member.controller), ("server", &member.server)] {
                    eprintln!("--- {what} of {} ---\n{}\n---", member.id, last_lines(&server.log()));
                }
            }
        }
    }
}

impl Index<usize> for Clusterset {
    type Output = Member;

    fn index(&self, number: usize) -> &Member {
        &self.members[number]
    }
}

impl IndexMut<usize> for Clusterset {
    fn index_mut(&mut self, number: usize) -> &mut Member {
        &mut self.members[number]
    }
}

impl Deref for Member {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}
