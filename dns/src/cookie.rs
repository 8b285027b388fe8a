//! DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018: proof that a UDP client's address is its own.

/// A server's secret: 128 bits for SipHash-2-4 (RFC 9018 §4.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

/// Secrets are not for logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
