//! What a scalar may mean. Each kind of value says what it expects, and why a text is not that.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portolan_zones::peers::State;
use portolan_zones::{ClusterId, Name, ServiceName};

/// A value that is written as one word.
pub trait Scalar: Sized {
    /// What is expected, as in "expected a duration such as `5s`".
    const EXPECTED: &'static str;
    /// Whether an empty text is a value of its own rather than none.
    const MAY_BE_EMPTY: bool = false;
    /// Whether messages must not repeat the text.
    const PRIVATE: bool = false;

    /// The value, or how the sentence "`text` …" goes on.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Scalars whose `FromStr` is right and whose errors say less than what is expected.
macro_rules! from_str {
    ($($kind:ty: $expected:literal;)*) => {$(
        impl Scalar for $kind {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("is not {}", Self::EXPECTED))
            }
        }
    )*};
}

from_str! {
    bool: "`true` or `false`";
    u8: "a whole number from 0 to 255";
    u32: "a whole number from 0 to 4294967295";
    u16: "a whole number from 0 to 65535";
    usize: "a whole number";
    f64: "a number";
    NonZeroU32: "a whole number from 1 to 4294967295";
    NonZeroUsize: "a whole number from 1";
    IpAddr: "an IP address";
    SocketAddr: "an address with a port, such as `0.0.0.0:53` or `[::]:53`";
}

impl Scalar for String {
    const EXPECTED: &'static str = "a text";
    const MAY_BE_EMPTY: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Scalar for ClusterId {
    const EXPECTED: &'static str = "a cluster id";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|error| format!("is no cluster id: {error}"))
    }
}

impl Scalar for ServiceName {
    const EXPECTED: &'static str = "a service's namespace and name, such as `shop/cart`";

    fn parse(text: &str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| format!("is not {}", Self::EXPECTED))?;
        Self::new(namespace, name).map_err(|error| format!("is not {}: {error}", Self::EXPECTED))
    }
}

impl Scalar for State {
    const EXPECTED: &'static str = "`up`, `drain` or `down`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("is not {}", Self::EXPECTED))
    }
}

impl Scalar for Name {
    const EXPECTED: &'static str = "a domain name";

    fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map_err(|error| format!("is no domain name: {error}"))
    }
}

/// Numbers with units, largest first or not: `5s`, `1h30m`, `500ms`.
impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration such as `500ms`, `5s`, `1h30m` or `2d`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("is not {}", Self::EXPECTED);
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(|| format!("has no unit: write {text}s for seconds"))?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_len);
            let number: u32 = number.parse().map_err(|_| wrong())?;
            let unit = match unit {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3600),
                "d" => Duration::from_secs(86_400),
                _ => return Err(wrong()),
            };
            total = unit.checked_mul(number).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
            rest = next;
        }
        Ok(total)
    }
}

/// A network, or an address, which is the network that holds only it.
impl Scalar for IpNet {
    const EXPECTED: &'static str = "a network such as `10.0.0.0/8`, or an address";

    fn parse(text: &str) -> Result<Self, String> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| format!("is not {}", Self::EXPECTED))?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(format!("has bits behind its prefix: write {}", net.trunc()))
        }
    }
}

impl Scalar for Ipv4Net {
    const EXPECTED: &'static str = "an IPv4 network such as `241.0.0.0/8`";

    fn parse(text: &str) -> Result<Self, String> {
        match <IpNet as Scalar>::parse(text)? {
            IpNet::V4(net) => Ok(net),
            IpNet::V6(_) => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}

impl Scalar for Ipv6Net {
    const EXPECTED: &'static str = "an IPv6 network such as `fd00::/108`";

    fn parse(text: &str) -> Result<Self, String> {
        match <IpNet as Scalar>::parse(text)? {
            IpNet::V6(net) => Ok(net),
            IpNet::V4(_) => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}

/// The origin of a reverse zone: a network on an octet boundary (IPv4, RFC 1035 §3.5) or nibble boundary (IPv6,
/// RFC 3596 §2.5), or the origin itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReverseOrigin(pub(crate) Name);

impl Scalar for ReverseOrigin {
    const EXPECTED: &'static str =
        "a network such as `241.0.0.0/16`, or an origin such as `0.241.in-addr.arpa`";

    fn parse(text: &str) -> Result<Self, String> {
        let origin = match text.contains('/') {
            true => reverse_origin(<IpNet as Scalar>::parse(text)?)?,
            false => text.to_owned(),
        };
        let name = <Name as Scalar>::parse(&origin)?;
        let reverse = [".in-addr.arpa.", ".ip6.arpa."].iter().any(|end| format!(".{name}").ends_with(end));
        if reverse { Ok(Self(name)) } else { Err(format!("is not {}", Self::EXPECTED)) }
    }
}

fn reverse_origin(net: IpNet) -> Result<String, String> {
    let prefix = usize::from(net.prefix_len());
    let (labels, suffix): (Vec<String>, _) = match net {
        IpNet::V4(net) if prefix % 8 == 0 => {
            (net.addr().octets()[..prefix / 8].iter().map(u8::to_string).collect(), "in-addr.arpa")
        }
        IpNet::V6(net) if prefix % 4 == 0 => {
            let nibbles = net.addr().octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            (nibbles.take(prefix / 4).map(|nibble| format!("{nibble:x}")).collect(), "ip6.arpa")
        }
        IpNet::V4(_) => return Err("is not on an octet boundary: use /8, /16, /24 or /32".into()),
        IpNet::V6(_) => return Err("is not on a nibble boundary: use a prefix length that 4 divides".into()),
    };
    Ok(labels.into_iter().rev().chain([suffix.to_owned()]).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("500ms", ms(500)),
            ("5s", ms(5_000)),
            ("1h30m", ms(5_400_000)),
            ("0s", ms(0)),
            ("2d", ms(172_800_000)),
        ] {
            assert_eq!(Duration::parse(text), Ok(expected), "{text}");
        }
        for text in
            ["5", "s", "5 s", "-5s", "5y", "1.5s", "99999999999s", "4294967295d4294967295d4294967295dd"]
        {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    /// RFC 1035 §3.5 and RFC 3596 §2.5: a label per octet or nibble, last first.
    #[test]
    fn networks_name_reverse_zones() {
        for (text, origin) in [
            ("241.0.0.0/8", "241.in-addr.arpa."),
            ("10.96.0.0/16", "96.10.in-addr.arpa."),
            ("fd00:1234::/32", "4.3.2.1.0.0.d.f.ip6.arpa."),
            ("0.241.in-addr.arpa", "0.241.in-addr.arpa."),
            ("0.0.0.0/0", "in-addr.arpa."),
        ] {
            assert_eq!(ReverseOrigin::parse(text).map(|o| o.0.to_string()), Ok(origin.to_owned()));
        }
        for text in
            ["10.0.0.0/12", "fd00::/7", "10.0.0.1/8", "example.com", "10.0.0.0", "x/8", "notin-addr.arpa"]
        {
            assert!(ReverseOrigin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_bits_behind_the_prefix() {
        assert_eq!(<IpNet as Scalar>::parse("10.1.2.3"), Ok("10.1.2.3/32".parse().unwrap()));
        assert_eq!(
            <IpNet as Scalar>::parse("10.1.2.3/8"),
            Err("has bits behind its prefix: write 10.0.0.0/8".into())
        );
    }
}
