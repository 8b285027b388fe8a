//! Hashes that all servers agree on, whatever release they are and whatever machine they run on: what clients stay with rests
//! on them.
//!
//! SipHash-1-3 (Aumasson and Bernstein) of octets that are spelled out here: how `std` hashes its types, and what a fast hash
//! makes of them, may change with every release of theirs. A test holds the results.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// What a hash is of, so far.
pub(crate) struct Agreed(SipHasher13);

impl Agreed {
    /// Of nothing yet. The key is no secret: it says what for, and hashes for two purposes have nothing to do with each other.
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// And of a number.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.write(&number.to_le_bytes());
        self
    }

    /// And of a text, with its length: where it ends is part of it.
    pub(crate) fn text(mut self, text: &[u8]) -> Self {
        self = self.number(text.len() as u64);
        self.0.write(text);
        self
    }

    /// And of an address, or of none.
    pub(crate) fn address(mut self, address: Option<IpAddr>) -> Self {
        match address {
            None => self.0.write(&[0]),
            Some(IpAddr::V4(v4)) => {
                self.0.write(&[4]);
                self.0.write(&v4.octets());
            }
            Some(IpAddr::V6(v6)) => {
                self.0.write(&[6]);
                self.0.write(&v6.octets());
            }
        }
        self
    }

    /// The hash.
    pub(crate) fn finish(self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another result is another hash: replicas of two releases would disagree, and sticky clients move.
    #[test]
    fn the_same_in_every_release() {
        let of = || Agreed::new(b"portolan testing");
        let address = |text: &str| of().address(Some(text.parse().unwrap())).finish();
        for (hash, expected) in [
            (of().finish(), 0x7e4d_a1b2_dbb9_c8c1),
            (of().number(1).finish(), 0x18bc_4a19_93d5_5ecc),
            (of().text(b"").finish(), 0x19c4_f177_2f08_881e),
            (of().text(b"\x04cart\x04shop").finish(), 0x520f_a7de_7a42_fd43),
            (of().address(None).finish(), 0x3c4c_5035_948c_729d),
            (address("192.0.2.1"), 0x697a_c0a0_55ba_2c62),
            (address("2001:db8::1"), 0x2ee4_8230_fb25_2a2e),
            (address("::ffff:192.0.2.1"), 0x77f2_e458_eb2d_9d67),
        ] {
            assert_eq!(hash, expected, "{hash:#018x}");
        }
    }

    #[test]
    fn what_is_cut_elsewhere_is_something_else() {
        let of = |texts: [&[u8]; 2]| {
            texts.into_iter().fold(Agreed::new(b"portolan testing"), Agreed::text).finish()
        };
        assert_ne!(of([b"ab", b"c"]), of([b"a", b"bc"]));
        assert_ne!(of([b"", b"a"]), of([b"a", b""]));
    }
}
