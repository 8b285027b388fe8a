//! The thread that closes sockets whose backend is gone: nobody waits for it.

use std::sync::mpsc::Receiver;

use portolan_ebpf::connected::ConnectedSockets;
use portolan_ebpf::reconcile::Lost;
use portolan_ebpf::sockets;
use tracing::{info, warn};

use crate::keeper::{Shown, lock};

/// What the thread is to do.
pub(crate) struct ToClose {
    /// Whose sockets are closed; none: it is only looked whether they could be.
    pub lost: Vec<Lost>,
    /// Whether sockets may have been closed that no program saw: they are forgotten.
    pub tidies: bool,
}

/// Closes sockets until nobody names any more.
pub(crate) fn close(asked: &Receiver<ToClose>, connected: &ConnectedSockets, shown: &Shown) {
    while let Ok(ToClose { mut lost, mut tidies }) = asked.recv() {
        for more in asked.try_iter() {
            lost.extend(more.lost);
            tidies |= more.tidies;
        }
        // Who never had anything to close need not be able to.
        let is_idle = lost.is_empty() && lock(shown).sockets_trouble.is_none();
        if !is_idle {
            close_now(&lost, connected, shown);
        }
        if tidies {
            tidy(connected);
        }
    }
}

fn tidy(connected: &ConnectedSockets) {
    match sockets::forget_gone(connected) {
        Ok(0) => {}
        Ok(gone) => info!(sockets = gone, "forgot UDP sockets that were closed while no agent ran"),
        Err(why) => info!(
            "which UDP sockets were closed while no agent ran can't be told, and they keep their room: {why}; {}",
            sockets::needs(&why)
        ),
    }
}

fn close_now(lost: &[Lost], connected: &ConnectedSockets, shown: &Shown) {
    let closed = sockets::close(lost, &|cookie| connected.find(cookie));
    let trouble = closed.why.map(|why| {
        format!(
            "sockets of {} network namespaces can't be closed: {why}; {}",
            closed.failed,
            sockets::needs(&why)
        )
    });
    if closed.sockets > 0 {
        info!(sockets = closed.sockets, "closed UDP sockets whose backend is gone");
    }
    let mut shown = lock(shown);
    if let Some(trouble) = trouble.as_ref().filter(|_| shown.sockets_trouble.is_none()) {
        warn!("{trouble}");
    }
    shown.closed_sockets += closed.sockets as u64;
    shown.sockets_trouble = trouble;
}
