//! The agent on a cgroup of the test's own, with pins of its own in a BPF file system of the tests' own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::Host;
use super::cgroup::{Cgroup, next};
use crate::harness::launch::{DYING_WITH_US, at_the_end};
use crate::harness::setup::write;
use crate::harness::{Package, agent_binary, eventually, launch, program, run, until};

/// A BPF file system of this process's own.
fn bpffs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("portolan-bpf-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        at_the_end(&format!("umount -l '{0}'; rmdir '{0}'", folder.display()));
        let (mounted, text) =
            run(program("mount", Package::UtilLinux).args(["-t", "bpf", "bpf"]).arg(&folder));
        assert!(mounted, "{text}");
        folder
    })
}

/// An agent. It is ended, and detached, with the test; its log is shown when that fails.
#[derive(Debug)]
pub struct Agent {
    folder: TempDir,
    host: Host,
    pins: PathBuf,
    cgroup: PathBuf,
    child: Option<Child>,
    /// In front of the binary.
    wrapper: Vec<String>,
    /// Octets of the log before the last start.
    started: usize,
}

impl Agent {
    /// Not started yet. `yaml`: sections of the configuration, without `version` and `agent`; `agent`: keys of that section.
    pub fn new(host: &Host, cgroup: &Cgroup, yaml: &str, agent: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("portolan-agent-").tempdir().unwrap();
        let pins = bpffs().join(next());
        let this = Self {
            folder,
            host: host.clone(),
            pins,
            cgroup: cgroup.path().to_owned(),
            child: None,
            wrapper: Vec::new(),
            started: 0,
        };
        this.configure(yaml, agent);
        this
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, yaml: &str, agent: &str) {
        let text = format!(
            "version: v1\n{yaml}\nagent:\n  cgroup: {}\n  pins: {}\n  admin: {{listen: '127.0.0.1:0'}}\n  {}\n",
            self.cgroup.display(),
            self.pins.display(),
            agent.trim().replace('\n', "\n  "),
        );
        write(&self.path("portolan.yaml"), text);
    }

    /// Adds a manifest; one of cluster `a`, for example, is `clusters/a/x.yaml`.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        write(&self.path(path), text);
    }

    /// Takes a manifest away.
    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    /// A path in its folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs it under another program from now on, for example `setpriv`.
    pub fn under(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
    }

    /// Where it pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// A command of the binary, on its host: `portolan-agent SUBCOMMAND --config …`.
    pub fn command(&self, subcommand: &str) -> Command {
        let binary = [agent_binary().to_str().unwrap()];
        let mut words = self.wrapper.iter().map(String::as_str).chain(binary);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(subcommand).arg("--config").arg(self.path("portolan.yaml"));
        self.host.command(&command)
    }

    /// Starts it, and returns at once.
    pub fn spawn(&mut self) {
        let _ = std::fs::remove_file(self.path("ready.json"));
        self.started = self.log().len();
        let mut agent = self.command("run");
        agent.arg("--ready-file").arg(self.path("ready.json"));
        let mut command = Command::new(DYING_WITH_US[0]);
        command.args(&DYING_WITH_US[1..]).arg(agent.get_program()).args(agent.get_args());
        let log = File::options().create(true).append(true).open(self.path("agent.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(launch(command).unwrap());
    }

    /// Starts it, and returns once it redirects.
    pub fn start(&mut self) {
        self.spawn();
        let ready = self.path("ready.json");
        eventually("the agent redirects", || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("the agent ended: {status}");
            }
            ready.exists()
        });
    }

    /// Ends it at once, as a crash does: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            // What ran it may end before it does.
            let is_free = || File::open(&self.pins).is_ok_and(|folder| folder.try_lock().is_ok());
            eventually("nobody has its folder", || !self.pins.exists() || is_free());
        }
    }

    /// Tells it to end, and waits for that.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let (sent, text) =
            run(program("kill", Package::Procps).args(["-s", "TERM", &child.id().to_string()]));
        assert!(sent, "{text}");
        until("the agent ends", || child.try_wait().unwrap()).0
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the agent ends", || child.try_wait().unwrap()).0
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Its admin address, on its host, as soon as it listens.
    pub fn listening(&self) -> Option<SocketAddr> {
        let log = self.log();
        let line = log.get(self.started..)?.lines().find(|line| line.contains("transport=\"admin\""))?;
        line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
    }

    /// The same of one that listens.
    pub fn admin(&self) -> SocketAddr {
        self.listening().unwrap_or_else(|| panic!("it does not listen: {}", self.log()))
    }

    /// What its admin server answers: whether with 200, and the body.
    pub fn get(&self, path: &str) -> (bool, String) {
        let mut curl = program("curl", Package::Curl);
        curl.args(["--silent", "--show-error", "--max-time", "10", "--fail-with-body"]);
        run(self.host.command(curl.arg(format!("http://{}{path}", self.admin()))).env_remove("http_proxy"))
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// `/services` of one, as the answer has it.
    pub fn services(&self, name: &str) -> Value {
        serde_json::from_str(&self.get(&format!("/services?name={name}")).1).unwrap()
    }

    /// The virtual IPs of a service, as `--dry-run` has them.
    pub fn vips(&self, service: &str) -> Vec<std::net::IpAddr> {
        let (_, text) = run(self.command("run").args(["--dry-run", "--format", "json"]));
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let services = told["services"].as_array().unwrap();
        let found = services.iter().find(|found| found["service"] == service);
        let found = found.unwrap_or_else(|| panic!("no {service} in {text}"));
        found["vips"].as_array().unwrap().iter().map(|vip| vip.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Runs `detach`: whether it succeeded, and what it printed.
    pub fn detach(&self) -> (bool, String) {
        run(&mut self.command("detach"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        let detached = self.detach();
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}---\n{}", self.log(), detached.1);
        }
    }
}
