//! Looks host names up: each at once when it comes up, and again now and then.
//!
//! The system's resolver has no asynchronous form, and a look-up can't be cancelled. So each cluster has a few threads of its
//! own for it: names that hang keep nobody waiting but names of the same cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::{chance, jitter};
use crate::convert::is_endpoint;

/// A name's addresses, or why there are none.
type Answer = Result<Box<[IpAddr]>, String>;
/// A name, and what is told of it.
pub(crate) type Resolved = (Box<str>, Answer);

/// Between two looks at a name.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while it seems to have moved.
const SOON: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// Threads of one cluster.
const AT_ONCE: usize = 4;
/// More addresses of one name are left out, and more than these are not even remembered.
const MAX_ADDRESSES: usize = 16;
const MAX_KNOWN: usize = 256;
/// How long an address counts that is missing in answers: some names answer with a part of their addresses each time.
const KEPT: Duration = Duration::from_secs(600);
/// Answers in a row that have nothing in common with those before them: then the name has moved.
const MOVED: usize = 3;

/// Asks the system's resolver.
pub(crate) fn system(name: &str) -> std::io::Result<Vec<IpAddr>> {
    // The search list of this pod is not for it.
    let absolute = format!("{name}.");
    Ok((absolute.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Tells every answer about the names that are wanted, until nobody wants any.
pub(crate) async fn resolve(
    resolver: fn(&str) -> std::io::Result<Vec<IpAddr>>,
    mut wanted: watch::Receiver<BTreeSet<Box<str>>>,
    tell: mpsc::Sender<Resolved>,
) {
    let threads = Arc::new(Semaphore::new(AT_ONCE));
    let mut names: BTreeMap<Box<str>, Name> = BTreeMap::new();
    let mut looks = FuturesUnordered::new();
    loop {
        let (now, waiting) = (Instant::now(), names.values().filter_map(|name| name.due).min());
        // A thread that hangs on after its time is up still counts.
        let room = if waiting.is_some_and(|due| due <= now) {
            threads.clone().try_acquire_owned().ok()
        } else {
            None
        };
        if let Some(thread) = room {
            // New names are due first, and then whichever waits longest.
            if let Some((name, state)) =
                names.iter_mut().min_by_key(|(_, state)| (state.due.is_none(), state.due))
            {
                state.due = None;
                looks.push(look_up(resolver, name.clone(), thread));
            }
            continue;
        }
        let next = waiting.map(|due| due.max(now + Duration::from_millis(100)));
        tokio::select! {
            Some((name, answer)) = looks.next() => {
                let Some(state) = names.get_mut(&name) else { continue };
                let now = Instant::now();
                let (answer, pause) = state.seen(answer, now);
                state.due = Some(now + jitter(pause, chance()));
                if tell.send((name, answer)).await.is_err() {
                    return;
                }
            }
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = wanted.borrow_and_update();
                names.retain(|name, _| wanted.contains(name));
                for name in wanted.iter().filter(|name| !names.contains_key(*name)).cloned().collect::<Vec<_>>() {
                    names.insert(name, Name { due: Some(now), ..Name::default() });
                }
            }
        }
    }
}

/// What is known of one name.
#[derive(Default)]
struct Name {
    /// When it is looked up next; `None`: just now.
    due: Option<Instant>,
    /// Its addresses, and when an answer last had them.
    known: BTreeMap<IpAddr, Instant>,
    /// Those that it had before it seemed to move, and how many answers have had none of them.
    former: BTreeSet<IpAddr>,
    misses: usize,
}

impl Name {
    /// Takes an answer in; what is to be told, and when to look again.
    ///
    /// What is told are the addresses of all answers of the last while, so that a name whose answers rotate comes to have the
    /// same all the time, however large the pool; one that moved is rid of its former addresses soon.
    fn seen(&mut self, answer: Result<BTreeSet<IpAddr>, String>, now: Instant) -> (Answer, Duration) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return (Err(error), AGAIN),
        };
        if !self.former.is_disjoint(&answer) {
            self.former.clear();
        } else if self.former.is_empty() && self.known.keys().all(|known| !answer.contains(known)) {
            (self.former, self.misses) = (self.known.keys().copied().collect(), 0);
        }
        if !self.former.is_empty() {
            self.misses += 1;
            if self.misses == MOVED {
                let former = std::mem::take(&mut self.former);
                self.known.retain(|address, _| !former.contains(address));
            }
        }
        self.known.retain(|_, seen_at| now.saturating_duration_since(*seen_at) < KEPT);
        for address in answer {
            if self.known.len() < MAX_KNOWN || self.known.contains_key(&address) {
                self.known.insert(address, now);
            }
        }
        let told = self.known.keys().take(MAX_ADDRESSES).copied().collect();
        (Ok(told), if self.former.is_empty() { AGAIN } else { SOON })
    }
}

/// Looks a name up in a thread of its own, which may take longer than anybody waits for it.
async fn look_up(
    resolver: fn(&str) -> std::io::Result<Vec<IpAddr>>,
    name: Box<str>,
    thread: OwnedSemaphorePermit,
) -> (Box<str>, Result<BTreeSet<IpAddr>, String>) {
    let (sender, answer) = oneshot::channel();
    let asked = name.clone();
    let spawned = std::thread::Builder::new().name("names".to_owned()).spawn(move || {
        let found = resolver(&asked).map_err(|error| error.to_string());
        drop(thread);
        // Nobody may wait for it any more.
        let _ = sender.send(found);
    });
    let answer = match spawned {
        Err(error) => Err(error.to_string()),
        Ok(_) => match timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the look-up broke off".to_owned()),
            Err(_) => Err(format!("no answer in {} s", ANSWER.as_secs())),
        },
    };
    let endpoints = answer.and_then(|found| {
        let endpoints: BTreeSet<IpAddr> = found.into_iter().filter(is_endpoint).collect();
        if endpoints.is_empty() {
            return Err("it has no address that an endpoint may have".to_owned());
        }
        Ok(endpoints)
    });
    (name, endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: &[u8]) -> Result<BTreeSet<IpAddr>, String> {
        Ok(last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect())
    }

    /// What is told of a name after each answer, as last octets; `!`: it is looked at again soon.
    fn told(name: &mut Name, answers: &[&[u8]]) -> Vec<String> {
        let mut texts = Vec::new();
        let start = Instant::now();
        for (look, octets) in answers.iter().enumerate() {
            let given = if octets.is_empty() { Err("away".to_owned()) } else { answer(octets) };
            let (told, pause) = name.seen(given, start + look as u32 * AGAIN);
            let soon = if pause == SOON { "!" } else { "" };
            let octet = |ip: &IpAddr| ip.to_string().rsplit('.').next().unwrap().to_owned();
            let text = told.map_or_else(|error| error, |all| all.iter().map(octet).collect());
            texts.push(text + soon);
        }
        texts
    }

    #[test]
    fn a_name_is_the_union_of_its_late_answers() {
        // Steady.
        assert_eq!(told(&mut Name::default(), &[&[1], &[1]]), ["1", "1"]);
        // Rotating: looks are as rare as for others.
        let rotating = told(&mut Name::default(), &[&[1, 2], &[2, 3], &[3, 1], &[1, 2], &[2, 3]]);
        assert_eq!(rotating, ["12", "123", "123", "123", "123"]);
        // One address at a time.
        let single = told(&mut Name::default(), &[&[1], &[2], &[3], &[1], &[2], &[3]]);
        assert_eq!(single, ["1", "12!", "123!", "123", "123", "123"]);
        // Moved.
        let moved = told(&mut Name::default(), &[&[1], &[1], &[2], &[2], &[2], &[2]]);
        assert_eq!(moved, ["1", "1", "12!", "12!", "2", "2"]);
        // Away: what it was is not forgotten.
        assert_eq!(told(&mut Name::default(), &[&[1], &[], &[], &[1]]), ["1", "away", "away", "1"]);
        // One address less.
        let less = told(&mut Name::default(), &[&[1, 2], &[1], &[1]]);
        assert_eq!(less, ["12", "12", "12"]);
        let looks = vec![&[1_u8][..]; (KEPT.as_secs() / AGAIN.as_secs()) as usize + 1];
        let long: Vec<&[u8]> = std::iter::once(&[1_u8, 2][..]).chain(looks).collect();
        assert_eq!(told(&mut Name::default(), &long).last().unwrap(), "1");
    }

    /// Large load balancers answer with eight addresses of many: once all are known nothing changes any more.
    #[test]
    fn a_pool_that_is_larger_than_its_answers_comes_to_rest() {
        let (mut name, start) = (Name::default(), Instant::now());
        let mut last = None;
        for look in 0..20_u8 {
            let octets: Vec<u8> = (0..8).map(|i| (5 * look + i) % 24).collect();
            let (told, pause) = name.seen(answer(&octets), start + u32::from(look) * AGAIN);
            assert_eq!(pause, AGAIN, "look {look}");
            assert!(look < 6 || last.as_ref() == Some(&told), "look {look}: {told:?}");
            last = Some(told);
        }
    }

    /// Names that hang have all others wait no longer than for a thread, and no name is looked up again without need.
    #[tokio::test]
    async fn names_that_hang_keep_others_from_nothing() {
        static LOOKS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        fn resolver(name: &str) -> std::io::Result<Vec<IpAddr>> {
            LOOKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            while name.starts_with("hang") {
                std::thread::park();
            }
            Ok(if name == "inside.x" {
                vec![IpAddr::from([127, 0, 0, 1])]
            } else {
                vec![IpAddr::from([192, 0, 2, 1])]
            })
        }
        let hanging = (1..AT_ONCE).map(|i| format!("hang-{i}.x"));
        let good = (0..20).map(|i| format!("lb-{i}.x")).chain(["inside.x".to_owned()]);
        let all: BTreeSet<Box<str>> = hanging.chain(good).map(String::into_boxed_str).collect();
        let (names, wanted) = watch::channel(BTreeSet::new());
        let (tell, mut told) = mpsc::channel(8);
        let task = tokio::spawn(resolve(resolver, wanted, tell));
        names.send_replace(all.clone());
        let mut answers = BTreeMap::new();
        while answers.len() < 21 {
            let (name, answer) = timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
            if !name.starts_with("hang") {
                assert_eq!(answers.insert(name, answer), None, "told once");
            }
        }
        assert_eq!(answers["lb-7.x"], Ok([IpAddr::from([192, 0, 2, 1])].into()));
        assert!(answers["inside.x"].is_err(), "an address that no endpoint may have");
        names.send_replace(all.clone());
        names.send_replace(all);
        assert_eq!(
            LOOKS.load(std::sync::atomic::Ordering::Relaxed),
            21 + AT_ONCE - 1,
            "no look without need"
        );
        drop(names);
        while told.recv().await.is_some() {}
        task.await.unwrap();
    }
}
