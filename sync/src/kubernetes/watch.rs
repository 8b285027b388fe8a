//! One kind of one cluster: lists it, watches it, and does so again whatever happens.
//!
//! The list comes as a stream where the server can do that (KEP-3157), else in pages. A connection that was lost is taken
//! up where it broke off; only when the server no longer knows that place is everything listed again.
//!
//! Nothing is concluded from silence: that a kind works needs a sign of it ([`Ear`]), that it is not served needs a server
//! that says what it does serve, twice ([`Teller::absent`]).

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff::chance;
use super::discovery::{Topic, find};
use super::ear::Ear;
use super::raw::Raw;
use super::teller::{Failure, Teller};

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
/// A watch that gave no sign of life for so long, not even the bookmark of each minute, is asked for anew.
const SILENT: Duration = Duration::from_secs(150);
/// How long a watch may last, in seconds: as client-go, between these by chance, so that not all end together.
const LASTS: (u32, u32) = (240, 300);
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// Objects of a kind, at most: more are no list, but a flood.
const OBJECTS: usize = 500_000;
/// How long a list may take.
const LIST: Duration = Duration::from_secs(600);
/// A streamed list that stops for so long is taken for one that the server can't finish.
const STALLED: Duration = Duration::from_secs(30);
/// A watch that was broken works again when it was accepted and did not fail for so long: quiet watches say nothing.
const MENDED: Duration = Duration::from_secs(6);
/// Watches that an outage may have killed are asked for anew within this time, not all at once.
const SPREAD: Duration = Duration::from_secs(5);

/// Runs until it is dropped, or nobody listens. `outages` tells when the last outage began, once it is over.
pub(crate) async fn watch(
    client: Client,
    wanted: Wanted,
    words: mpsc::Sender<(Topic, Word)>,
    outages: watch::Receiver<Instant>,
) {
    let (ear, client) = Ear::on(client);
    let mut teller = Teller::new(wanted.topic, words, outages);
    let mut way = Some(Way::Stream);
    while let Some(now) = way {
        way = match find(&client, wanted.topic).await {
            Ok(Some(resource)) => {
                teller.found();
                let api: Api<Raw> = match &wanted.namespace {
                    Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                    None => Api::all_with(client.clone(), &resource),
                };
                follow(api, &wanted, now, &ear, &mut teller).await
            }
            Ok(None) => teller.absent().await.map(|()| now),
            Err(error) => teller.failed((&error).into()).await.map(|()| now),
        };
    }
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Stream,
    /// In pages, for this once: a stream broke off.
    PagesOnce,
    /// In pages: the server does not understand streams.
    Pages,
}

impl Way {
    fn next(self) -> Self {
        if self == Self::Pages { Self::Pages } else { Self::Stream }
    }
}

/// A list under way.
struct List {
    began: Instant,
    /// Whether its beginning was told.
    told: bool,
    objects: usize,
}

/// Lists and watches until it has to begin anew, and how; `None` when nobody listens any more.
async fn follow(api: Api<Raw>, wanted: &Wanted, way: Way, ear: &Ear, teller: &mut Teller) -> Option<Way> {
    let streams = way == Way::Stream;
    let mut stream = pin!(watcher::watcher(api, config(wanted, streams)));
    let mut signs = ear.signs();
    let mut accepted = signs.borrow_and_update().accepted;
    // When a request was last begun by us, which deserves some time to be answered.
    let mut asked_at = Instant::now();
    let mut list = Some(List { began: asked_at, told: false, objects: 0 });
    // When a request that an outage may have killed is given up.
    let mut given_up_at: Option<Instant> = None;
    loop {
        let alive_at = signs.borrow().alive_at.max(asked_at);
        let due = match &list {
            Some(list) if streams => (alive_at + STALLED).min(list.began + LIST),
            Some(list) => list.began + LIST,
            None => teller.mends_at(MENDED).unwrap_or(alive_at + SILENT),
        };
        let event = tokio::select! {
            // What has come goes before what is said about the lack of it.
            biased;
            event = stream.next() => event?,
            sign = signs.changed() => {
                sign.ok()?;
                given_up_at = None;
                let now = signs.borrow_and_update().accepted;
                if std::mem::replace(&mut accepted, now) != now && list.is_none() {
                    teller.opened();
                }
                continue;
            }
            outage = teller.outages.changed() => {
                outage.ok()?;
                if alive_at < *teller.outages.borrow_and_update() {
                    given_up_at = Some(Instant::now() + SPREAD.mul_f64(chance()));
                }
                continue;
            }
            () = sleep_until(given_up_at.unwrap_or(due).min(due)) => {
                let now = Instant::now();
                let complete = list.as_ref().map_or(Instant::now() + LIST, |list| list.began + LIST);
                if given_up_at.is_some_and(|at| at <= now) {
                    (given_up_at, asked_at) = (None, now);
                    ear.cut();
                } else if complete <= now {
                    let text = format!("the list is not complete after {} s", LIST.as_secs());
                    return teller.failed(Failure::of(text)).await.map(|()| way.next());
                } else if list.is_some() {
                    let text = format!("the list stopped for {} s", STALLED.as_secs());
                    return teller.failed(Failure::of(text)).await.map(|()| Way::PagesOnce);
                } else if teller.mends_at(MENDED).is_some() {
                    teller.works().await?;
                } else {
                    asked_at = now;
                    ear.cut();
                }
                continue;
            }
        };
        match event {
            // It broke off: pages go on where a stream has to begin anew.
            Ok(Event::Init) if streams && list.as_ref().is_some_and(|list| list.told) => {
                return Some(Way::PagesOnce);
            }
            Ok(Event::Init) => {
                list = Some(List { began: Instant::now(), told: true, objects: 0 });
                teller.say(Word::Begin).await?;
            }
            Ok(Event::InitApply(raw)) => {
                let objects = list.as_mut().map_or(0, |list| {
                    list.objects += 1;
                    list.objects
                });
                if objects > OBJECTS {
                    let text = format!("there are more than {OBJECTS}: what was known holds");
                    return teller.failed(Failure::of(text)).await.map(|()| way.next());
                }
                teller.say(Word::Listed(raw)).await?;
            }
            Ok(Event::InitDone) => {
                list = None;
                teller.listed(streams).await?;
            }
            Ok(Event::Apply(raw)) => teller.changed(Word::Apply(raw)).await?,
            Ok(Event::Delete(raw)) => teller.changed(Word::Delete(raw)).await?,
            Err(error) => {
                match verdict(&error, streams) {
                    Verdict::Expired => return teller.expired().await.map(|()| way.next()),
                    Verdict::Pages => return Some(Way::Pages),
                    Verdict::Retry => teller.failed(cause(&error)).await?,
                    Verdict::Anew => return teller.failed(cause(&error)).await.map(|()| way.next()),
                }
                accepted = signs.borrow_and_update().accepted;
                asked_at = Instant::now();
            }
        }
    }
}

fn config(wanted: &Wanted, streams: bool) -> watcher::Config {
    let (least, most) = LASTS;
    let strategy = if streams { InitialListStrategy::StreamingList } else { InitialListStrategy::ListWatch };
    watcher::Config {
        label_selector: wanted.selector.map(str::to_owned),
        field_selector: wanted.name.as_ref().map(|name| format!("metadata.name={name}")),
        timeout: Some(least + (f64::from(most - least) * chance()) as u32),
        page_size: Some(PAGE),
        initial_list_strategy: strategy,
        ..watcher::Config::default()
    }
}

/// What to do about an error.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The server no longer knows where the watch was.
    Expired,
    /// The server can't stream lists.
    Pages,
    /// Go on after a while.
    Retry,
    /// Look after a while whether the kind is still served, then list again.
    Anew,
}

fn verdict(error: &watcher::Error, streams: bool) -> Verdict {
    match error {
        watcher::Error::WatchError(status) if status.code == 410 => Verdict::Expired,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => match status.code {
            410 => Verdict::Expired,
            404 => Verdict::Anew,
            400 | 405 | 406 | 415 | 422 if streams => Verdict::Pages,
            _ => Verdict::Retry,
        },
        _ => Verdict::Retry,
    }
}

fn cause(error: &watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => (&kube::Error::Api(status.clone())).into(),
        watcher::Error::NoResourceVersion => Failure::of("an answer has no resourceVersion".to_owned()),
    }
}

#[cfg(test)]
mod tests;
