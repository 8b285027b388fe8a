//! What is replied to a query, before it is written: what follows from it for header, OPT and rate limit.

use portolan_zones::service::Absence;
use portolan_zones::{Found, Lookup};
use tokio::sync::OwnedSemaphorePermit;

use crate::edns::ExtendedError;
use crate::limiter::Class;
use crate::wire::rcode;

/// What is replied.
pub(super) enum Answer<'a> {
    /// No record, only a response code.
    Status(u16, Option<ExtendedError>),
    /// A lookup in one of our zones.
    Found(Lookup<'a>),
    /// A text about the server, class CH.
    Chaos(&'a str),
    /// Why the asker gets what it gets, class CH: a line each.
    Explained(Vec<String>),
    /// The whole zone at this position, with a place among the transfers.
    Transfer(usize, OwnedSemaphorePermit),
}

impl Answer<'_> {
    pub(super) fn rcode(&self) -> u16 {
        match self {
            Self::Status(rcode, _) => *rcode,
            Self::Found(Lookup { found: Found::NxDomain(_), .. }) => rcode::NXDOMAIN,
            Self::Found(Lookup { found: Found::NotReady, .. }) => rcode::SERVFAIL,
            Self::Found(_) | Self::Chaos(_) | Self::Explained(_) | Self::Transfer(..) => rcode::NOERROR,
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Found(Lookup { found: Found::NoData, .. }) => Class::NoData,
            Self::Found(Lookup { found: Found::NxDomain(_), .. }) => Class::NxDomain,
            Self::Found(Lookup { found: Found::NotReady, .. }) | Self::Status(..) => Class::Error,
            Self::Found(_) | Self::Chaos(_) | Self::Explained(_) | Self::Transfer(..) => Class::Answer,
        }
    }

    pub(super) fn is_authoritative(&self) -> bool {
        !matches!(self, Self::Status(..)) && matches!(self.rcode(), rcode::NOERROR | rcode::NXDOMAIN)
    }

    pub(super) fn error(&self) -> Option<ExtendedError> {
        match self {
            Self::Status(_, error) => *error,
            Self::Found(Lookup { found: Found::NotReady, .. }) => Some(ExtendedError::NOT_READY),
            Self::Found(Lookup { found: Found::NxDomain(Some(why)), .. }) => Some(match why {
                Absence::NoReadyEndpoints => ExtendedError::NO_READY_ENDPOINTS,
                Absence::NoVip => ExtendedError::NO_VIRTUAL_IP,
                Absence::NameTooLong => ExtendedError::NAME_TOO_LONG,
            }),
            Self::Found(Lookup { service: Some(service), .. }) if service.stale => Some(ExtendedError::STALE),
            _ => None,
        }
    }
}

pub(super) fn status<'a>(rcode: u16) -> Answer<'a> {
    Answer::Status(rcode, None)
}

pub(super) fn refused<'a>(why: ExtendedError) -> Answer<'a> {
    Answer::Status(rcode::REFUSED, Some(why))
}
