//! One kind of one cluster: lists it, watches it, and does so again whatever happens.
//!
//! The list comes as a stream where the server can do that (KEP-3157), else in pages. A connection that was lost is taken
//! up where it broke off; only when the server no longer knows that place is everything listed again.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::access::tell;
use super::backoff::{Backoff, chance, jitter};
use super::discovery::{Topic, find, is_denied};
use super::raw::Raw;

/// What is listed and watched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) topic: Topic,
    /// Labels.
    pub(crate) selector: Option<&'static str>,
    /// `None`: all.
    pub(crate) namespace: Option<String>,
    /// Only the object of this name, which is all that a Role with `resourceNames` lets through; `None`: all.
    pub(crate) name: Option<String>,
}

/// What a cluster says about one kind.
#[derive(Debug)]
pub(crate) enum Word {
    /// A list begins, or begins anew.
    Begin,
    /// The list names this object.
    Listed(Raw),
    /// The list is complete.
    Done,
    /// An object is new or changed.
    Apply(Raw),
    /// An object is gone.
    Delete(Raw),
    /// The server does not serve the kind.
    Absent,
    /// It can't be listed or watched now, and why.
    Broken(String),
    /// The same, for lack of rights.
    Denied(String),
    /// It can again.
    Mended,
}

/// Words that may wait; then the server has to.
pub(crate) const QUEUE: usize = 64;
/// A connection that gave no word, not even a bookmark, for this long (seconds) and five seconds more is dead.
const SILENT: u32 = 60;
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// Waits after failures.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A streamed list that stops for so long is taken for one that the server can't finish.
const STALLED: Duration = Duration::from_secs(30);
/// A watch that was broken works again when nothing speaks against it for so long: quiet watches say nothing. A connection
/// that does not come about says so sooner.
const MENDED: Duration = Duration::from_secs(6);

/// Runs until it is dropped, or nobody listens. `outages` tells when the last outage began, once it is over.
pub(crate) async fn watch(
    client: Client,
    wanted: Wanted,
    words: mpsc::Sender<(Topic, Word)>,
    outages: watch::Receiver<Instant>,
) {
    let mut teller = Teller {
        topic: wanted.topic,
        words,
        outages,
        alive_at: Instant::now(),
        broken: false,
        backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
    };
    let mut strategy = InitialListStrategy::StreamingList;
    loop {
        let next = match find(&client, wanted.topic).await {
            Ok(Some(resource)) => {
                let api: Api<Raw> = match &wanted.namespace {
                    Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                    None => Api::all_with(client.clone(), &resource),
                };
                follow(api, &wanted, &mut strategy, &mut teller).await
            }
            Ok(None) => teller.absent().await,
            Err(error) => teller.failed((&error).into()).await,
        };
        if next.is_none() {
            return;
        }
    }
}

/// Whether to go on; `None` when nobody listens any more.
type Next = Option<()>;

/// Lists and watches until it has to begin anew.
async fn follow(
    api: Api<Raw>,
    wanted: &Wanted,
    strategy: &mut InitialListStrategy,
    teller: &mut Teller,
) -> Next {
    let config = watcher::Config {
        label_selector: wanted.selector.map(str::to_owned),
        field_selector: wanted.name.as_ref().map(|name| format!("metadata.name={name}")),
        timeout: Some(SILENT),
        page_size: Some(PAGE),
        initial_list_strategy: strategy.clone(),
        ..watcher::Config::default()
    };
    let streams = *strategy == InitialListStrategy::StreamingList;
    let mut stream = pin!(watcher::watcher(api, config));
    let mut listing = false;
    teller.alive_at = Instant::now();
    loop {
        // When silence means something: that a list is stuck, or that what was broken works.
        let patience = match (listing, teller.broken) {
            (true, _) if streams => Some(STALLED),
            (false, true) => Some(MENDED),
            _ => None,
        };
        let event = tokio::select! {
            event = stream.next() => event?,
            () = sleep(patience.unwrap_or(MENDED)), if patience.is_some() => {
                if listing {
                    *strategy = InitialListStrategy::ListWatch;
                    return Some(());
                }
                teller.works().await?;
                continue;
            }
            outage = teller.outages.changed() => {
                outage.ok()?;
                // A connection that gave no sign of life since before the outage may be dead.
                if teller.alive_at < *teller.outages.borrow_and_update() {
                    return Some(());
                }
                continue;
            }
        };
        teller.alive_at = Instant::now();
        match event {
            Ok(Event::Init) if listing && streams => {
                // It broke off: pages go on where a stream has to begin anew.
                *strategy = InitialListStrategy::ListWatch;
                return Some(());
            }
            Ok(Event::Init) => {
                // No evidence that anything works: for pages, nothing has been asked yet.
                listing = true;
                teller.say(Word::Begin).await?;
            }
            Ok(event) => {
                listing &= !matches!(event, Event::InitDone);
                teller.works().await?;
                teller.say(word(event)).await?;
            }
            Err(error) => match verdict(&error, streams) {
                Verdict::Relisted => {}
                Verdict::Pages => {
                    *strategy = InitialListStrategy::ListWatch;
                    return Some(());
                }
                Verdict::Retry => teller.failed(cause(&error)).await?,
                Verdict::Anew => return teller.failed(cause(&error)).await,
            },
        }
    }
}

fn word(event: Event<Raw>) -> Word {
    match event {
        Event::Apply(raw) => Word::Apply(raw),
        Event::Delete(raw) => Word::Delete(raw),
        Event::Init => Word::Begin,
        Event::InitApply(raw) => Word::Listed(raw),
        Event::InitDone => Word::Done,
    }
}

/// What to do about an error.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The watcher lists again by itself.
    Relisted,
    /// The server can't stream lists.
    Pages,
    /// Go on after a while.
    Retry,
    /// Look after a while whether the kind is still served, then list again.
    Anew,
}

fn verdict(error: &watcher::Error, streams: bool) -> Verdict {
    match error {
        watcher::Error::WatchError(status) if status.code == 410 => Verdict::Relisted,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => match status.code {
            404 | 410 => Verdict::Anew,
            400 | 405 | 406 | 415 | 422 if streams => Verdict::Pages,
            _ => Verdict::Retry,
        },
        _ => Verdict::Retry,
    }
}

/// Why it does not work.
struct Failure {
    text: String,
    denied: bool,
}

impl From<&kube::Error> for Failure {
    fn from(error: &kube::Error) -> Self {
        Self { text: tell(error), denied: is_denied(error) }
    }
}

fn cause(error: &watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        other => Failure { text: other.to_string(), denied: false },
    }
}

/// Tells what is heard, and waits after failures.
struct Teller {
    topic: Topic,
    words: mpsc::Sender<(Topic, Word)>,
    outages: watch::Receiver<Instant>,
    /// When the connection last gave a sign of life.
    alive_at: Instant,
    /// Whether a problem was told that is not known to be over.
    broken: bool,
    backoff: Backoff,
}

impl Teller {
    async fn say(&self, word: Word) -> Next {
        self.words.send((self.topic, word)).await.ok()
    }

    /// There is evidence that it works.
    async fn works(&mut self) -> Next {
        self.backoff.reset();
        if std::mem::take(&mut self.broken) {
            self.say(Word::Mended).await?;
        }
        Some(())
    }

    async fn absent(&mut self) -> Next {
        self.broken = false;
        self.say(Word::Absent).await?;
        self.wait(jitter(LONGEST_WAIT, chance())).await
    }

    /// Tells why it does not work and waits for a better time.
    async fn failed(&mut self, Failure { text, denied }: Failure) -> Next {
        let resource = self.topic.resource();
        let (text, wait) = if denied {
            let hint = format!("{resource} can't be read: grant the verbs list and watch ({text})");
            (hint, jitter(LONGEST_WAIT, chance()))
        } else {
            (format!("{resource} can't be watched: {text}"), self.backoff.next(chance()))
        };
        self.broken = true;
        self.say(if denied { Word::Denied(text) } else { Word::Broken(text) }).await?;
        self.wait(wait).await
    }

    /// Waits, but not any longer than an outage.
    async fn wait(&mut self, time: Duration) -> Next {
        tokio::select! {
            () = sleep(time) => Some(()),
            outage = self.outages.changed() => outage.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    /// Of the server's answers to the first request, only those that speak against the way of asking make us ask in
    /// another way; a server that is busy or refuses us is asked in the same way later.
    #[test]
    fn pages_only_where_streamed_lists_are_not_understood() {
        let status = |code| Box::new(Status { code, ..Status::default() });
        let start = |code| watcher::Error::WatchStartFailed(kube::Error::Api(status(code)));
        let cases = [
            (start(422), true, Verdict::Pages),
            (start(400), true, Verdict::Pages),
            (start(422), false, Verdict::Retry),
            (start(401), true, Verdict::Retry),
            (start(403), true, Verdict::Retry),
            (start(404), true, Verdict::Anew),
            (start(410), false, Verdict::Anew),
            (start(429), true, Verdict::Retry),
            (start(503), true, Verdict::Retry),
            (watcher::Error::WatchError(status(410)), false, Verdict::Relisted),
            (watcher::Error::WatchError(status(500)), false, Verdict::Retry),
            (watcher::Error::NoResourceVersion, false, Verdict::Retry),
        ];
        for (error, streams, expected) in cases {
            assert_eq!(verdict(&error, streams), expected, "{error}");
        }
    }
}
