//! What an API server and its clients prove to each other who they are with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

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

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A kubeconfig in JSON, which is YAML. `token`: the admin's when there is none.
    pub(super) fn kubeconfig(&self, server: &str, token: Option<&str>) -> String {
        kubeconfig(server, &self.authority, token.unwrap_or(ADMIN_TOKEN))
    }
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
