//! One service's turn: planned and written until nothing is left to do.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use portolan_zones::ServiceName;

use super::apply::{Connection, WriteError, kind};
use super::contests::print;
use super::desired::desire;
use super::plan::{Action, Target, Verb, What, plan};
use super::queue::Outcome;
use super::reconcile::Reconciler;
use super::world::{Past, Trouble, VipTrouble, World};

/// Rounds of planning for one service: import, derived Service, import's address, slices and statuses, and some for what is
/// refused.
const ROUNDS: usize = 12;
/// How often an address that a deleted derived Service had is asked for: the API server frees it a little later.
const TRIES: u32 = 5;

/// What a service's last attempts came to grief on.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocked {
    pub(super) failed: BTreeSet<Target>,
    pub(super) trouble: Trouble,
}

/// What came of one service.
pub(super) struct Pass {
    pub(super) name: ServiceName,
    pub(super) outcome: Outcome,
    /// What is known beyond its objects, with what went wrong in this turn.
    pub(super) past: Past,
    /// What went wrong with these is not tried again in this turn.
    pub(super) failed: BTreeSet<Target>,
    pub(super) foreign: Option<String>,
    pub(super) unreachable: Option<String>,
    /// When to look again, even if nothing happens.
    pub(super) again: Option<Instant>,
    /// Whether its import is to go, but not yet.
    pub(super) braked: bool,
}

impl Reconciler {
    /// Plans and writes until nothing is left to do. `times`: how often that failed in a row.
    pub(super) async fn bring_in_line(&self, name: ServiceName, blocked: Blocked, times: u32) -> Pass {
        let mut outcome = if blocked.failed.is_empty() { Outcome::Right } else { Outcome::Blocked };
        let Blocked { failed, trouble } = blocked;
        let past = Past { trouble, ..Past::default() };
        let mut pass = Pass {
            name,
            outcome: Outcome::Untried,
            past,
            failed,
            foreign: None,
            unreachable: None,
            again: None,
            braked: false,
        };
        let connection = match self.writer.connection().await {
            Ok(connection) => connection,
            Err(error) => return Pass { unreachable: Some(error.to_string()), ..pass },
        };
        let mut done: Vec<Action> = Vec::new();
        for _ in 0..ROUNDS {
            let actions = self.next(&mut pass, connection.mcs);
            if actions.is_empty() || !self.may_delete(&mut pass, &actions) {
                pass.outcome = outcome;
                return pass;
            }
            for action in actions {
                let Some(end) = self.until() else { return pass };
                match self.write(&pass.name, &connection, &action, &done, end).await {
                    Ok(()) => done.push(action),
                    Err(WriteError::Unreachable(error)) => return Pass { unreachable: Some(error), ..pass },
                    Err(WriteError::Over { .. }) => return pass,
                    Err(WriteError::Undeclared { .. }) => break,
                    Err(error) => {
                        outcome = outcome.and_failed(self.note(&mut pass, &action, &error, times));
                        break;
                    }
                }
            }
        }
        let unsettled =
            || Outcome::Failed(Some("too much is refused at once, or others change it".to_owned()));
        pass.outcome = if matches!(outcome, Outcome::Failed(_)) { outcome } else { unsettled() };
        pass
    }

    /// The next requests for a service, as everything is now.
    fn next(&self, pass: &mut Pass, mcs: &'static str) -> Vec<Action> {
        let Some(home) = self.observed.home() else { return Vec::new() };
        let (clock, now) = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH), Instant::now());
        let clock = i64::try_from(clock.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let (pool, lacking, all_heard) = (self.pool.clone(), self.writer.lacking(), self.all_heard());
        let world = World { home, pool, mcs, lacking, all_heard, now: clock };
        let service = self.snapshots.load().services.get(pass.name.wire()).cloned();
        let seen = self.observed.see(&pass.name);
        pass.again = None;
        if service.as_ref().is_some_and(|service| service.awaited && service.members.is_empty()) {
            let until = self.memory.wait(&pass.name, now);
            pass.past.waited = until <= now;
            pass.again = Some(until).filter(|until| now < *until);
        } else {
            self.memory.has_come(&pass.name);
        }
        pass.past.former = self.memory.former(&pass.name, now);
        let desired = desire(&pass.name, service.as_deref(), &seen, &world, &pass.past);
        let Some(desired) = desired else { return Vec::new() };
        pass.foreign.clone_from(&desired.foreign);
        plan(&pass.name, &desired, &seen.facts, &world, &pass.failed)
    }

    /// Whether this may be done, which a new judgement of who counts as a cluster may be the reason for.
    fn may_delete(&self, pass: &mut Pass, actions: &[Action]) -> bool {
        if !actions.iter().any(is_end) {
            return true;
        }
        let released = self.brake.release(self.observed.imports(), Instant::now());
        pass.again = released.err();
        pass.braked = released.is_err();
        released.is_ok()
    }

    /// Until when something may be begun; `None`: not now.
    pub(super) fn until(&self) -> Option<Instant> {
        self.leadership.until().filter(|_| !self.end.is_cancelled())
    }

    async fn write(
        &self,
        name: &ServiceName,
        connection: &Connection,
        action: &Action,
        done: &[Action],
        end: Instant,
    ) -> Result<(), WriteError> {
        let target = &action.target;
        if done.contains(action) {
            let message = "it is not as it was just written: somebody else, or the API server, changes it";
            return Err(WriteError::Refused { target: target.clone(), code: 0, message: message.to_owned() });
        }
        let body = match &action.verb {
            Verb::Create { body } | Verb::Apply { body } => Some(body),
            Verb::Delete { .. } => None,
        };
        let print = body.map(print);
        if print.is_some_and(|print| self.contests.is_contested(target, print, Instant::now())) {
            let by = self.writer.others(connection, target).await;
            return Err(WriteError::Contested { target: target.clone(), by });
        }
        // Before the watch tells that it is gone.
        let import = is_end(action).then(|| self.observed.see(name).facts.import).flatten();
        match self.writer.carry_out(connection, action, end).await? {
            Some(json) => {
                print.inspect(|print| self.contests.wrote(target, *print, Instant::now()));
                self.observed.wrote(kind(target.what), &json);
            }
            None => {
                if let Some(import) = import {
                    self.brake.deleted();
                    self.memory.bury(name, import.ips, Instant::now());
                }
                self.contests.deleted(target);
                self.observed.deleted(kind(target.what), &target.namespace, &target.name);
            }
        }
        Ok(())
    }

    /// Remembers what came to nothing; for people, unless it was only too late.
    fn note(&self, pass: &mut Pass, action: &Action, error: &WriteError, times: u32) -> Option<String> {
        pass.failed.insert(action.target.clone());
        let text = error.told(times)?;
        match error.vip() {
            Some(VipTrouble::Taken) if times < TRIES => {}
            Some(vip) => {
                if vip == VipTrouble::Taken {
                    self.memory.forget_former(&pass.name);
                }
                pass.past.trouble.vip = Some(vip);
            }
            None => pass.past.trouble.other.push(text.clone()),
        }
        Some(text)
    }
}

/// Whether it is the end of an import.
fn is_end(action: &Action) -> bool {
    action.target.what == What::Import && matches!(action.verb, Verb::Delete { .. })
}
