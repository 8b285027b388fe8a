//! How long ago something was, as kubectl prints it.

use portolan_zones::policy::explain::Age;

/// Seconds as kubectl's AGE has them: the two largest units that count.
pub(crate) fn age(seconds: i64) -> String {
    Age(seconds).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, expected) in
            [(-3, "0s"), (0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h"), (7300, "2h1m"), (90_061, "1d1h")]
        {
            assert_eq!(age(seconds), expected);
        }
    }
}
