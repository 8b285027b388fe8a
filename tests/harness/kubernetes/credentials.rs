//! What an API server and its clients prove to each other who they are with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SigningKey};
use serde_json::{Value, json};

use crate::harness::setup::write;

/// The user who may do all.
pub const ADMIN_USER: &str = "admin";
const ADMIN_TOKEN: &str = "admin-of-the-tests";

/// Files in a cluster's folder.
#[derive(Debug)]
pub(super) struct Credentials {
    folder: PathBuf,
    /// Of the authority that signed the server's certificate; PEM.
    pub(super) authority: String,
}

impl Credentials {
    /// For a server at this address, and behind proxies at 127.0.0.1.
    pub(super) fn new(folder: &Path, address: IpAddr) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let names = [address, Ipv4Addr::LOCALHOST.into()].map(|ip| ip.to_string());
        let server = CertificateParams::new(names).unwrap();
        let server = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        let these = Self { folder: folder.to_owned(), authority: authority_pem.clone() };
        write(&these.path("authority.crt"), authority_pem);
        write(&these.path("server.crt"), server.pem());
        write(&these.path("server.key"), key.serialize_pem());
        let accounts = KeyPair::generate().unwrap();
        write(&these.path("service-accounts.key"), accounts.serialize_pem());
        write(&these.path("service-accounts.pub"), accounts.public_key_pem());
        write(&these.path("tokens.csv"), format!("{ADMIN_TOKEN},{ADMIN_USER},1,\"system:masters\"\n"));
        these
    }

    /// The same JSON Web Token (RFC 7519) with another end.
    pub(super) fn expiring(&self, token: &str, end: SystemTime) -> String {
        let mut claims: Value = serde_json::from_slice(&octets(token.split('.').nth(1).unwrap())).unwrap();
        claims["exp"] = end.duration_since(UNIX_EPOCH).unwrap().as_secs().into();
        let head = base64url(br#"{"alg":"ES256"}"#);
        let signed = format!("{head}.{}", base64url(claims.to_string().as_bytes()));
        let key = std::fs::read_to_string(self.path("service-accounts.key")).unwrap();
        let signature = KeyPair::from_pem(&key).unwrap().sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(&raw_ecdsa(&signature)))
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A kubeconfig in JSON, which is YAML. `token`: the admin's when there is none.
    pub(super) fn kubeconfig(&self, server: &str, token: Option<&str>) -> String {
        kubeconfig(server, &self.authority, token.unwrap_or(ADMIN_TOKEN))
    }
}

/// Both integers of an ECDSA signature in 32 octets each (RFC 7518, 3.4), from their ASN.1 sequence (RFC 3279, 2.2.3).
fn raw_ecdsa(sequence: &[u8]) -> Vec<u8> {
    let integer = |at: usize| {
        let value = &sequence[at + 2..at + 2 + usize::from(sequence[at + 1])];
        let value = value.strip_prefix(&[0]).unwrap_or(value);
        ([vec![0; 32 - value.len()], value.to_vec()].concat(), at + 2 + usize::from(sequence[at + 1]))
    };
    let (first, next) = integer(2);
    [first, integer(next).0].concat()
}

/// RFC 4648, 5, without padding, by way of the one with it, which Kubernetes' own type has.
fn base64url(octets: &[u8]) -> String {
    let padded = json!(ByteString(octets.to_vec()));
    padded.as_str().unwrap().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn octets(base64url: &str) -> Vec<u8> {
    let padding = "=".repeat(base64url.len().wrapping_neg() % 4);
    let padded = base64url.replace('-', "+").replace('_', "/") + &padding;
    serde_json::from_value::<ByteString>(padded.into()).unwrap().0
}

/// A kubeconfig in JSON, which is YAML, with a context `test`.
pub fn kubeconfig(server: &str, authority: &str, token: &str) -> String {
    let authority = ByteString(authority.into());
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority-data": authority } }],
        "users": [{ "name": "test", "user": { "token": token } }],
    });
    serde_json::to_string_pretty(&config).unwrap()
}
