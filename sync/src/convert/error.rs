//! Why an object is refused.

use std::net::IpAddr;

use portolan_zones::NameError;

/// Why an object is refused; each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Path of the field.
        field: String,
    },
    /// No DNS label, or no cluster id.
    #[error("{field}: {error}")]
    Name {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Too long for what becomes of it.
    #[error("{field} has {len} characters, allowed are {most}")]
    TooLong {
        /// Path of the field.
        field: String,
        /// What it has.
        len: usize,
        /// What it may have.
        most: usize,
    },
    /// No IP address.
    #[error("{field}: `{value}` is not an IP address")]
    Address {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// An address of the other IP family.
    #[error("{field}: `{value}` is not an {family} address, as addressType says")]
    Family {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
        /// The slice's `addressType`.
        family: &'static str,
    },
    /// An address at which no endpoint of another machine can be, as the API server judges endpoints, too.
    #[error(
        "{field}: {value} can't be an endpoint's: it is unspecified, loopback, link-local, multicast or mapped"
    )]
    NoEndpoint {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: IpAddr,
    },
    /// Neither an address nor a name that is resolved.
    #[error(
        "{field}: `{value}` is neither an IP address nor a host name that is looked up: it needs two labels at least, and names of clusters' own DNS or of this machine don't count"
    )]
    Host {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// A list that is longer than is read.
    #[error("{field} has {len} entries, allowed are {most}")]
    TooMany {
        /// Path of the field.
        field: String,
        /// What it has.
        len: usize,
        /// What it may have.
        most: usize,
    },
    /// Metadata that would make an import too large to be written.
    #[error("{field}: `{key}` and what follows would make them more than {most} octets")]
    TooLarge {
        /// Path of the field.
        field: String,
        /// The first key that is left out.
        key: String,
        /// What all may have.
        most: usize,
    },
    /// No network in CIDR form.
    #[error("{field}: `{value}` is not a network such as 10.1.0.0/24")]
    Network {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// No port number.
    #[error("{field}: {value} is not a port from 1 to 65535")]
    Port {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: i64,
    },
    /// No port and its number at the gateway.
    #[error("{field}: `{value}` is not of the form 80=30080 or 53/UDP=30053")]
    GatewayPort {
        /// The annotation.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// No time.
    #[error("{field}: `{value}` is not a time such as 2026-01-02T03:04:05Z (RFC 3339)")]
    Time {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// No number of seconds.
    #[error("{field}: {value} is not a number of seconds from 1 to 86400")]
    Seconds {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: i64,
    },
    /// None of the words that are allowed.
    #[error("{field}: `{value}` is not one of {}", allowed.join(", "))]
    Unknown {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static [&'static str],
    },
    /// A number that is too small or too large.
    #[error("{field}: {value} is not a number from {least} to {most}")]
    Range {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: i64,
        /// What it may hold at least.
        least: i64,
        /// What it may hold at most.
        most: i64,
    },
    /// No status codes.
    #[error("spec.healthCheck.expectedStatuses: `{value}` is not a status code or two, such as 200-399")]
    Statuses {
        /// What it holds.
        value: String,
    },
    /// No HTTP request can be made of it.
    #[error("spec.healthCheck: no request can be made of the path `{path}` and the host `{host}`")]
    Request {
        /// What would be asked for.
        path: String,
        /// Of whom.
        host: String,
    },
    /// No time that passes.
    #[error("{field}: `{value}` is not a time such as {such}")]
    Duration {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        such: &'static str,
    },
    /// Neither, or both, of two fields that stand for each other.
    #[error("{field}: one of {these} must be given, and not both")]
    OneOf {
        /// Path of the field that holds them.
        field: String,
        /// Their names.
        these: &'static str,
    },
    /// Too many labels, or none.
    #[error("{field} has {len} labels, allowed are 1 to {most}")]
    Labels {
        /// Path of the field.
        field: String,
        /// What it has.
        len: usize,
        /// What it may have.
        most: usize,
    },
    /// Something that is listed already.
    #[error("{field}: `{value}` is listed twice")]
    Twice {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: String,
    },
    /// A policy about all services, of somebody who may not say anything about them.
    #[error(
        "spec.scope: ClusterSet is for policies in the namespace portolan-system, this one is in {namespace}"
    )]
    Scope {
        /// Where it is.
        namespace: String,
    },
    /// An EndpointSlice of names: DNS answers here hold addresses.
    #[error("addressType: slices of type FQDN hold names, which can't be answered as addresses")]
    Fqdn,
}

impl ConvertError {
    pub(super) fn name(field: &str, error: NameError) -> Self {
        Self::Name { field: field.to_owned(), error }
    }

    pub(super) fn unknown(field: impl Into<String>, value: &str, allowed: &'static [&'static str]) -> Self {
        Self::Unknown { field: field.into(), value: value.to_owned(), allowed }
    }
}

/// Entries of an object that are left out while the rest of it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    first: Option<ConvertError>,
    more: usize,
}

impl Refused {
    pub(super) fn push(&mut self, error: ConvertError) {
        if self.first.is_none() {
            self.first = Some(error);
        } else {
            self.more += 1;
        }
    }

    /// For people; `None`: nothing was left out.
    pub fn text(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        let more = if self.more > 0 { format!(", and {} more", self.more) } else { String::new() };
        Some(format!("{first}{more}; this is left out, the rest counts"))
    }
}
