//! The way to one API server. When its credentials change, those that work are kept until the new ones do.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Access;
use super::pulse::{Pulse, feel};

/// The credentials in use, and those that are to take their place.
pub(crate) struct Connection {
    now: Link,
    next: Option<Link>,
    stale_after: watch::Sender<Duration>,
}

/// A pulse that is felt.
struct Link {
    access: Access,
    pulses: watch::Receiver<Pulse>,
    /// The task behind `pulses`; it never ends by itself.
    _feeling: JoinSet<()>,
}

impl Link {
    fn new(access: Access, stale_after: watch::Receiver<Duration>) -> Self {
        let (sender, pulses) = watch::channel(Pulse::default());
        let mut feeling = JoinSet::new();
        feeling.spawn(feel(access.clone(), stale_after, sender));
        Self { access, pulses, _feeling: feeling }
    }

    fn has_answered(&self) -> bool {
        self.pulses.borrow().contact.is_some()
    }

    /// Waits until it has been asked again.
    async fn asked(&mut self) {
        if self.pulses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Connection {
    /// Begins to ask. Inside of a runtime.
    pub(crate) fn new(access: Access, stale_after: Duration) -> Self {
        let stale_after = watch::Sender::new(stale_after);
        Self { now: Link::new(access, stale_after.subscribe()), next: None, stale_after }
    }

    /// These credentials are to be used from now on, and contact is to be judged by this time. Those in use are kept until
    /// these work, if they are `good` for anything. Whether others are in use now.
    pub(crate) fn set(&mut self, access: &Access, stale_after: Duration, good: bool) -> bool {
        self.stale_after.send_if_modified(|known| std::mem::replace(known, stale_after) != stale_after);
        let newest = self.next.as_ref().unwrap_or(&self.now);
        if newest.access == *access {
            return false;
        }
        self.next = None;
        if self.now.access == *access {
            return false;
        }
        let link = Link::new(access.clone(), self.stale_after.subscribe());
        if good && self.now.has_answered() {
            self.next = Some(link);
            return false;
        }
        self.now = link;
        true
    }

    /// Waits until a server has been asked again.
    pub(crate) async fn asked(&mut self) {
        match &mut self.next {
            None => self.now.asked().await,
            Some(next) => tokio::select! {
                () = self.now.asked() => {}
                () = next.asked() => {}
            },
        }
    }

    /// How the server in use is.
    pub(crate) fn pulse(&self) -> Pulse {
        self.now.pulses.borrow().clone()
    }

    /// How the server is that the new credentials lead to, while they are not in use.
    pub(crate) fn next_pulse(&self) -> Option<Pulse> {
        self.next.as_ref().map(|next| next.pulses.borrow().clone())
    }

    /// The new credentials take the place of the others.
    pub(crate) fn take_over(&mut self) {
        if let Some(next) = self.next.take() {
            self.now = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(name: &str) -> Access {
        Access::Unknown { problem: name.into() }
    }

    /// A connection whose server has answered, or not.
    fn connection(answered: bool) -> Connection {
        let mut connection = Connection::new(access("old"), Duration::from_secs(30));
        let contact = answered.then(tokio::time::Instant::now);
        connection.now.pulses = watch::channel(Pulse { contact, ..Pulse::default() }).1;
        connection
    }

    /// Credentials that were never good for anything are dropped at once, others only when there are better ones.
    #[tokio::test]
    async fn what_works_is_kept_until_something_else_does() {
        let mut idle = connection(false);
        idle.set(&access("new"), Duration::from_secs(30), true);
        assert!(idle.next.is_none() && idle.now.access == access("new"));

        let mut busy = connection(true);
        busy.set(&access("new"), Duration::from_secs(30), true);
        assert!(busy.next.is_some() && busy.now.access == access("old"));
        busy.set(&access("old"), Duration::from_secs(30), true);
        assert!(busy.next.is_none(), "corrected");
        busy.set(&access("newer"), Duration::from_secs(30), true);
        busy.take_over();
        assert!(busy.next.is_none() && busy.now.access == access("newer"));
    }

    /// The most ordinary mistake there is: another cluster's kubeconfig in the Secret. It works, and is no good.
    #[tokio::test]
    async fn credentials_of_a_stranger_are_not_kept() {
        let mut wrong = connection(true);
        assert!(wrong.set(&access("right"), Duration::from_secs(30), false));
        assert!(wrong.next.is_none() && wrong.now.access == access("right"));
    }

    #[tokio::test]
    async fn another_patience_is_no_reason_to_connect_anew() {
        let mut connection = connection(true);
        let before = connection.now.pulses.clone();
        connection.set(&access("old"), Duration::from_secs(5), true);
        assert!(connection.next.is_none() && connection.now.pulses.same_channel(&before));
        assert_eq!(*connection.stale_after.borrow(), Duration::from_secs(5));
    }
}
