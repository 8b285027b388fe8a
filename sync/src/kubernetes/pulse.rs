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
/// So many questions in a row that fail are an outage: connections from before it may be dead. One may fail because the
/// server is busy, which is no time to ask it for everything again.
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
pub(crate) async fn feel(access: Access, stale_after: Duration, pulses: watch::Sender<Pulse>) {
    let every = EVERY.min(stale_after / 3);
    let mut asker = Asker { access, clients: None, generation: 0 };
    let mut backoff = Backoff::new(FIRST_WAIT.min(every), every);
    let (mut missed, mut began) = (0, Instant::now());
    while !pulses.is_closed() {
        let asked = Instant::now();
        let wait = match asker.ask().await {
            Ok(answer) => {
                let outage = (missed >= OUTAGE).then_some(began);
                let known = pulses.borrow().version.clone().filter(|_| missed == 0);
                let version = if known.is_some() { known } else { asker.version().await };
                pulses.send_modify(|pulse| {
                    let outage = outage.or(pulse.outage);
                    *pulse = Pulse { outage, version: version.or(pulse.version.take()), ..answer };
                });
                missed = 0;
                backoff.reset();
                every.mul_f64(0.9 + 0.1 * chance())
            }
            Err(text) => {
                if missed == 0 {
                    began = asked;
                }
                missed += 1;
                pulses.send_modify(|pulse| pulse.error = Some(text));
                backoff.next(chance())
            }
        };
        sleep(wait).await;
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
    /// Asks once, or says why there is no answer. One that denies us is one, too: the server is there. That there is no
    /// kube-system is none: all API servers have it, and what stands in for one knows nothing.
    async fn ask(&mut self) -> Result<Pulse, String> {
        let clients = match &self.clients {
            Some(clients) => clients.clone(),
            None => {
                let new = async || self.access.client().await.map_err(|error| error.to_string());
                let clients = Clients { pulse: new().await?, watches: new().await? };
                self.generation += 1;
                self.clients.insert(clients).clone()
            }
        };
        let answer = timeout(ANSWER, uid(&clients.pulse)).await;
        let (uid, unknown) = match answer {
            Err(_) => {
                return Err(format!("the API server gives no answer in {} s", ANSWER.as_secs()));
            }
            Ok(Ok(uid)) => (uid, None),
            Ok(Err(error)) if is_not_found(&error) => {
                return Err(format!(
                    "what answers has no namespace kube-system, so it is no API server: look at the address ({})",
                    tell(&error)
                ));
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
                return Err(if refused {
                    format!(
                        "the API server refuses the credentials, which may have expired: give it new ones ({text})"
                    )
                } else {
                    format!("the API server can't be reached: {text}")
                });
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
