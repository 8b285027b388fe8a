//! From what was written to what it means: which keys there are, and what must hold between them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use portolan_config::{Clusterset, Log, Scalar, Section};
use portolan_dns::cookie::Secret;
use portolan_dns::server::Threads;

use super::scalar::HexSecret;
use super::{Config, Cookies, Listen, Tls, answers, geoip};

/// Takes everything from the root that a server or a controller must know.
pub(super) fn read(root: &mut Section<'_>) -> Config {
    let default = Config::default();
    let clusterset = Clusterset::read(root);
    let listen = root.section("listen", Listen::read);
    let tls = root.section("tls", Tls::read);
    if tls.is_none() && listen.encrypted() {
        root.problem("tls", "listen.tls, listen.https and listen.quic need `certificate` and `key` here");
    }
    Config {
        clusterset,
        listen,
        udp_threads: root.section("udp", udp_threads),
        tls,
        https_path: root.section("https", |https| https_path(https, default.https_path)),
        answers: answers::read(root),
        geo: root.section("geoip", geoip::read),
        cookies: root.section("cookies", Cookies::read),
        admin: root.section("admin", |admin| admin.or_off("listen", default.admin)),
        lameduck: root.section("shutdown", |shutdown| shutdown.get("lameduck", default.lameduck)),
        log: Log::read(root),
    }
}

impl Listen {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let listen = Self {
            udp: section.list("udp", default.udp),
            tcp: section.list("tcp", default.tcp),
            tls: section.list("tls", default.tls),
            https: section.list("https", default.https),
            quic: section.list("quic", default.quic),
        };
        for (key, addresses) in [
            ("udp", &listen.udp),
            ("tcp", &listen.tcp),
            ("tls", &listen.tls),
            ("https", &listen.https),
            ("quic", &listen.quic),
        ] {
            section
                .refuse_twice(key, addresses.iter().map(|address| (address.port() != 0).then_some(address)));
        }
        listen
    }

    fn encrypted(&self) -> bool {
        ![&self.tls, &self.https, &self.quic].iter().all(|addresses| addresses.is_empty())
    }
}

fn udp_threads(section: &mut Section<'_>) -> Threads {
    let number = section.optional::<NonZeroUsize>("threads");
    let cores = section.list::<u16>("cores", Vec::new());
    section.refuse_twice("cores", cores.iter().map(Some));
    match number {
        Some(_) if !cores.is_empty() => {
            section
                .problem("threads", "`cores` is given, too, and each has one thread: leave one of both out");
            Threads::default()
        }
        Some(number) => Threads::Number(number),
        None if cores.is_empty() => Threads::AsCores,
        None => Threads::Pinned(cores),
    }
}

impl Tls {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let certificate = section.optional::<PathBuf>("certificate");
        let key = section.optional::<PathBuf>("key");
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(Self { certificate: section.beside_file(&certificate), key: section.beside_file(&key) })
            }
            (Some(_), None) => {
                section.problem("key", "`certificate` is given and `key` is not: both are needed");
                None
            }
            (None, Some(_)) => {
                section.problem("certificate", "`key` is given and `certificate` is not: both are needed");
                None
            }
            (None, None) => None,
        }
    }
}

impl Cookies {
    fn read(section: &mut Section<'_>) -> Self {
        let enabled = section.get("enabled", Self::default().enabled);
        let written = section.list("secrets", Vec::new());
        let mut secrets: Vec<_> = written.into_iter().map(|HexSecret(secret)| secret).collect();
        let secret_file = section.optional::<PathBuf>("secret-file").map(|file| section.beside_file(&file));
        match secret_file.as_deref().map(read_secrets) {
            Some(Ok(more)) => secrets.extend(more),
            Some(Err(message)) => section.problem("secret-file", message),
            None => {}
        }
        Self { enabled, secrets, secret_file }
    }
}

/// One secret a line, as in `secrets`.
fn read_secrets(file: &Path) -> Result<Vec<Secret>, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let secret = HexSecret::parse(line.trim()).map(|HexSecret(secret)| secret);
            secret.map_err(|why| format!("line {} of {} {why}", at + 1, file.display()))
        })
        .collect()
}

fn https_path(section: &mut Section<'_>, default: String) -> String {
    let path = section.get("path", default);
    if !path.starts_with('/') {
        section.problem("path", format!("`{path}` must start with `/`"));
    }
    path
}
