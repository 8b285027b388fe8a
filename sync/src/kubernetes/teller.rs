//! What a watch tells of its kind, and how long it waits after failures.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::access::tell;
use super::backoff::{Backoff, chance, jitter};
use super::discovery::{Topic, is_denied};
use super::watch::Word;

/// Waits after failures.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between the two looks at least that find a kind not served.
const LOOKS: Duration = Duration::from_secs(LONGEST_WAIT.as_secs() / 2);
/// After an outage, who waits tries again within this time.
const SPREAD: Duration = Duration::from_secs(2);
/// A watch that was open for so long has worked: the next failure is another matter.
const LIVED: Duration = Duration::from_secs(30);

/// Whether to go on; `None` when nobody listens any more.
pub(crate) type Next = Option<()>;

/// Why it does not work.
pub(crate) struct Failure {
    text: String,
    denied: bool,
}

impl Failure {
    pub(crate) fn of(text: String) -> Self {
        Self { text, denied: false }
    }
}

impl From<&kube::Error> for Failure {
    fn from(error: &kube::Error) -> Self {
        Self { text: tell(error), denied: is_denied(error) }
    }
}

/// Tells what is heard, and waits after failures.
pub(crate) struct Teller {
    topic: Topic,
    words: mpsc::Sender<(Topic, Word)>,
    pub(crate) outages: watch::Receiver<Instant>,
    /// Whether a problem was told that is not known to be over.
    broken: bool,
    /// Since when a watch was open without a failure.
    open_since: Option<Instant>,
    /// When a look first found the kind not served, if all since then did.
    missing_since: Option<Instant>,
    backoff: Backoff,
}

impl Teller {
    pub(crate) fn new(
        topic: Topic,
        words: mpsc::Sender<(Topic, Word)>,
        outages: watch::Receiver<Instant>,
    ) -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        Self { topic, words, outages, broken: false, open_since: None, missing_since: None, backoff }
    }

    pub(crate) async fn say(&self, word: Word) -> Next {
        self.words.send((self.topic, word)).await.ok()
    }

    /// The kind is served.
    pub(crate) fn found(&mut self) {
        self.missing_since = None;
    }

    /// The watch was accepted.
    pub(crate) fn opened(&mut self) {
        self.open_since.get_or_insert_with(Instant::now);
    }

    /// The list is complete, which is evidence enough for all that was wrong; a streamed one goes on as a watch.
    pub(crate) async fn listed(&mut self, watches: bool) -> Next {
        if watches {
            self.opened();
        }
        self.broken = false;
        self.say(Word::Done).await
    }

    /// The watch told of a change.
    pub(crate) async fn changed(&mut self, word: Word) -> Next {
        self.opened();
        self.works().await?;
        self.say(word).await
    }

    /// When what was broken is known to work, if nothing speaks against it for `wait`.
    pub(crate) fn mends_at(&self, wait: Duration) -> Option<Instant> {
        self.open_since.filter(|_| self.broken).map(|at| at + wait)
    }

    /// There is evidence that it works.
    pub(crate) async fn works(&mut self) -> Next {
        if std::mem::take(&mut self.broken) {
            self.say(Word::Mended).await?;
        }
        Some(())
    }

    /// A look found that the kind is not served. It is believed at the second look: servers that start may not serve
    /// everything yet, and definitions are replaced by deleting them.
    pub(crate) async fn absent(&mut self) -> Next {
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        let rest = (since + LOOKS).saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            return self.wait(rest).await;
        }
        (self.broken, self.open_since) = (false, None);
        self.say(Word::Absent).await?;
        self.wait(jitter(LONGEST_WAIT, chance())).await
    }

    /// The server no longer knows where the watch was, so that everything is listed again, after a wait: the server may be
    /// busy, and we too slow for it. That is no problem unless it comes again and again.
    pub(crate) async fn expired(&mut self) -> Next {
        self.judge_life();
        if self.backoff.is_under_way() {
            let text = "the server forgets changes faster than they are read: everything is listed again";
            return self.failed(Failure::of(text.to_owned())).await;
        }
        let wait = self.backoff.next(chance());
        self.wait(wait).await
    }

    /// Tells why it does not work and waits for a better time.
    pub(crate) async fn failed(&mut self, Failure { text, denied }: Failure) -> Next {
        self.judge_life();
        self.missing_since = None;
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

    /// Something failed: whether what was open until now had worked.
    fn judge_life(&mut self) {
        if self.open_since.take().is_some_and(|at| at.elapsed() >= LIVED) {
            self.backoff.reset();
        }
    }

    /// Waits, but not much longer than an outage.
    async fn wait(&mut self, time: Duration) -> Next {
        let end = Instant::now() + time;
        tokio::select! {
            () = sleep(time) => Some(()),
            outage = self.outages.changed() => {
                outage.ok()?;
                let rest = end.saturating_duration_since(Instant::now());
                sleep(rest.min(SPREAD.mul_f64(chance()))).await;
                Some(())
            }
        }
    }
}
