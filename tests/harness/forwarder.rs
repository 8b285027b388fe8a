//! A resolver of somebody else's in front of our server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::kubernetes::Part;
use super::setup::{DNS, write};
use super::{Package, Reply, eventually, program, run};

/// A running program that answers at [`DNS`] of addresses of its own; killed when dropped.
#[derive(Debug)]
pub struct Forwarder {
    part: Part,
    file: PathBuf,
    address: Ipv4Addr,
    folder: TempDir,
}

impl Forwarder {
    /// Starts `file` and returns when it answers `probe`, a question that needs nobody else, with `NOERROR`.
    pub(super) fn start(
        file: &Path,
        arguments: &[String],
        address: Ipv4Addr,
        folder: TempDir,
        probe: &str,
    ) -> Self {
        let part = Part::start(file, arguments, folder.path().join("log"));
        let mut forwarder = Self { part, file: file.to_owned(), address, folder };
        forwarder.wait(probe);
        forwarder
    }

    /// Ends it and starts it anew with other arguments.
    pub(super) fn start_again(&mut self, arguments: &[String], probe: &str) {
        self.part.kill();
        self.part = Part::start(&self.file, arguments, self.path("log"));
        self.wait(probe);
    }

    fn wait(&mut self, probe: &str) {
        eventually(&format!("{} answers", self.file.display()), || {
            self.part.must_run();
            self.dig(probe).status == "NOERROR"
        });
    }

    /// Where it answers.
    pub fn at(&self) -> SocketAddr {
        (self.address, DNS).into()
    }

    /// Asks with `dig`; the words are those of its command line. One try, two seconds.
    pub fn dig(&self, words: &str) -> Reply {
        self.dig_at(self.address, words)
    }

    /// [`Forwarder::dig`] at another one of its addresses.
    pub fn dig_at(&self, address: Ipv4Addr, words: &str) -> Reply {
        let mut dig = program("dig", Package::Dnsutils);
        dig.arg(format!("@{address}")).args(["-p", &DNS.to_string(), "+tries=1", "+time=2"]);
        Reply::parse(&run(dig.args(words.split_whitespace())).1)
    }

    /// The addresses that `nslookup` finds for a name, sorted; `Err`: what it prints instead.
    pub fn nslookup(&self, words: &str) -> Result<Vec<IpAddr>, String> {
        let mut nslookup = program("nslookup", Package::Dnsutils);
        nslookup.arg(format!("-port={DNS}")).args(words.split_whitespace()).arg(self.address.to_string());
        let (found, text) = run(&mut nslookup);
        // The server's own address has its port behind it.
        let addresses = text.lines().filter_map(|line| line.strip_prefix("Address: ")?.parse().ok());
        let mut addresses: Vec<_> = addresses.collect();
        addresses.sort();
        if found { Ok(addresses) } else { Err(text) }
    }

    /// All that it has printed.
    pub fn log(&self) -> String {
        self.part.log()
    }

    /// A file in its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes a file into its folder.
    pub fn write(&self, file: &str, text: &str) {
        write(&self.path(file), text);
    }
}

/// A ready program of the project Kubernetes DNS in the folder that KUBE_DNS_ASSETS names; `None`: there is no such
/// folder, and a test says so and makes do with what that program consists of.
pub(super) fn kube_dns_asset(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("KUBE_DNS_ASSETS").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else {
        eprintln!("{name}: a stand-in, since KUBE_DNS_ASSETS names no folder with the program itself");
        return None;
    };
    let file = Path::new(&folder).join(name);
    assert!(file.is_file(), "{} is missing: KUBE_DNS_ASSETS promises it", file.display());
    eprintln!("{name}: {}", file.display());
    Some(file)
}
