//! How many connections there may be, in all and of one client (RFC 7766 §6.2.2, RFC 9210 §4.1).
//!
//! Over a limit the connection that has been idle longest makes room: of the same client if the client is over its
//! limit, else of all. RFC 7766 §6.2.3 lets a server close idle connections at any time, and clients come again. One
//! whose client does not take its replies is idle, too. Only when none is idle is the new connection refused: so neither
//! floods of connections that are silent or not read from nor one client locks the others out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::settings::Tcp;

/// In place of a time: the connection is being used.
const BUSY: u64 = u64::MAX;

/// All connections of all listeners.
pub(crate) struct Connections {
    open: Mutex<Open>,
    start: Instant,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_id: HashMap<u64, Connection>,
    by_client: HashMap<IpAddr, usize>,
}

struct Connection {
    client: IpAddr,
    /// Since when, in microseconds from [`Connections::start`].
    idle: Arc<AtomicU64>,
    close: CancellationToken,
}

/// A connection's place. Dropped when the connection ends.
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
    idle: Arc<AtomicU64>,
    close: CancellationToken,
}

/// A connection was let in.
pub(crate) struct Admitted {
    pub(crate) place: Place,
    /// Whether another one had to go for it.
    pub(crate) evicted: bool,
}

impl Connections {
    /// No connections. `start` is any instant before the first one.
    pub(crate) fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), start })
    }

    /// A place for a connection of `client`, which starts idle; `None` when all connections that it competes with are busy.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr, limits: &Tcp, now: Instant) -> Option<Admitted> {
        let client = network(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        let evicted = if of_client >= limits.max_connections_per_client {
            open.evict(|connection| connection.client == client)?;
            true
        } else if open.by_id.len() >= limits.max_connections {
            open.evict(|_| true)?;
            true
        } else {
            false
        };
        let id = open.next;
        open.next += 1;
        let (idle, close) = (Arc::new(AtomicU64::new(self.micros(now))), CancellationToken::new());
        open.by_id.insert(id, Connection { client, idle: idle.clone(), close: close.clone() });
        *open.by_client.entry(client).or_insert(0) += 1;
        Some(Admitted { place: Place { connections: self.clone(), id, idle, close }, evicted })
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }
}

impl Open {
    /// Closes the connection that has been idle longest of those that may go; `None` when all are busy.
    fn evict(&mut self, may_go: impl Fn(&Connection) -> bool) -> Option<()> {
        let candidates = self.by_id.iter().filter(|(_, connection)| may_go(connection));
        let times = candidates.map(|(id, connection)| (connection.idle.load(Ordering::Relaxed), *id));
        let (_, id) = times.filter(|(since, _)| *since != BUSY).min()?;
        self.remove(id)?.close.cancel();
        Some(())
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.by_id.remove(&id)?;
        if let Some(n) = self.by_client.get_mut(&connection.client) {
            *n -= 1;
            if *n == 0 {
                self.by_client.remove(&connection.client);
            }
        }
        Some(connection)
    }
}

impl Place {
    /// From then on the connection waits for its client, and may be closed for another one.
    pub(crate) fn idle(&self, now: Instant) {
        self.idle.store(self.connections.micros(now), Ordering::Relaxed);
    }

    /// From now on the connection is being used.
    pub(crate) fn busy(&self) {
        self.idle.store(BUSY, Ordering::Relaxed);
    }

    /// Waits until the connection has to make room.
    pub(crate) async fn closed(&self) {
        self.close.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host can choose addresses from.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(max_connections: usize, max_connections_per_client: usize) -> Tcp {
        Tcp { max_connections, max_connections_per_client, ..Tcp::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// RFC 7766 §6.2.3: idle connections may be closed.
    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (connections, limits) = (Connections::new(start), limits(3, 3));
        let admit = |client, seconds| {
            connections.admit(ip(client), &limits, at(seconds)).map(|a| (a.place, a.evicted))
        };
        let (first, _) = admit("192.0.2.1", 1).unwrap();
        let (second, _) = admit("192.0.2.2", 2).unwrap();
        let (third, evicted) = admit("192.0.2.3", 3).unwrap();
        assert!(!evicted);
        first.idle(at(9));
        second.busy();
        let (fourth, evicted) = admit("192.0.2.4", 10).unwrap();
        assert!(evicted && third.close.is_cancelled());
        assert!(!first.close.is_cancelled() && !second.close.is_cancelled());
        first.busy();
        fourth.busy();
        assert!(admit("192.0.2.5", 11).is_none(), "nobody is idle");
        drop(third);
        assert!(admit("192.0.2.5", 12).is_none(), "the evicted one's place was given away already");
        drop(second);
        assert!(admit("192.0.2.5", 13).is_some());
    }

    #[test]
    fn one_client_competes_with_itself() {
        let start = Instant::now();
        let (connections, limits) = (Connections::new(start), limits(10, 2));
        let admit = |client| connections.admit(ip(client), &limits, start).map(|admitted| admitted.place);
        let other = admit("192.0.2.9").unwrap();
        let (first, second) = (admit("192.0.2.1").unwrap(), admit("::ffff:192.0.2.1").unwrap());
        first.busy();
        let third = admit("192.0.2.1").unwrap();
        assert!(second.close.is_cancelled() && !other.close.is_cancelled() && !first.close.is_cancelled());
        third.busy();
        assert!(admit("192.0.2.1").is_none());
        assert!(admit("192.0.2.2").is_some());
        let same = [admit("2001:db8::1").unwrap(), admit("2001:db8::ffff:1").unwrap()];
        same.iter().for_each(Place::busy);
        assert!(admit("2001:db8::2").is_none(), "one /64 is one client");
        assert!(admit("2001:db8:0:1::2").is_some());
    }
}
