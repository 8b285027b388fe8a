//! Gateways as `deploy/gateway` runs them, pods behind them, and clients.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use portolan_tests::harness::kubernetes::documents;
use portolan_tests::harness::{DYING_WITH_US, Package, launch, loopback, program, repository, run};
use serde_json::Value;

use super::{cluster, gateway, written};

/// Where the gateway says that it is well.
pub(super) const HEALTH: u16 = 8405;
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration of that cluster's gateway, whose pods are at `pod`: no manifest may have pods on the loopback.
pub(super) fn configuration(
    folder: &Path,
    services: &[(&str, u16)],
    bind: Ipv4Addr,
    pod: SocketAddr,
    words: &[&str],
) -> String {
    let (manifests, bind) = (cluster(folder, services), bind.to_string());
    let (good, text) = gateway(&[&["--manifests", &manifests, "--bind", &bind][..], words].concat());
    assert!(good, "{text}");
    assert!(text.contains("10.1.0.1:"), "{text}");
    text.replace("10.1.0.1:8080", &pod.to_string()).replace("10.1.0.1:5353", &pod.to_string())
}

/// Sends back what comes, TCP and UDP.
pub(super) fn echo() -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let udp = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    thread::spawn(move || {
        let mut octets = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut octets) {
            let _ = udp.send_to(&octets[..len], from);
        }
    });
    at
}

pub(super) fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether a word comes back.
pub(super) fn echoes(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ahoy")?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    assert_eq!(&word, b"ahoy");
    Ok(())
}

pub(super) fn is_well(at: SocketAddr) -> bool {
    connect(at).is_ok_and(|stream| answers(stream, PATIENCE))
}

/// Whether its health is told, and good.
fn answers(mut stream: TcpStream, within: Duration) -> bool {
    let mut text = String::new();
    let said = stream.set_read_timeout(Some(within)).and_then(|()| {
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    said.is_ok() && text.split(' ').nth(1) == Some("200")
}

/// A program that ends with the test.
pub(super) struct Running(Child);

impl Running {
    /// What it says is added to `log`.
    pub(super) fn start(program: &Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(DYING_WITH_US[0]);
        command.args(&DYING_WITH_US[1..]).arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(launch(command).unwrap())
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let (good, said) = run(program("kill", Package::Procps).args([signal, &pid]));
        assert!(good, "{said}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // HAProxy's master and nginx take their workers along.
        self.signal("-TERM");
        let _ = self.0.wait();
    }
}

fn containers(file: &str) -> Vec<Value> {
    let yaml = std::fs::read_to_string(repository().join("deploy/gateway").join(file)).unwrap();
    documents(&yaml).remove(0)["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone()
}

/// Whether the kubelet would let a gateway live that is at this address: what the first container's probe finds within its second.
pub(super) fn may_live(file: &str, bind: Ipv4Addr) -> bool {
    let probe = containers(file).remove(0)["livenessProbe"].clone();
    let stream = TcpStream::connect_timeout(&SocketAddr::from((bind, HEALTH)), Duration::from_secs(1));
    match (probe.get("tcpSocket"), probe.get("httpGet")) {
        (Some(_), None) => stream.is_ok(),
        (None, Some(_)) => stream.is_ok_and(|stream| answers(stream, Duration::from_secs(1))),
        _ => panic!("another probe: {probe}"),
    }
}

/// The containers of a Deployment of `deploy/gateway`, as they run without Kubernetes: their folders are this one.
pub(super) fn deployed(file: &str, folder: &Path) -> Vec<Command> {
    let containers = containers(file);
    let path = folder.display().to_string();
    let here = |word: &str| word.replace("/etc/gateway", &path).replace("/run/gateway", &path);
    let command = |container: &Value| {
        let words = container["command"].as_array().unwrap().iter().map(|word| here(word.as_str().unwrap()));
        let words: Vec<_> = words.collect();
        let mut command = match &*words[0] {
            "haproxy" => program("haproxy", Package::Haproxy),
            "nginx" => program("nginx", Package::NginxLight),
            other => Command::new(other),
        };
        command.args(&words[1..]);
        for variable in container["env"].as_array().into_iter().flatten() {
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        }
        command
    };
    containers.iter().map(command).collect()
}

/// As the kubelet changes a ConfigMap's files: all at once.
pub(super) fn replaced(folder: &Path, name: &str, text: &str) {
    let new = written(folder, "new", text);
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// Connects from a certain address.
pub(super) fn from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connected = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(to).await
    });
    let stream = connected?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
