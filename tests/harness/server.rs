//! A running `portolan serve`, or another command that goes on until it is told to end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use super::setup::{ADMIN, DNS, Setup, write};
use super::{Package, Reply, eventually, http, launch, program, run, until};

/// Ends with the test; its log is shown when the test fails.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    child: Child,
}

impl Server {
    /// Starts, and returns once queries are answered.
    pub(super) fn start(setup: Setup) -> Self {
        let mut server = Self::spawn(setup);
        server.wait_until_ready();
        server
    }

    /// Starts, and returns at once.
    pub fn spawn(setup: Setup) -> Self {
        let child = spawn(&setup);
        Self { setup, child }
    }

    /// Ends it at once, as a crash does, and starts another one in the same folder.
    pub fn restart(mut self) -> Self {
        self.kill();
        self.start_again();
        self
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // It is not there when the server never was ready.
        let _ = std::fs::remove_file(self.setup.path("ready.json"));
    }

    /// Starts another one in the folder of one that has ended, and returns once that is ready.
    pub fn start_again(&mut self) {
        self.spawn_again();
        self.wait_until_ready();
    }

    /// Starts another one in the folder of one that has ended, and returns at once.
    pub fn spawn_again(&mut self) {
        self.child = spawn(&self.setup);
    }

    fn wait_until_ready(&mut self) {
        let ready = self.setup.path("ready.json");
        eventually("the server is ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended: {status}");
            }
            ready.exists()
        });
    }

    /// Address and port.
    pub fn at(&self, port: u16) -> SocketAddr {
        self.setup.at(port)
    }

    /// A path in its folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.setup.path(path)
    }

    /// Writes a file into its folder, in place.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        write(&self.path(path), text);
    }

    /// The sections of its configuration that the test gave.
    pub fn yaml(&self) -> String {
        self.setup.yaml()
    }

    /// Writes another configuration.
    pub fn reconfigure(&mut self, yaml: &str) {
        self.setup.set_yaml(yaml);
        self.write("portolan.yaml", self.setup.yaml());
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("portolan.log")).unwrap_or_default()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let (sent, text) = run(program("kill", Package::Procps).args(["-s", name, &pid]));
        assert!(sent, "{text}");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().unwrap()).0
    }

    /// Its process, for benchmarks that read its memory and time.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks with `dig`; the words are those of its command line. One try, two seconds.
    pub fn dig(&self, words: &str) -> Reply {
        Reply::parse(&run(&mut self.client("dig", Package::Dnsutils, DNS, words)).1)
    }

    /// Asks with `kdig` at a port.
    pub fn kdig(&self, port: u16, words: &str) -> Reply {
        Reply::parse(&run(&mut self.client("kdig", Package::KnotDnsutils, port, words)).1)
    }

    /// What `nslookup` prints.
    pub fn nslookup(&self, words: &str) -> String {
        let mut nslookup = program("nslookup", Package::Dnsutils);
        nslookup.arg(format!("-port={DNS}")).args(words.split_whitespace());
        run(nslookup.arg(self.setup.address().to_string())).1
    }

    /// The records of a zone transfer by `dig`, sorted, without the SOA that ends it; empty when refused.
    pub fn axfr(&self, zone: &str) -> Vec<String> {
        let mut dig = self.client("dig", Package::Dnsutils, DNS, &format!("{zone} AXFR +noall +answer"));
        let mut records = Reply::records(&run(&mut dig).1);
        assert_eq!(records.first(), records.last(), "begins and ends with the SOA (RFC 5936 §2.2)");
        records.pop();
        records.sort();
        records
    }

    /// Status and body of a GET to the admin address.
    pub fn get(&self, path: &str) -> (u16, String) {
        http::get(self.at(ADMIN), path).unwrap()
    }

    /// [`Server::get`] while the address may not be bound yet, or any more.
    pub fn try_get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.at(ADMIN), path).ok()
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        let (code, text) = self.get("/status");
        assert_eq!(code, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The sum of all samples of a metric that have these labels, as written: `result="failure"`. `None`: no
    /// such sample.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let samples = text.lines().filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let (its_name, its_labels) = sample.split_once('{').unwrap_or((sample, ""));
            let fits = its_name == name && labels.iter().all(|label| its_labels.contains(label));
            fits.then(|| value.parse::<f64>().unwrap())
        });
        samples.reduce(|a, b| a + b)
    }

    fn client(&self, name: &str, package: Package, port: u16, words: &str) -> Command {
        let mut client = program(name, package);
        client.arg(format!("@{}", self.setup.address())).args(["-p", &port.to_string()]);
        client.args(if name == "dig" { ["+tries=1", "+time=2"] } else { ["+retry=0", "+time=2"] });
        client.args(words.split_whitespace());
        client
    }
}

fn spawn(setup: &Setup) -> Child {
    let log = File::options().create(true).append(true).open(setup.path("portolan.log")).unwrap();
    let mut command = setup.command(setup.subcommand());
    command.arg("--ready-file").arg(setup.path("ready.json"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    launch(command).expect("the server starts")
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, as some tests want it to.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}---", self.log());
        }
    }
}
