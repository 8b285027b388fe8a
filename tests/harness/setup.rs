//! A folder with a configuration and manifests, and an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::{Server, portolan, repository, run};

/// UDP and TCP.
pub const DNS: u16 = 5300;
/// DNS over TLS.
pub const TLS: u16 = 8530;
/// DNS over HTTPS.
pub const HTTPS: u16 = 8443;
/// DNS over QUIC; UDP.
pub const QUIC: u16 = 8530;
/// Admin HTTP.
pub const ADMIN: u16 = 9153;

/// What a server needs before it starts.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    yaml: String,
    address: Ipv4Addr,
    wrapper: Vec<String>,
    subcommand: &'static str,
}

/// Networks of 254 addresses that a process has.
const NETWORKS: u32 = 4;

/// A loopback address that nobody else has: UDP and TCP need the same port on it, and a port that is asked for
/// by number can't be taken by another test in between.
pub fn loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Each process has networks of its own, of which each has 254 addresses.
    let (network, host) = (number / 254, number % 254 + 1);
    assert!(network < NETWORKS, "more servers than addresses");
    let network = std::process::id() * NETWORKS + network;
    Ipv4Addr::new(127, (network % 250 + 1) as u8, (network / 250) as u8, host as u8)
}

impl Setup {
    /// With a configuration of these sections; `version`, `listen`, `admin` and `shutdown` are added where they
    /// are left out.
    pub fn new(yaml: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
        let address = loopback();
        let empty = Self { folder, yaml: String::new(), address, wrapper: Vec::new(), subcommand: "serve" };
        empty.with(yaml)
    }

    /// A copy of `zones/samples/<scenario>`.
    pub fn sample(scenario: &str) -> Self {
        let sample = repository().join("zones/samples").join(scenario);
        let yaml = std::fs::read_to_string(sample.join("portolan.yaml")).unwrap();
        let setup = Self::new(&yaml);
        copy_folder(&sample.join("clusters"), &setup.path("clusters"));
        setup
    }

    /// Adds sections to the configuration.
    pub fn with(mut self, yaml: &str) -> Self {
        self.yaml.push_str(yaml.trim_end());
        self.yaml.push('\n');
        self
    }

    /// Changes what the sample's configuration says.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.yaml.contains(from), "{from} is not in {}", self.yaml);
        self.yaml = self.yaml.replace(from, to);
        self
    }

    /// Adds a file; a manifest of cluster `a`, for example, is `clusters/a/x.yaml`.
    pub fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        write(&self.path(path), text);
        self
    }

    /// Runs the server under another program, for example `setpriv`.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts another command than `serve`.
    pub fn for_command(mut self, subcommand: &'static str) -> Self {
        self.subcommand = subcommand;
        self
    }

    pub(super) fn subcommand(&self) -> &'static str {
        self.subcommand
    }

    /// This server's own address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Address and port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// A path in the folder.
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    /// The whole configuration.
    pub fn yaml(&self) -> String {
        let dns = self.at(DNS);
        let mut text = String::new();
        for (section, value) in [
            ("version", "v1".to_owned()),
            ("listen", format!("{{udp: ['{dns}'], tcp: ['{dns}']}}")),
            ("admin", format!("{{listen: '{}'}}", self.at(ADMIN))),
            ("shutdown", "{lameduck: 0s}".to_owned()),
        ] {
            if !self.yaml.lines().any(|line| line.starts_with(&format!("{section}:"))) {
                text.push_str(&format!("{section}: {value}\n"));
            }
        }
        text + &self.yaml
    }

    /// Writes the configuration and gives a command: `portolan SUBCOMMAND --config …`.
    pub fn command(&self, subcommand: &str) -> Command {
        write(&self.path("portolan.yaml"), self.yaml());
        let mut words = self.wrapper.iter().map(String::as_str).chain([portolan().to_str().unwrap()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(subcommand).arg("--config").arg(self.path("portolan.yaml"));
        command
    }

    /// Runs a command to its end: whether it succeeded, and what it printed.
    pub fn run(&self, subcommand: &str, args: &[&str]) -> (bool, String) {
        run(self.command(subcommand).args(args))
    }

    /// Starts the server and returns once it answers queries.
    pub fn start(self) -> Server {
        Server::start(self)
    }

    /// The same with other sections: what a test writes over the configuration of a running server.
    pub(super) fn set_yaml(&mut self, yaml: &str) {
        self.yaml = yaml.to_owned();
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
