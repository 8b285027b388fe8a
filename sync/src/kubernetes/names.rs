//! Host names of load balancers: resolved when they come up, and again now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::backoff::{chance, jitter};

/// A name, and its addresses or why there are none.
pub(crate) type Resolved = (Box<str>, Result<Box<[IpAddr]>, String>);

/// Between two looks at a name.
const AGAIN: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);
/// Names that are resolved at once.
const AT_ONCE: usize = 8;
/// More addresses of one name are left out.
const MAX_ADDRESSES: usize = 16;

/// Tells news of the names that are wanted, until nobody wants any.
pub(crate) async fn resolve(mut wanted: watch::Receiver<BTreeSet<Box<str>>>, tell: mpsc::Sender<Resolved>) {
    let mut told: BTreeMap<Box<str>, Result<Box<[IpAddr]>, String>> = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        told.retain(|name, _| names.contains(name));
        // New names first: nothing is known of them.
        let (old, new): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| told.contains_key(name));
        let mut answers = stream::iter(new.into_iter().chain(old)).map(look_up).buffer_unordered(AT_ONCE);
        while let Some((name, answer)) = answers.next().await {
            if told.get(&name) != Some(&answer) {
                told.insert(name.clone(), answer.clone());
                if tell.send((name, answer)).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep(jitter(AGAIN, chance())), if !told.is_empty() => {}
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn look_up(name: Box<str>) -> Resolved {
    // A name of a load balancer is absolute: the search list of this pod's resolver is not for it.
    let absolute =
        if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_string() };
    let answer = match timeout(ANSWER, tokio::net::lookup_host((absolute, 0))).await {
        Err(_) => Err(format!("no answer in {} s", ANSWER.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
            Ok(addresses.into_iter().take(MAX_ADDRESSES).collect())
        }
    };
    (name, answer)
}
