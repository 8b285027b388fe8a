//! Programs that tests need besides our own.

use std::process::{Command, Output};

/// The Debian package that a program comes from.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named like the packages")]
pub enum Package {
    Dnsutils,
    KnotDnsutils,
    DnsmasqBase,
    Iproute2,
    Bind9Utils,
    Procps,
    UtilLinux,
    Haproxy,
    NginxLight,
    Curl,
    Python3,
    Socat,
    Ncat,
    IputilsPing,
    Bpftool,
    Clang,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Self::Dnsutils => "dnsutils",
            Self::KnotDnsutils => "knot-dnsutils",
            Self::DnsmasqBase => "dnsmasq-base",
            Self::Iproute2 => "iproute2",
            Self::Bind9Utils => "bind9-utils",
            Self::Procps => "procps",
            Self::UtilLinux => "util-linux",
            Self::Haproxy => "haproxy",
            Self::NginxLight => "nginx-light",
            Self::Curl => "curl",
            Self::Python3 => "python3",
            Self::Socat => "socat",
            Self::Ncat => "ncat",
            Self::IputilsPing => "iputils-ping",
            Self::Bpftool => "bpftool",
            Self::Clang => "clang",
        }
    }
}

/// A command for `name`, which the package installs. Panics when it is missing: a test that is skipped
/// silently protects nothing.
pub fn program(name: &str, package: Package) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    let package = package.name();
    Command::new(found.unwrap_or_else(|| {
        panic!("`{name}` is missing: install the Debian package {package} (`make test` does)")
    }))
}

/// Runs to the end; standard output and standard error as text, and whether it succeeded.
pub fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = [stdout, stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned()).concat();
    (status.success(), text)
}
