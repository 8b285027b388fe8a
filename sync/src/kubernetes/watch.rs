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
use super::ear::{Ear, Signs};
use super::known::MOST_OBJECTS;
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
/// How long a watch may last, in seconds: between these by chance, so that not all end together. It ends before it would be
/// cut, for a proxy that collects what is said may pass it on only then.
const LASTS: (u32, u32) = (100, 130);
/// Watches in a row that are accepted and tell nothing, not even a bookmark, before they are taken for broken.
const MUTE: u32 = 2;
/// Objects in a page of a list: few enough that slices of 1000 endpoints fit into one answer.
const PAGE: u32 = 100;
/// How long a list may take for each [`STEP`] of its objects.
const LIST: Duration = Duration::from_secs(600);
/// Objects by which a list is seen to get on.
const STEP: usize = 1_000;
/// A streamed list that stops for so long is taken for one that the server can't finish.
const STALLED: Duration = Duration::from_secs(30);
/// Who takes longer than this to tell what was heard does not listen.
const BUSY: Duration = Duration::from_secs(1);
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
    /// In pages, for this once: a stream broke off, or a watch can't be relied on.
    PagesOnce,
    /// In pages: the server does not understand streams.
    Pages,
}

impl Way {
    fn next(self) -> Self {
        if self == Self::Pages { Self::Pages } else { Self::Stream }
    }

    /// After a list that did not come to its end.
    fn other(self) -> Self {
        if self == Self::Stream { Self::PagesOnce } else { self.next() }
    }
}

/// Lists and watches until it has to begin anew, and how; `None` when nobody listens any more.
async fn follow(api: Api<Raw>, wanted: &Wanted, way: Way, ear: &Ear, teller: &mut Teller) -> Option<Way> {
    let mut stream = pin!(watcher::watcher(api, config(wanted, way == Way::Stream)));
    let mut following = Following::new(way, ear, teller);
    loop {
        let due = following.due();
        let step = tokio::select! {
            // What has come goes before what is said about the lack of it.
            biased;
            event = stream.next() => {
                let heard_at = Instant::now();
                let step = following.hears(event?).await?;
                following.listened_after(heard_at);
                step
            }
            sign = following.signs.changed() => {
                sign.ok()?;
                following.is_alive().await?
            }
            outage = following.teller.outages.changed() => {
                outage.ok()?;
                following.doubts()
            }
            () = sleep_until(due) => following.is_overdue().await?,
        };
        if let Step::Anew(way) = step {
            return Some(way);
        }
    }
}

/// What follows from something that happened, or from nothing.
enum Step {
    On,
    Anew(Way),
}

/// One life of kube's watcher, as seen from outside.
struct Following<'w> {
    way: Way,
    ear: &'w Ear,
    teller: &'w mut Teller,
    signs: watch::Receiver<Signs>,
    /// How much spoke for the watch when that was last looked at.
    evidence: u64,
    /// When a request was last begun by us, or we last were too busy to listen: an answer deserves some time from then on.
    asked_at: Instant,
    /// The list under way.
    list: Option<List>,
    /// When a request that an outage may have killed is given up.
    given_up_at: Option<Instant>,
}

struct List {
    /// When it began, or last got on.
    since: Instant,
    /// Whether its beginning was told.
    told: bool,
    objects: usize,
}

impl<'w> Following<'w> {
    fn new(way: Way, ear: &'w Ear, teller: &'w mut Teller) -> Self {
        let mut signs = ear.signs();
        let evidence = signs.borrow_and_update().evidence;
        let now = Instant::now();
        let list = Some(List { since: now, told: false, objects: 0 });
        Self { way, ear, teller, signs, evidence, asked_at: now, list, given_up_at: None }
    }

    /// When there was last a sign of life, or none was to be expected yet.
    fn alive_at(&self) -> Instant {
        let Signs { alive_at, asked_at, .. } = *self.signs.borrow();
        alive_at.max(asked_at).max(self.asked_at)
    }

    /// When silence comes to mean something.
    fn due(&self) -> Instant {
        let due = match &self.list {
            Some(list) if self.way == Way::Stream => (self.alive_at() + STALLED).min(list.since + LIST),
            Some(list) => list.since + LIST,
            None => self.teller.mends_at(MENDED).unwrap_or(self.alive_at() + SILENT),
        };
        self.given_up_at.unwrap_or(due).min(due)
    }

    /// There was a sign of life.
    async fn is_alive(&mut self) -> Option<Step> {
        self.given_up_at = None;
        let Signs { evidence, mute, .. } = *self.signs.borrow_and_update();
        if self.list.is_none() && mute > MUTE {
            let text = "the server accepts watches and tells nothing by them, not even bookmarks";
            return self.fails(Failure::of(text.to_owned()), self.way.other()).await;
        }
        if std::mem::replace(&mut self.evidence, evidence) != evidence && self.list.is_none() {
            self.teller.opened();
        }
        Some(Step::On)
    }

    /// What was heard has been told. Where that took its time, nobody listened meanwhile: that was no silence.
    fn listened_after(&mut self, heard_at: Instant) {
        let now = Instant::now();
        if now - heard_at > BUSY {
            self.asked_at = now;
        }
    }

    /// An outage is over. A connection that gave no sign of life since before it may be dead.
    fn doubts(&mut self) -> Step {
        if self.alive_at() < *self.teller.outages.borrow_and_update() {
            self.given_up_at = Some(Instant::now() + SPREAD.mul_f64(chance()));
        }
        Step::On
    }

    /// Nothing happened for too long, or long enough.
    async fn is_overdue(&mut self) -> Option<Step> {
        let now = Instant::now();
        match &self.list {
            // kube has asked anew meanwhile.
            _ if self.due() > now => {}
            _ if self.given_up_at.is_some_and(|at| at <= now) => self.ask_anew(now),
            Some(list) if list.since + LIST <= now => {
                let text =
                    format!("the list does not get on: {STEP} objects take more than {} s", LIST.as_secs());
                return self.fails(Failure::of(text), self.way.other()).await;
            }
            Some(_) => {
                let text = format!("the list stopped for {} s", STALLED.as_secs());
                return self.fails(Failure::of(text), Way::PagesOnce).await;
            }
            None if self.teller.mends_at(MENDED).is_some() => self.teller.works().await?,
            None => self.ask_anew(now),
        }
        Some(Step::On)
    }

    /// Has the watcher take up its watch by a new request.
    fn ask_anew(&mut self, now: Instant) {
        (self.given_up_at, self.asked_at) = (None, now);
        self.ear.cut();
    }

    /// Takes in what the watcher says.
    async fn hears(&mut self, event: Result<Event<Raw>, watcher::Error>) -> Option<Step> {
        let streams = self.way == Way::Stream;
        match event {
            // It broke off: pages go on where a stream has to begin anew.
            Ok(Event::Init) if streams && self.list.as_ref().is_some_and(|list| list.told) => {
                return Some(Step::Anew(Way::PagesOnce));
            }
            Ok(Event::Init) => {
                self.list = Some(List { since: Instant::now(), told: true, objects: 0 });
                self.teller.say(Word::Begin).await?;
            }
            Ok(Event::InitApply(raw)) => {
                if self.count() > MOST_OBJECTS {
                    let text = format!("there are more than {MOST_OBJECTS}: what was known holds");
                    return self.fails(Failure::of(text), self.way.other()).await;
                }
                self.teller.say(Word::Listed(raw)).await?;
            }
            Ok(Event::InitDone) => {
                self.list = None;
                self.teller.listed(streams).await?;
            }
            Ok(Event::Apply(raw)) => self.teller.changed(Word::Apply(raw)).await?,
            Ok(Event::Delete(raw)) => self.teller.changed(Word::Delete(raw)).await?,
            Err(error) => match remedy(&error, streams) {
                Remedy::Pages => return Some(Step::Anew(Way::Pages)),
                Remedy::Expired => {
                    self.teller.expired().await?;
                    return Some(Step::Anew(self.way.next()));
                }
                Remedy::Anew => return self.fails(cause(&error), self.way.next()).await,
                Remedy::Retry => {
                    self.teller.failed(cause(&error)).await?;
                    // What spoke for it before is no evidence any more.
                    self.evidence = self.signs.borrow_and_update().evidence;
                    self.asked_at = Instant::now();
                }
            },
        }
        Some(Step::On)
    }

    /// One more object of the list.
    fn count(&mut self) -> usize {
        let Some(list) = &mut self.list else { return 0 };
        list.objects += 1;
        if list.objects.is_multiple_of(STEP) {
            list.since = Instant::now();
        }
        list.objects
    }

    async fn fails(&mut self, why: Failure, next: Way) -> Option<Step> {
        self.teller.failed(why).await.map(|()| Step::Anew(next))
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
enum Remedy {
    /// The server no longer knows where the watch was.
    Expired,
    /// The server can't stream lists.
    Pages,
    /// Go on after a while.
    Retry,
    /// Look after a while whether the kind is still served, then list again.
    Anew,
}

fn remedy(error: &watcher::Error, streams: bool) -> Remedy {
    match error {
        watcher::Error::WatchError(status) if status.code == 410 => Remedy::Expired,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => match status.code {
            410 => Remedy::Expired,
            404 => Remedy::Anew,
            400 | 405 | 406 | 415 | 422 if streams => Remedy::Pages,
            _ => Remedy::Retry,
        },
        _ => Remedy::Retry,
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
