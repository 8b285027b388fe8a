//! One file in MaxMind's format: what it says of an address.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use maxminddb::{LookupResult, MaxMindDbError, Reader, path};

use super::rules::{Code, Position};

/// Larger files are refused: the largest that MaxMind sells have half of this.
const MAX_SIZE: u64 = 1 << 30;

/// What a database says of an address, as far as rules go by it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Location {
    /// Two letters.
    pub continent: Option<Code>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<Code>,
    /// The largest one, as behind the dash of ISO 3166-2.
    pub subdivision: Option<Code>,
    /// Number of the autonomous system.
    pub asn: Option<u32>,
    /// Roughly where.
    pub position: Option<Position>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It can't be read.
    #[error("cannot be read: {0}; check that it exists and that this process may read it")]
    Read(#[from] io::Error),
    /// There is more of it than can be meant.
    #[error("has more than {MAX_SIZE} octets: it is not a database that is meant here")]
    TooLarge,
    /// It is damaged, half written or something else.
    #[error("is no sound MaxMind database: {0}; get it again")]
    Corrupt(#[from] MaxMindDbError),
    /// Its tree runs in circles, or into itself.
    #[error("is no sound MaxMind database: its tree of {nodes} nodes does not end; get it again")]
    Endless {
        /// How many nodes it says to have.
        nodes: u32,
    },
}

/// A whole file in memory.
#[derive(Debug)]
pub struct Database(Reader<Vec<u8>>);

impl Database {
    /// Reads a file. What it says of single addresses is not looked at yet.
    pub fn open(file: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(file)?;
        // A file that grows meanwhile is read up to the limit.
        let mut octets = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > MAX_SIZE {
            return Err(DatabaseError::TooLarge);
        }
        Self::from_octets(octets)
    }

    /// Takes a file's contents.
    pub fn from_octets(octets: Vec<u8>) -> Result<Self, DatabaseError> {
        Ok(Self(Reader::from_source(octets)?))
    }

    /// What is known of an address, and the length of the prefix around it that the database knows as one network.
    pub fn locate(&self, address: IpAddr) -> Result<(Location, u8), DatabaseError> {
        if address.is_ipv6() && !self.has_ipv6() {
            return Ok((Location::default(), 0));
        }
        let (_, found, length) = self.find(address)?;
        Ok((location(&found)?, length))
    }

    /// Where in the file an address's record is, the record, and the length of its network's prefix.
    pub(super) fn find(&self, address: IpAddr) -> Result<Found<'_>, DatabaseError> {
        let found = self.0.lookup(address)?;
        let network = found.network()?;
        // A database of IPv6 alone has one record at most for all of IPv4.
        let length = if address.is_ipv4() && network.is_ipv6() { 0 } else { network.prefix() };
        Ok((found.offset(), found, length))
    }

    pub(super) fn has_ipv6(&self) -> bool {
        self.0.metadata().ip_version == 6
    }

    /// Nodes of its tree.
    pub(super) fn nodes(&self) -> u32 {
        self.0.metadata().node_count
    }

    /// `GeoLite2-City`, for example.
    pub(super) fn kind(&self) -> &str {
        &self.0.metadata().database_type
    }

    /// In seconds since the Unix epoch.
    pub(super) fn built(&self) -> u64 {
        self.0.metadata().build_epoch
    }
}

pub(super) type Found<'a> = (Option<usize>, LookupResult<'a, Vec<u8>>, u8);

/// Reads the fields that there are; one that is there and of another type than MaxMind's is an error.
pub(super) fn location(record: &LookupResult<'_, Vec<u8>>) -> Result<Location, DatabaseError> {
    let code = |path: &[maxminddb::PathElement<'_>]| -> Result<Option<Code>, DatabaseError> {
        Ok(record.decode_path::<&str>(path)?.and_then(Code::new))
    };
    let asn = match record.decode_path(&path!["autonomous_system_number"])? {
        Some(asn) => Some(asn),
        // GeoIP2 Enterprise.
        None => record.decode_path(&path!["traits", "autonomous_system_number"])?,
    };
    let latitude = record.decode_path(&path!["location", "latitude"])?;
    let longitude = record.decode_path(&path!["location", "longitude"])?;
    Ok(Location {
        continent: code(&path!["continent", "code"])?,
        country: code(&path!["country", "iso_code"])?,
        subdivision: code(&path!["subdivisions", 0, "iso_code"])?,
        asn,
        position: latitude
            .zip(longitude)
            .and_then(|(latitude, longitude)| Position::new(latitude, longitude)),
    })
}
