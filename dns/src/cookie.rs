//! DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018: proof that a UDP client's address is its own.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Octets of a client cookie (RFC 7873 §4.1).
const CLIENT: usize = 8;
/// Octets of our server cookie: version, reserved, timestamp, hash (RFC 9018 §4).
const SERVER: usize = 16;
/// The only version (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// A server cookie is good for an hour, and renewed when half of it is over (RFC 9018 §4.3).
const LIFETIME: i32 = 3600;
const RENEWAL: i32 = 1800;
/// Clocks of servers behind one address may differ by this (RFC 9018 §4.3).
const SKEW: i32 = 300;

/// A server's secret: 128 bits for SipHash-2-4 (RFC 9018 §4.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

/// Secrets are not for logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a query's cookie says, and what the reply says back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// Whether the server cookie is one of ours for this client: the client's address is proven.
    pub(crate) proven: bool,
    /// The reply's option: client cookie and a server cookie that is good for half an hour at least.
    pub(crate) option: [u8; CLIENT + SERVER],
}

impl Cookie {
    /// Judges the cookie option of a query that came from `client` at `now` (seconds since the epoch; RFC
    /// 1982 arithmetic carries on after 2106). `None` when there is no secret or no client cookie.
    pub(crate) fn judge(secrets: &[Secret], option: &[u8], client: IpAddr, now: u32) -> Option<Self> {
        let signing = secrets.first()?;
        let (client_cookie, server_cookie) = option.split_first_chunk::<CLIENT>()?;
        let mut reply = [0; CLIENT + SERVER];
        reply[..CLIENT].copy_from_slice(client_cookie);
        let verified = <&[u8; SERVER]>::try_from(server_cookie)
            .ok()
            .and_then(|server| Some((server, verify(secrets, client_cookie, server, client, now)?)));
        match verified {
            Some((server, Verified { age, signing: true })) if age < RENEWAL => {
                reply[CLIENT..].copy_from_slice(server);
            }
            _ => reply[CLIENT..].copy_from_slice(&sign(signing, client_cookie, client, now)),
        }
        Some(Self { proven: verified.is_some(), option: reply })
    }
}

/// A server cookie of ours.
#[derive(Clone, Copy)]
struct Verified {
    /// In seconds.
    age: i32,
    /// Whether it was made with the secret that signs now.
    signing: bool,
}

fn verify(
    secrets: &[Secret],
    client_cookie: &[u8; CLIENT],
    server: &[u8; SERVER],
    client: IpAddr,
    now: u32,
) -> Option<Verified> {
    let time = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
    let age = now.wrapping_sub(time) as i32;
    if server[0] != VERSION || !(-SKEW..=LIFETIME).contains(&age) {
        return None;
    }
    let (head, hash) = server.split_at(8);
    let secret = secrets.iter().position(|secret| digest(secret, client_cookie, head, client) == *hash)?;
    Some(Verified { age, signing: secret == 0 })
}

fn sign(secret: &Secret, client_cookie: &[u8; CLIENT], client: IpAddr, now: u32) -> [u8; SERVER] {
    let mut server = [0; SERVER];
    server[0] = VERSION;
    server[4..8].copy_from_slice(&now.to_be_bytes());
    let hash = digest(secret, client_cookie, &server[..8], client);
    server[8..].copy_from_slice(&hash);
    server
}

/// SipHash-2-4 of client cookie, version, reserved, timestamp and client address, low octet first (RFC 9018 §4.4).
fn digest(secret: &Secret, client_cookie: &[u8; CLIENT], head: &[u8], client: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(&secret.0);
    hasher.write(client_cookie);
    hasher.write(head);
    match client {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(octet).collect()
    }

    fn secret(text: &str) -> Secret {
        Secret(hex(text).try_into().unwrap())
    }

    fn judge(secrets: &[Secret], option: &str, client: &str, now: u32) -> Cookie {
        Cookie::judge(secrets, &hex(option), client.parse().unwrap(), now).unwrap()
    }

    const OLD: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const CLIENT_1: &str = "198.51.100.100";
    const ISSUED: u32 = 1_559_731_985;
    const FIRST: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";

    /// RFC 9018 appendix A.1 to A.4.
    #[test]
    fn examples_of_the_rfc() {
        let (before, after) =
            (secret("dd3bdf9344b678b185a6f5cb60fca715"), secret("445536bcd2513298075a5d379663c962"));
        let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8";
        for (secrets, query, client, now, proven, reply) in [
            (vec![secret(OLD)], "2464c4abcf10c957", CLIENT_1, ISSUED, false, FIRST),
            (
                vec![secret(OLD)],
                FIRST,
                CLIENT_1,
                1_559_734_385,
                true,
                "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
            ),
            // The example's own cookie is 112 minutes old: renewed, and no longer proof (§4.3).
            (
                vec![secret(OLD)],
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_734_700,
                false,
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
            ),
            (
                vec![after, before],
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                v6,
                1_559_741_961,
                true,
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let cookie = judge(&secrets, query, client, now);
            assert_eq!((cookie.proven, &cookie.option[..]), (proven, &hex(reply)[..]), "{query}");
        }
    }

    /// RFC 9018 §4.2: the reserved octets are part of the hash, whatever they are.
    #[test]
    fn reserved_octets_may_be_anything() {
        let query = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        assert!(judge(&[secret(OLD)], query, "203.0.113.203", 1_559_727_985).proven);
    }

    /// RFC 9018 §4.3: accepted up to an hour old and five minutes ahead, renewed after half an hour.
    #[test]
    fn age_decides() {
        for (now, proven, kept) in [
            (ISSUED, true, true),
            (ISSUED + 1799, true, true),
            (ISSUED + 1800, true, false),
            (ISSUED + 3600, true, false),
            (ISSUED + 3601, false, false),
            (ISSUED - 300, true, true),
            (ISSUED - 301, false, false),
        ] {
            let cookie = judge(&[secret(OLD)], FIRST, CLIENT_1, now);
            assert_eq!((cookie.proven, cookie.option[..] == hex(FIRST)), (proven, kept), "{now}");
        }
    }

    #[test]
    fn foreign_cookies_prove_nothing() {
        let other = secret("dd3bdf9344b678b185a6f5cb60fca715");
        assert!(!judge(&[other], FIRST, CLIENT_1, ISSUED).proven);
        assert!(!judge(&[secret(OLD)], FIRST, "198.51.100.101", ISSUED).proven);
        for at in [0, 8, 15, 23] {
            let mut option = hex(FIRST);
            option[at] ^= 1;
            let cookie = Cookie::judge(&[secret(OLD)], &option, CLIENT_1.parse().unwrap(), ISSUED).unwrap();
            assert!(!cookie.proven, "octet {at}");
            assert_eq!(cookie.option[..8], option[..8], "the client's own cookie comes back");
        }
        let long = [hex(FIRST), vec![0; 16]].concat();
        assert!(!Cookie::judge(&[secret(OLD)], &long, CLIENT_1.parse().unwrap(), ISSUED).unwrap().proven);
    }

    /// RFC 1982: timestamps wrap in 2106.
    #[test]
    fn time_wraps() {
        let secrets = [secret(OLD)];
        let fresh = judge(&secrets, "2464c4abcf10c957", CLIENT_1, u32::MAX - 10);
        let client = CLIENT_1.parse().unwrap();
        assert!(Cookie::judge(&secrets, &fresh.option, client, 100).unwrap().proven);
        assert!(!Cookie::judge(&secrets, &fresh.option, client, 3700).unwrap().proven);
    }

    #[test]
    fn no_secret_no_cookie() {
        assert_eq!(Cookie::judge(&[], &hex(FIRST), CLIENT_1.parse().unwrap(), ISSUED), None);
    }
}
