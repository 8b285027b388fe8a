//! Contenders in turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portolan_tests::harness::node::Cgroup;
use portolan_tests::harness::until;

use super::figures::table::{Group, Round, Row};
use super::load::{Drive, Load};
use super::plan::{Contender, Plan};
use super::running::{Place, Running};
use super::zone::{Zone, vip};

/// Services that change in a second.
const CHANGES: usize = 1_000;
/// An eighth of a core, for who is to be overloaded by a dnsperf that has a whole one: so many microseconds of each so many. Periods
/// are short, so that a query waits for few milliseconds only because its server may not run.
const EIGHTH: (u32, u32) = (1_000, 8_000);

/// How long, and how often.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub rounds: u32,
    pub seconds: u32,
}

/// Starts all of a group, lets them take turns, and ends them. Who can't take part is in the group with the reason.
pub fn measure(plan: Plan, Rounds { rounds, seconds }: Rounds) -> Group {
    let aside = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    let mut started = Vec::new();
    for contender in &plan.contenders {
        let running = catch_unwind(AssertUnwindSafe(|| start(contender)));
        let running = running.unwrap_or_else(|_| Err("it could not be set up, see above".into()));
        let mut row = Row { name: contender.name.to_owned(), ..Row::default() };
        match &running {
            Ok(running) => {
                row.memory = Some(running.at_rest);
                row.loading = Some(running.loading.as_secs_f64());
            }
            Err(why) => row.missing = Some(why.clone()),
        }
        rows.push(row);
        started.push(running.ok());
    }
    for round in 0..rounds {
        // Whoever comes first in a round comes last in the next one.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (Some(running), None) = (&started[at], &rows[at].missing) else { continue };
            match turn(&plan.contenders[at], running, seconds, aside.path()) {
                Ok(round) => rows[at].rounds.push(round),
                Err(why) => {
                    rows[at].missing = Some(format!("{why}; its last words: {}", running.last_words()));
                }
            }
        }
    }
    Group { title: plan.title, columns: plan.columns, rows, limits: plan.limits }
}

fn start(contender: &Contender) -> Result<Running, String> {
    let Contender { zone, client, prepare, answers, load, .. } = contender;
    let held = (*load == Load::Overloaded).then(|| Cgroup::limited(EIGHTH.0, EIGHTH.1)).transpose()?;
    let place = Place::new();
    let launch = prepare(zone, &place)?;
    if !answers {
        return Running::start(launch, place, held, |at| client.ask(at, "echo").is_some());
    }
    let last = zone.names - 1;
    let running = Running::start(launch, place, held, |at| client.answered(at, zone, last).is_ok())?;
    client.check(running.at, zone)?;
    Ok(running)
}

fn turn(contender: &Contender, running: &Running, seconds: u32, aside: &Path) -> Result<Round, String> {
    let Contender { zone, client, transport, changing, load, dropped, .. } = contender;
    let questions = &zone.questions();
    let drive = Drive {
        server: running,
        load: *load,
        transport: *transport,
        client: *client,
        questions,
        seconds,
        dropped: *dropped,
        aside,
    };
    if !changing {
        return drive.round();
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| change(zone, &ended));
        let round = drive.round();
        ended.store(true, Ordering::Relaxed);
        let (file, number) = changes.join().unwrap();
        let service = zone.of_file(file).start;
        until("the last change is answered", || {
            client.answered_by(running.at, service, &[vip(service, number)]).ok()
        });
        round
    })
}

/// Gives services other addresses and then others again, one file after the other. Returns which file was the last, and the number
/// of the addresses in it.
fn change(zone: &Zone, ended: &AtomicBool) -> (usize, usize) {
    let begun = Instant::now();
    let pause = Duration::from_secs_f64(zone.each_file() as f64 / CHANGES as f64);
    let mut changed = 0;
    loop {
        let last = zone.change();
        if ended.load(Ordering::Relaxed) {
            return last;
        }
        changed += 1;
        std::thread::sleep((pause * changed as u32).saturating_sub(begun.elapsed()));
    }
}
