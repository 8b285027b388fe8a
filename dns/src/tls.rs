//! The certificate of all encrypted transports, read from files and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::ring};

/// A certificate chain and its key. New connections get the newest one, old ones go on with theirs.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("cannot read `{path}`: {error}; check that it exists and that this process may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file is not PEM.
    #[error("`{path}` is no PEM file: {error:?}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PemError,
    },
    /// PEM without a certificate.
    #[error("`{0}` holds no certificate: a section `BEGIN CERTIFICATE` is needed")]
    NoCertificate(PathBuf),
    /// PEM without a key.
    #[error(
        "`{0}` holds no private key: an unencrypted section `BEGIN PRIVATE KEY` (PKCS #8), RSA or EC, is needed"
    )]
    NoKey(PathBuf),
    /// A key that can't be used to sign.
    #[error("the private key of `{path}` can't be used: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: rustls::Error,
    },
    /// Not a pair.
    #[error(
        "the first certificate of `{certificate}` and the private key of `{key}` don't belong together: {error}"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        error: rustls::Error,
    },
}

impl Certificate {
    /// Reads a chain, its own certificate first, and the key, both PEM.
    pub fn load(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Arc<Self>, CertificateError> {
        let (certificate, key) = (certificate.into(), key.into());
        let current = ArcSwap::from_pointee(read(&certificate, &key)?);
        Ok(Arc::new(Self { certificate, key, current }))
    }

    /// Reads the files again; whether there is another certificate now. On an error the old one stays. The two
    /// files can't be replaced at once: a mismatch may be gone a moment later.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let next = read(&self.certificate, &self.key)?;
        let changed = next.cert != self.current.load().cert;
        if changed {
            self.current.store(Arc::new(next));
        }
        Ok(changed)
    }

    /// TLS 1.2 and 1.3 with this certificate and one application protocol.
    pub(crate) fn server_config(self: &Arc<Self>, protocol: &[u8]) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// One name, one certificate, whatever name the client asks for.
impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&file(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { path: certificate.into(), error })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(certificate.into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&file(key)?).map_err(|error| match error {
        PemError::NoItemsFound => CertificateError::NoKey(key.into()),
        error => CertificateError::Pem { path: key.into(), error },
    })?;
    let signing = ring::sign::any_supported_type(&private)
        .map_err(|error| CertificateError::Key { path: key.into(), error })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // Not every key can tell its public half: then the first handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => {
            Err(CertificateError::Mismatch { certificate: certificate.into(), key: key.into(), error })
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|error| CertificateError::Read { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        _directory: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    impl Files {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
            let files = Self { _directory: directory, certificate, key };
            files.renew();
            files
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
            std::fs::write(&self.certificate, made.cert.pem()).unwrap();
            std::fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        }
    }

    fn first(certificate: &Certificate) -> CertificateDer<'static> {
        certificate.current.load().cert[0].clone()
    }

    #[test]
    fn a_new_certificate_takes_over() {
        let files = Files::new();
        let certificate = Certificate::load(&files.certificate, &files.key).unwrap();
        let old = first(&certificate);
        assert!(!certificate.reload().unwrap(), "nothing has changed");
        files.renew();
        assert!(certificate.reload().unwrap());
        assert_ne!(first(&certificate), old);
    }

    /// Nothing known is lost: what is wrong is said, and what was good stays.
    #[test]
    fn a_bad_file_keeps_the_old_certificate() {
        type Break = fn(&Files);
        let cases: [(Break, &str); 7] = [
            (|files| std::fs::remove_file(&files.certificate).unwrap(), "cannot read `CRT`"),
            (|files| std::fs::remove_file(&files.key).unwrap(), "cannot read `KEY`"),
            (|files| std::fs::write(&files.certificate, "").unwrap(), "`CRT` holds no certificate"),
            (
                |files| std::fs::copy(&files.key, &files.certificate).map(drop).unwrap(),
                "`CRT` holds no certificate",
            ),
            (|files| std::fs::write(&files.key, "nonsense").unwrap(), "`KEY` holds no private key"),
            (
                |files| std::fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\n!").unwrap(),
                "`CRT` is no PEM file",
            ),
            (
                |files| std::fs::copy(&Files::new().key, &files.key).map(drop).unwrap(),
                "the first certificate of `CRT` and the private key of `KEY` don't belong together",
            ),
        ];
        for (break_it, message) in cases {
            let files = Files::new();
            let certificate = Certificate::load(&files.certificate, &files.key).unwrap();
            let old = first(&certificate);
            break_it(&files);
            let message = message
                .replace("CRT", &files.certificate.display().to_string())
                .replace("KEY", &files.key.display().to_string());
            let error = certificate.reload().unwrap_err().to_string();
            assert!(error.starts_with(&message), "{error}\nis not\n{message}");
            assert_eq!(first(&certificate), old);
            let error = Certificate::load(&files.certificate, &files.key).unwrap_err().to_string();
            assert!(error.starts_with(&message), "{error}");
        }
    }
}
