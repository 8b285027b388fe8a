//! What a scalar may mean to a DNS server alone: codes of geography, and secrets.

use portolan_config::Scalar;
use portolan_dns::cookie::Secret;
use portolan_dns::geo::Code;

/// Of what kind a geographical code is: two letters look like two letters.
macro_rules! code {
    ($($(#[$doc:meta])* $kind:ident: $expected:literal, $fits:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(super) struct $kind(pub(super) Code);

        impl Scalar for $kind {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                let fits: fn(&str) -> bool = $fits;
                let code = Code::new(text).filter(|_| fits(&text.to_ascii_uppercase()));
                code.map(Self).ok_or_else(|| format!("is not {}", Self::EXPECTED))
            }
        }
    )*};
}

code! {
    /// ISO 3166-1 alpha-2.
    Country: "a country's two letters (ISO 3166-1), such as `DE`",
        |text| text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_uppercase());
    /// ISO 3166-2.
    Subdivision: "what is behind the dash of a subdivision's code (ISO 3166-2), such as `BY` of DE-BY", |_| true;
    /// As MaxMind writes them.
    Continent: "one of `AF`, `AN`, `AS`, `EU`, `NA`, `OC` and `SA`",
        |text| ["AF", "AN", "AS", "EU", "NA", "OC", "SA"].contains(&text);
}

/// A cookie secret, as it is written.
#[derive(Debug)]
pub(super) struct HexSecret(pub(super) Secret);

impl Scalar for HexSecret {
    const EXPECTED: &'static str = "32 hexadecimal digits";
    const PRIVATE: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let all_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| all_hex);
        let secret = number.map(|number| Self(Secret(number.to_be_bytes())));
        secret.ok_or_else(|| format!("is not {}", Self::EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_32_hex_digits_and_stay_unprinted() {
        let HexSecret(secret) = HexSecret::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(secret.0[15], 15);
        assert!(!format!("{secret:?}").contains("0f"));
        for text in ["", "00", "+00102030405060708090a0b0c0d0e0f", &"g".repeat(32), &"0".repeat(33)] {
            assert!(HexSecret::parse(text).is_err(), "{text}");
        }
    }
}
