//! What people use instead: a proxy in front, and address translation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::kernel::{KernelPlace, run};
use super::timing::{Case, Echo, compare, exchange};

/// An address that nft translates.
const TRANSLATED: &str = "10.99.0.1";

/// A connection with one octet there and back, by each way.
pub fn measure(place: &KernelPlace, echo: &Echo, vip: SocketAddr) {
    place.enter(false);
    let proxy = has("haproxy").then(|| Proxy::start(echo.tcp.port()));
    let mut cases = vec![
        Case::new("directly", false, || exchange(echo.tcp)),
        Case::new("through the hook", true, || exchange(vip)),
    ];
    if has("nft") {
        translate(echo.tcp.port());
        let to: SocketAddr = format!("{TRANSLATED}:80").parse().unwrap();
        cases.push(Case::new("DNAT by nft", false, move || exchange(to)));
    } else {
        println!("skipped: DNAT, for nft is not installed (Debian: nftables)");
    }
    match &proxy {
        Some(proxy) => cases.push(Case::new("HAProxy in front", false, || exchange(proxy.at))),
        None => println!("skipped: HAProxy is not installed"),
    }
    compare("connect(), an octet there and back, TCP", &cases, 200, place);
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).any(|file| file.is_file())
}

fn translate(port: u16) {
    run(&["ip", "address", "add", &format!("{TRANSLATED}/32"), "dev", "lo"]);
    let rules = format!(
        "table ip bench {{\n chain output {{\n  type nat hook output priority -100;\n  ip daddr {TRANSLATED} tcp dport 80 dnat to 127.0.0.1:{port}\n }}\n}}\n"
    );
    let file = std::env::temp_dir().join(format!("portolan-bench-{}.nft", std::process::id()));
    std::fs::write(&file, rules).unwrap();
    run(&["nft", "-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

/// A HAProxy that forwards to the echo.
struct Proxy {
    child: Child,
    at: SocketAddr,
    file: PathBuf,
}

impl Proxy {
    fn start(port: u16) -> Self {
        let at: SocketAddr = "127.0.0.1:18404".parse().unwrap();
        let file = std::env::temp_dir().join(format!("portolan-bench-{}.cfg", std::process::id()));
        let config = format!(
            "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             listen echo\n  bind {at}\n  server one 127.0.0.1:{port}\n"
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(at).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "HAProxy does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, at, file }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(&self.file).unwrap();
    }
}
