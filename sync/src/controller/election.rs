//! Which of several controllers writes: the one that holds a Lease, by the protocol of client-go's `leaderelection`.
//!
//! A Lease has expired when this process has not seen its record change for the Lease's duration. The times in it are
//! for people: nobody's clock is compared with anybody else's, so clocks may be wrong. Who leads stops by itself
//! `renew` after the last renewal that succeeded, which is before anybody else may begin.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::words::{MANAGED, TRUE};

/// The name of the Lease.
pub(super) const LEASE: &str = "portolan-controller";
/// How much longer than `retry` a candidate waits at most, as a share of it; client-go's JitterFactor.
const JITTER: f64 = 1.2;

/// How long what takes. A leader fails over within `duration` and two `retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long candidates wait from the last change of the Lease that they saw.
    pub duration: Duration,
    /// How long a leader writes after its last renewal; less than `duration`.
    pub renew: Duration,
    /// How long between two attempts to renew or to take the Lease; less than half of `renew`.
    pub retry: Duration,
}

/// client-go's defaults.
impl Default for LeaseTimes {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { duration: seconds(15), renew: seconds(10), retry: seconds(2) }
    }
}

/// Whether this process leads. Ask before each write.
#[derive(Clone)]
pub(crate) struct Leadership {
    until: watch::Receiver<Option<Instant>>,
    told: bool,
}

impl Leadership {
    /// Of who leads for as long as the sender is kept.
    #[cfg(test)]
    pub(crate) fn lasting() -> (watch::Sender<Option<Instant>>, Self) {
        let (lead, until) = watch::channel(Some(Instant::now() + Duration::from_secs(3600)));
        (lead, Self { until, told: true })
    }

    /// Whether we may write now. A process that was stalled finds that it may not.
    pub(crate) fn is_leader(&self) -> bool {
        self.until().is_some()
    }

    /// Until when we may write; `None`: not now.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until.borrow().filter(|until| Instant::now() < *until)
    }

    /// Waits until we lead and have not been told so yet, or no longer lead; tells which.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            let until = *self.until.borrow_and_update();
            let leads = until.is_some_and(|until| Instant::now() < until);
            if leads != self.told {
                self.told = leads;
                return leads;
            }
            // An election that ended says nothing more; what it said last still lapses.
            let said = async {
                if self.until.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            match until.filter(|_| leads) {
                Some(until) => tokio::time::timeout_at(until.into(), said).await.unwrap_or_default(),
                None => said.await,
            }
        }
    }
}

/// Takes part in the election until it is stopped.
pub(crate) struct Election {
    leadership: Leadership,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Election {
    /// Stands for election in the namespace of `leases`. `identity` must be unique, also among restarts.
    pub(crate) fn start(leases: Api<Lease>, identity: String, times: LeaseTimes) -> Self {
        let (lead, until) = watch::channel(None);
        let end = CancellationToken::new();
        let candidate = Candidate { identity, times, observed: None };
        let campaign = Campaign { leases, candidate, lead };
        let task = tokio::spawn(campaign.run(end.clone()));
        Self { leadership: Leadership { until, told: false }, end, task }
    }

    /// Tells whether we lead.
    pub(crate) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Stops, and gives the Lease back so that another need not wait. To be called when nothing is written any more.
    pub(crate) async fn stop(self) {
        self.end.cancel();
        if self.task.await.is_err() {
            warn!("the election ended by itself");
        }
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
enum Action {
    /// There is no Lease: make this one. Who comes second is refused.
    Create(Box<Lease>),
    /// Write this in place of the one that was read. Who is late (by resourceVersion) is refused.
    Replace(Box<Lease>),
    /// Another one leads.
    Wait,
}

/// The decisions, without any I/O.
struct Candidate {
    identity: String,
    times: LeaseTimes,
    /// The Lease as it was last read or written, and when its record was first seen so.
    observed: Option<(Lease, Instant)>,
}

impl Candidate {
    /// Takes what the API server holds. Only a record that differs is news: not a label, not a resourceVersion.
    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        let since = |new: &Lease| match &self.observed {
            Some((old, since)) if old.spec == new.spec => *since,
            _ => now,
        };
        self.observed = lease.map(|lease| {
            let since = since(&lease);
            (lease, since)
        });
    }

    /// Whether the Lease is ours, and nobody could have taken it since.
    fn leads(&self, now: Instant) -> bool {
        let ours = |(lease, since): &(Lease, Instant)| {
            holder(lease) == self.identity && now < *since + self.times.duration
        };
        self.observed.as_ref().is_some_and(ours)
    }

    /// What to do about the Lease as it was observed. `clock` is only written down.
    fn decide(&self, now: Instant, clock: Timestamp) -> Action {
        let Some((lease, since)) = &self.observed else {
            return Action::Create(Box::new(self.claim(Lease::default(), clock)));
        };
        let expired = now >= *since + duration(lease);
        if holder(lease).is_empty() || holder(lease) == self.identity || expired {
            Action::Replace(Box::new(self.claim(lease.clone(), clock)))
        } else {
            Action::Wait
        }
    }

    /// The Lease with us as its holder.
    fn claim(&self, mut lease: Lease, clock: Timestamp) -> Lease {
        let renewal = holder(&lease) == self.identity;
        let takeover = lease.spec.is_some() && !renewal;
        let old = lease.spec.take().unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or(0).saturating_add(i32::from(takeover));
        let now = MicroTime(clock);
        lease.metadata.name = Some(LEASE.to_owned());
        lease.metadata.labels.get_or_insert_default().insert(MANAGED.into(), TRUE.into());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.times.duration.as_secs()).ok(),
            acquire_time: old.acquire_time.clone().filter(|_| renewal).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..old
        });
        lease
    }

    /// The Lease without a holder, when we are it.
    fn release(&self, clock: Timestamp) -> Option<Lease> {
        let (lease, _) = self.observed.as_ref()?;
        let mut lease = (holder(lease) == self.identity).then(|| lease.clone())?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(clock));
        spec.acquire_time = Some(MicroTime(clock));
        Some(lease)
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// What the holder promised to renew within; nothing when it does not say.
fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The decisions, carried out.
struct Campaign {
    leases: Api<Lease>,
    candidate: Candidate,
    lead: watch::Sender<Option<Instant>>,
}

impl Campaign {
    async fn run(mut self, end: CancellationToken) {
        while !end.is_cancelled() {
            let limit = self.candidate.times.renew / 2;
            let round = tokio::time::timeout(limit, self.round());
            match tokio::select! { () = end.cancelled() => break, outcome = round => outcome } {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("the Lease {LEASE} can't be read or written: {error}"),
                Err(_) => warn!("the Lease {LEASE} can't be read or written: no answer in {limit:?}"),
            }
            let pause = pause(self.candidate.times.retry, self.candidate.leads(Instant::now()), random());
            tokio::select! { () = end.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
        }
        let leads = self.lead.send_replace(None).is_some_and(|until| Instant::now() < until);
        let release = tokio::time::timeout(self.candidate.times.renew, self.release());
        if leads && !matches!(release.await, Ok(Ok(()))) {
            warn!("the Lease {LEASE} could not be given back: another controller takes it when it expires");
        }
    }

    /// One attempt to renew or to take the Lease. A leader writes at once; when that is refused for the Lease has
    /// changed meanwhile, or it does not lead, it reads first.
    async fn round(&mut self) -> kube::Result<()> {
        let mut read = !self.candidate.leads(Instant::now());
        for _ in 0..2 {
            let began = Instant::now();
            if read {
                let lease = self.leases.get_opt(LEASE).await?;
                self.candidate.observe(lease, Instant::now());
            }
            let written = match self.candidate.decide(Instant::now(), Timestamp::now()) {
                Action::Create(lease) => self.leases.create(&PostParams::default(), &lease).await,
                Action::Replace(lease) => self.leases.replace(LEASE, &PostParams::default(), &lease).await,
                Action::Wait => {
                    self.follow();
                    return Ok(());
                }
            };
            match written {
                Ok(lease) => {
                    self.candidate.observe(Some(lease), began);
                    self.lead_from(began);
                    return Ok(());
                }
                // 409: somebody was faster; 404: somebody deleted it.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => read = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counted from before the request: others saw the renewal later than that.
    fn lead_from(&self, began: Instant) {
        let before = self.lead.send_replace(Some(began + self.candidate.times.renew));
        if before.is_none_or(|until| until <= began) {
            info!("leads as {}", self.candidate.identity);
        }
    }

    fn follow(&self) {
        if self.lead.send_if_modified(|until| until.take().is_some()) {
            info!("leads no more");
        }
    }

    async fn release(&mut self) -> kube::Result<()> {
        let lease = self.leases.get_opt(LEASE).await?;
        self.candidate.observe(lease, Instant::now());
        let Some(lease) = self.candidate.release(Timestamp::now()) else { return Ok(()) };
        self.leases.replace(LEASE, &PostParams::default(), &lease).await?;
        info!("gave the lead back");
        Ok(())
    }
}

/// A leader renews regularly; candidates come at random times, so that they don't all come at once.
fn pause(retry: Duration, leads: bool, random: f64) -> Duration {
    if leads { retry } else { retry.mul_f64(1.0 + JITTER * random) }
}

/// From 0 to 1.
fn random() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests;
