//! TLS of probes, which asks for no proof of who the server is.
//!
//! Certificates are for names, and probes go to addresses: there is seldom a certificate for one, and seldom an authority
//! for it that is known here. As kubelet's, a probe asks whether something answers. It sends no secret, and what it is
//! told decides no more than whether clients are sent to that address; they verify for themselves whom they find there.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::uri::Authority;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kubernetes::access::chain;

pub(super) struct Tls(TlsConnector);

impl Tls {
    /// To speak this protocol (ALPN).
    pub(super) fn new(protocol: &[u8]) -> Self {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Anybody(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        #[expect(clippy::expect_used, reason = "a constant of the library, and tests would show it")]
        // Ring's suites are for TLS 1.2 and 1.3, which are the versions that are enabled.
        let builder = builder.expect("ring supports the default versions");
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        // Tickets of thousands of servers would be kept, and each probe is to show that a handshake works.
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Asks for the host if it is a name (SNI); an address is no name.
    pub(super) async fn wrap<S>(
        &self,
        stream: S,
        address: SocketAddr,
        host: Option<&Authority>,
    ) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = host.and_then(|host| ServerName::try_from(host.host().to_owned()).ok());
        let name = name.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        self.0.connect(name, stream).await.map_err(|error| format!("no TLS: {}", chain(&error)))
    }
}

/// Whoever it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
