//! Whether an API server is there: asked every few seconds, with credentials that are read again when they are refused.

use std::time::{Duration, SystemTime};

use kube::Client;
use portolan_zones::object::UnixTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Access;
use super::access::{plain, tell};
use super::backoff::{Backoff, chance};
use super::discovery::{is_denied, is_not_found, uid};

/// Between two questions, at most.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// After the first question that had no answer.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// So many questions in a row that fail are an outage, and one is that nothing answers: connections from before it may
/// be dead, and those that give no sign of life are to be asked anew.
const OUTAGE: u32 = 2;

/// What is known of an API server.
#[derive(Clone, Default)]
pub(crate) struct Pulse {
    /// For whoever else asks it, with the credentials by which it was last reached.
    pub(crate) client: Option<Client>,
    /// Counts the clients.
    pub(crate) generation: u64,
    /// When it last answered.
    pub(crate) contact: Option<Instant>,
    /// The same by the clock on the wall.
    pub(crate) contact_at: Option<UnixTime>,
    /// Why it did not answer when it was last asked.
    pub(crate) error: Option<String>,
    /// Who it is.
    pub(crate) uid: Option<String>,
    /// Why we can't know who it is.
    pub(crate) unknown: Option<String>,
    /// What it runs.
    pub(crate) version: Option<String>,
    /// When the last outage began, once it is over.
    pub(crate) outage: Option<Instant>,
}

impl Pulse {
    /// Whether it answered when it was last asked.
    pub(crate) fn is_reachable(&self) -> bool {
        self.contact.is_some() && self.error.is_none()
    }
}

/// Asks until it is dropped, or nobody listens: often enough to know in time that contact was lost for `stale_after`.
pub(crate) async fn feel(
    access: Access,
    stale_after: watch::Receiver<Duration>,
    pulses: watch::Sender<Pulse>,
) {
    Asker { access, clients: None, generation: 0 }.feel(stale_after, pulses).await;
}

/// A question that failed.
struct Miss {
    /// Why, for people.
    text: String,
    /// Whether nothing came back at all, as from a connection that is dead without a word.
    hung: bool,
}

impl From<String> for Miss {
    fn from(text: String) -> Self {
        Self { text, hung: false }
    }
}

struct Asker {
    access: Access,
    /// `None`: credentials are to be read (again).
    clients: Option<Clients>,
    generation: u64,
}

/// The pulse has a connection of its own, which is as old as those of the watches: if those hang, so does it.
#[derive(Clone)]
struct Clients {
    pulse: Client,
    watches: Client,
}

impl Asker {
    async fn feel(mut self, stale_after: watch::Receiver<Duration>, pulses: watch::Sender<Pulse>) {
        let often = || EVERY.min(*stale_after.borrow() / 3);
        let mut backoff = Backoff::new(FIRST_WAIT, EVERY);
        let (mut missed, mut began) = (0, Instant::now());
        while !pulses.is_closed() {
            let asked = Instant::now();
            let wait = match self.ask().await {
                Ok(answer) => {
                    let outage = (missed >= OUTAGE).then_some(began);
                    let known = pulses.borrow().version.clone().filter(|_| missed == 0);
                    let version = if known.is_some() { known } else { self.version().await };
                    pulses.send_modify(|pulse| {
                        let outage = outage.or(pulse.outage);
                        *pulse = Pulse { outage, version: version.or(pulse.version.take()), ..answer };
                    });
                    missed = 0;
                    backoff.reset();
                    often().mul_f64(0.9 + 0.1 * chance())
                }
                Err(Miss { text, hung }) => {
                    if missed == 0 {
                        began = asked;
                    }
                    missed += if hung { OUTAGE } else { 1 };
                    pulses.send_modify(|pulse| pulse.error = Some(text));
                    backoff.next(chance()).min(often())
                }
            };
            sleep(wait).await;
        }
    }

    /// Asks once, or says why there is no answer. One that denies us is one, too: the server is there. That there is no
    /// kube-system is none: all API servers have it, and what stands in for one knows nothing.
    async fn ask(&mut self) -> Result<Pulse, Miss> {
        let clients = match &self.clients {
            Some(clients) => clients.clone(),
            None => {
                let (pulse, watches) = self.access.clients().await.map_err(|error| error.to_string())?;
                let clients = Clients { pulse, watches };
                self.generation += 1;
                self.clients.insert(clients).clone()
            }
        };
        let answer = timeout(ANSWER, uid(&clients.pulse)).await;
        let (uid, unknown) = match answer {
            Err(_) => {
                let text = format!("the API server gives no answer in {} s", ANSWER.as_secs());
                return Err(Miss { text, hung: true });
            }
            Ok(Ok(uid)) => (uid, None),
            Ok(Err(error)) if is_not_found(&error) => {
                let hint =
                    "what answers has no namespace kube-system, so it is no API server: look at its address";
                return Err(format!("{hint} ({})", tell(&error)).into());
            }
            Ok(Err(error)) if is_denied(&error) => {
                let hint =
                    "namespace kube-system can't be read, so that this cluster can't be told from others";
                (None, Some(format!("{hint}: grant the verb get on namespaces ({})", tell(&error))))
            }
            Ok(Err(error)) => {
                let text = tell(&error);
                let refused = matches!(&error, kube::Error::Api(status) if status.code == 401);
                // What the server says decides nothing, only what our TLS says of it.
                let said = matches!(&error, kube::Error::Api(_));
                if refused || (!said && text.contains("certificate")) {
                    // Others may be there by now.
                    self.clients = None;
                }
                return Err(Miss::from(if refused {
                    format!(
                        "the API server refuses the credentials, which may have expired: give it new ones ({text})"
                    )
                } else {
                    format!("the API server can't be reached: {text}")
                }));
            }
        };
        Ok(Pulse {
            client: Some(clients.watches),
            generation: self.generation,
            contact: Some(Instant::now()),
            contact_at: Some(unix_now()),
            uid,
            unknown,
            ..Pulse::default()
        })
    }

    /// Not knowing it does no harm.
    async fn version(&self) -> Option<String> {
        let version = timeout(ANSWER, self.clients.as_ref()?.pulse.apiserver_version()).await;
        Some(plain(&version.ok()?.ok()?.git_version))
    }
}

pub(crate) fn unix_now() -> UnixTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.ok().and_then(|since| since.as_secs().try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use tokio::task::JoinSet;
    use tower::{BoxError, service_fn};

    use super::*;

    /// What a server does with one question.
    #[derive(Clone, Copy)]
    enum Does {
        Answer,
        Hang,
        /// Something that is no API server stands there.
        Miss,
    }

    /// Feels the pulse of a server inside of the process that does this with its first questions, and then answers.
    fn felt(does: &'static [Does]) -> (watch::Receiver<Pulse>, JoinSet<()>) {
        let mut rest = does.iter();
        let service = service_fn(move |request: Request<Body>| {
            let is_version = request.uri().path() == "/version";
            let does = if is_version { Does::Answer } else { *rest.next().unwrap_or(&Does::Answer) };
            async move {
                let (code, text) = match does {
                    Does::Hang => std::future::pending().await,
                    Does::Answer => (200, r#"{"metadata": {"name": "kube-system", "uid": "u"}}"#),
                    Does::Miss => (404, "404 page not found"),
                };
                let body = Body::from(text.as_bytes().to_vec());
                Ok::<_, BoxError>(Response::builder().status(code).body(body)?)
            }
        });
        let client = Client::new(service, "default");
        let clients = Some(Clients { pulse: client.clone(), watches: client });
        let access = Access::Unknown { problem: "".into() };
        let (sender, pulses) = watch::channel(Pulse::default());
        let stale_after = watch::channel(Duration::from_secs(30)).1;
        let mut tasks = JoinSet::new();
        tasks.spawn(Asker { access, clients, generation: 1 }.feel(stale_after, sender));
        (pulses, tasks)
    }

    /// One question that fails makes nobody doubt their connections, two do, and one that hangs: a router that forgot the
    /// connection forgot those of the watches, too.
    #[tokio::test(start_paused = true)]
    async fn connections_are_in_doubt_after_an_outage_only() {
        use Does::{Answer, Hang, Miss};
        let cases: [(&[Does], bool); 3] = [
            (&[Answer, Miss, Answer], false),
            (&[Answer, Miss, Miss, Answer], true),
            (&[Answer, Hang, Answer], true),
        ];
        for (index, (does, expected)) in cases.into_iter().enumerate() {
            let (pulses, _task) = felt(does);
            sleep(Duration::from_secs(60)).await;
            let pulse = pulses.borrow();
            assert!(pulse.is_reachable());
            assert_eq!(pulse.outage.is_some(), expected, "case {index}");
        }
    }

    /// What answers 404 to all is no API server, and no contact with one.
    #[tokio::test(start_paused = true)]
    async fn without_kube_system_there_is_no_contact() {
        let (mut pulses, _task) = felt(&[Does::Miss; 100]);
        pulses.wait_for(|pulse| pulse.error.is_some()).await.unwrap();
        let pulse = pulses.borrow();
        assert!(pulse.contact.is_none());
        assert!(
            pulse.error.as_ref().is_some_and(|error| error.contains("no API server")),
            "{:?}",
            pulse.error
        );
    }
}
