//! A real control plane: etcd, kube-apiserver and kube-controller-manager, without kubelets.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::binaries::{binary, definitions};
use super::credentials::{ADMIN_USER, Credentials};
use super::permit::Permit;
use super::{Objects, Part, documents, namespace, node};
use crate::harness::setup::write;
use crate::harness::{eventually, loopback, remove_at_the_end, until_within};

/// For programs of many megabytes to get ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// So long after its end kube-apiserver still takes a token, for clocks differ (go-jose's `DefaultLeeway`).
const LEEWAY: Duration = Duration::from_secs(60);
const API_PORT: u16 = 6443;
/// A user's name starts with this when it is a service account: `<namespace>:<name>` follows.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Controllers of kube-controller-manager that tests rely on; others would only take time.
const CONTROLLERS: &str = "endpointslice-controller,garbage-collector-controller,namespace-controller,\
    serviceaccount-controller,serviceaccount-token-controller,root-ca-certificate-publisher-controller";

/// What a cluster has from the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its ClusterProperty `cluster.clusterset.k8s.io`; `None`: it has none.
    pub id: Option<String>,
    /// Projects whose custom resources it knows: `mcs`, `about`, `inventory`.
    pub definitions: Vec<&'static str>,
    /// Whether kube-controller-manager runs: service accounts, EndpointSlices of Services, garbage collection.
    pub controllers: bool,
    /// More arguments for kube-apiserver.
    pub arguments: Vec<String>,
}

impl Options {
    /// All that a member of a clusterset has.
    pub fn new(id: &str) -> Self {
        Self {
            id: Some(id.into()),
            definitions: vec!["mcs", "about", "inventory"],
            controllers: true,
            arguments: Vec::new(),
        }
    }
}

/// Its API, with all rights, is what it dereferences to. All of it ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    objects: Objects,
    controllers: Mutex<Option<Part>>,
    api: Mutex<Option<Part>>,
    etcd: Mutex<Option<Part>>,
    options: Options,
    /// Different for each cluster of this process.
    number: u8,
    address: Ipv4Addr,
    port: AtomicU16,
    credentials: Credentials,
    folder: TempDir,
    _permit: Option<Permit>,
}

impl Cluster {
    /// Starts one and returns when it can be used.
    pub fn start(options: Options) -> Self {
        Self::start_with(options, Some(Permit::take(1)))
    }

    /// Starts several at once. A test that needs several asks for all of them here: tests that each have some and
    /// wait for more would wait forever.
    pub fn start_all(options: Vec<Options>) -> Vec<Self> {
        let permit = Permit::take(options.len());
        in_parallel(
            options
                .into_iter()
                .zip(permit.split())
                .map(|(options, permit)| move || Self::start_with(options, Some(permit))),
        )
    }

    /// `permit`: `None` for clusters that last as long as the tests.
    pub(super) fn start_with(options: Options, permit: Option<Permit>) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::Builder::new().prefix("portolan-cluster-").tempdir().unwrap();
        remove_at_the_end(folder.path());
        let address = loopback();
        let credentials = Credentials::new(folder.path(), address.into());
        write(
            &folder.path().join("admin.kubeconfig"),
            credentials.kubeconfig(&url((address, API_PORT).into()), None),
        );
        let cluster = Self {
            objects: Objects::by(&folder.path().join("admin.kubeconfig")),
            controllers: Mutex::default(),
            api: Mutex::default(),
            etcd: Mutex::default(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            port: AtomicU16::new(API_PORT),
            options,
            address,
            credentials,
            folder,
            _permit: permit,
        };
        cluster.start_etcd();
        cluster.start_api();
        if cluster.options.controllers {
            cluster.start_controllers();
        }
        for az in ["a", "b"] {
            cluster.put(&node(&format!("node-{az}"), az));
        }
        for project in &cluster.options.definitions {
            for definition in definitions(project) {
                cluster.define(&definition);
            }
        }
        if let Some(id) = &cluster.options.id {
            cluster.set_id(id);
        }
        cluster
    }

    /// Starts etcd, with what it has stored.
    pub fn start_etcd(&self) {
        let client = format!("http://{}:2379", self.address);
        let peer = format!("http://{}:2380", self.address);
        let arguments = [
            ("data-dir", "etcd"),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", &format!("default={peer}")),
            ("log-level", "warn"),
        ];
        let arguments = arguments.iter().map(|(name, value)| format!("--{name}={value}"));
        let arguments: Vec<_> = arguments.chain(["--unsafe-no-fsync".into()]).collect();
        *self.etcd.lock().unwrap() = Some(Part::start(&binary("etcd"), &arguments, self.path("etcd.log")));
    }

    /// Kills etcd.
    pub fn kill_etcd(&self) {
        kill(&self.etcd);
    }

    /// Starts the API server and returns when it is ready.
    pub fn start_api(&self) {
        let file = |name| self.credentials.path(name).display().to_string();
        let (v4, v6) = (format!("10.{}.0.0/16", 100 + self.number), format!("fd00:{:x}::/112", self.number));
        let arguments = [
            ("etcd-servers", format!("http://{}:2379", self.address)),
            ("bind-address", self.address.to_string()),
            // A loopback address is refused; nobody connects to it.
            ("advertise-address", "192.0.2.1".into()),
            ("secure-port", self.port.load(Ordering::Relaxed).to_string()),
            ("tls-cert-file", file("server.crt")),
            ("tls-private-key-file", file("server.key")),
            ("token-auth-file", file("tokens.csv")),
            ("authorization-mode", "RBAC".into()),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", file("service-accounts.pub")),
            ("service-account-signing-key-file", file("service-accounts.key")),
            ("service-cluster-ip-range", format!("{v4},{v6}")),
            ("endpoint-reconciler-type", "none".into()),
            ("profiling", "false".into()),
        ];
        let arguments = arguments.iter().map(|(name, value)| format!("--{name}={value}"));
        let arguments: Vec<_> = arguments.chain(self.options.arguments.iter().cloned()).collect();
        *self.api.lock().unwrap() =
            Some(Part::start(&binary("kube-apiserver"), &arguments, self.path("api.log")));
        until_within(PATIENCE, "the API server is ready", || {
            self.api.lock().unwrap().as_mut().unwrap().must_run();
            let ready = self.objects.try_text("/readyz").is_some_and(|text| text == "ok");
            // Made by a controller of its own, as all else that it needs.
            (ready && self.objects.get("Namespace", "", "kube-system").is_some()).then_some(())
        });
    }

    /// Kills the API server.
    pub fn kill_api(&self) {
        kill(&self.api);
    }

    /// From the next start of the API server it listens on another port; the old one stays free.
    pub fn change_port(&self) {
        self.port.fetch_add(1, Ordering::Relaxed);
        self.objects.move_to(&self.kubeconfig(ADMIN_USER));
        if self.options.controllers && self.controllers.lock().unwrap().is_some() {
            self.start_controllers();
        }
    }

    /// Starts kube-controller-manager, or another one instead of the one that runs.
    pub fn start_controllers(&self) {
        kill(&self.controllers);
        let file = |name| self.credentials.path(name).display().to_string();
        let arguments = [
            ("kubeconfig", self.kubeconfig(ADMIN_USER).display().to_string()),
            ("bind-address", self.address.to_string()),
            ("cert-dir", file("controllers")),
            ("leader-elect", "false".into()),
            ("controllers", CONTROLLERS.into()),
            ("service-account-private-key-file", file("service-accounts.key")),
            ("root-ca-file", file("authority.crt")),
            ("kube-api-qps", "500".into()),
            ("kube-api-burst", "1000".into()),
            ("profiling", "false".into()),
        ];
        let arguments: Vec<_> = arguments.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let log = self.path("controllers.log");
        *self.controllers.lock().unwrap() =
            Some(Part::start(&binary("kube-controller-manager"), &arguments, log));
    }

    /// Where the API server listens, or will.
    pub fn at(&self) -> SocketAddr {
        (self.address, self.port.load(Ordering::Relaxed)).into()
    }

    /// A kubeconfig of a user: `admin`, or a service account by its user name
    /// (`system:serviceaccount:<namespace>:<name>`), which must exist.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.kubeconfig_at(user, self.at())
    }

    /// [`Cluster::kubeconfig`] that has its user connect to another address, that of a proxy.
    pub fn kubeconfig_at(&self, user: &str, server: SocketAddr) -> PathBuf {
        let token = user.strip_prefix(SERVICE_ACCOUNT).map(|account| {
            let (namespace, name) = account.split_once(':').expect("namespace:name");
            self.token(namespace, name)
        });
        assert!(token.is_some() || user == ADMIN_USER, "{user}: who is that?");
        let path = self.path(&format!("{}-{}.kubeconfig", user.replace(':', "-"), server.port()));
        write(&path, self.credentials.kubeconfig(&url(server), token.as_deref()));
        path
    }

    /// [`Cluster::kubeconfig_at`] of a service account, whose token expires that soon. The TokenRequest API gives none for
    /// less than ten minutes: this is one of its tokens, signed anew by the same key.
    pub fn kubeconfig_until(&self, account: (&str, &str), server: SocketAddr, lasts: Duration) -> String {
        let token =
            self.credentials.expiring(&self.token(account.0, account.1), SystemTime::now() + lasts - LEEWAY);
        self.credentials.kubeconfig(&url(server), Some(&token))
    }

    /// A token of a service account, valid for an hour (TokenRequest).
    pub fn token(&self, namespace: &str, name: &str) -> String {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600, "audiences": [] },
        });
        let reply = self.create_subresource("ServiceAccount", namespace, name, "token", &request);
        reply["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The certificate that proves its API server's, PEM.
    pub fn authority(&self) -> &str {
        &self.credentials.authority
    }

    /// A file in its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Defines custom resources and returns when there can be some.
    pub fn define(&self, definition: &str) {
        for object in documents(definition) {
            let name = self.put(&object)["metadata"]["name"].as_str().unwrap().to_owned();
            eventually(&format!("{name} is established"), || {
                let now = self.get("CustomResourceDefinition", "", &name).unwrap();
                condition(&now, "Established").is_some_and(|condition| condition["status"] == "True")
            });
        }
    }

    /// Gives it a ClusterProperty `cluster.clusterset.k8s.io`, or another one.
    pub fn set_id(&self, id: &str) {
        self.put(&json!({
            "apiVersion": "about.k8s.io/v1beta1",
            "kind": "ClusterProperty",
            "metadata": { "name": "cluster.clusterset.k8s.io" },
            "spec": { "value": id },
        }));
    }

    /// Makes a namespace and returns when Pods can be in it.
    pub fn namespace(&self, name: &str) {
        self.put(&namespace(name));
        if self.options.controllers {
            until_within(PATIENCE, &format!("{name} has its service account"), || {
                self.get("ServiceAccount", name, "default")
            });
        }
    }

    /// What runs: etcd, the API server, the controllers; for figures.
    pub fn pids(&self) -> Vec<u32> {
        let parts = [&self.etcd, &self.api, &self.controllers];
        parts.iter().filter_map(|part| part.lock().unwrap().as_ref().map(Part::pid)).collect()
    }
}

impl Deref for Cluster {
    type Target = Objects;

    fn deref(&self) -> &Objects {
        &self.objects
    }
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// What several closures return that run at once, each on a thread of its own.
pub(super) fn in_parallel<T: Send>(runs: impl Iterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = runs.map(|run| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn kill(part: &Mutex<Option<Part>>) {
    if let Some(mut part) = part.lock().unwrap().take() {
        part.kill();
    }
}

fn url(server: SocketAddr) -> String {
    format!("https://{server}")
}
