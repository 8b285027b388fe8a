//! `/explain`: beside the threads that answer queries, and a few at a time, for each may look at a thousand places.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use portolan_zones::places::Locate;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Shown;
use crate::explain::{self, Known, Question};
use crate::status::unix_now;

/// Explanations at once.
const AT_ONCE: usize = 2;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who explains.
#[derive(Clone)]
pub(super) struct Explaining {
    shown: Arc<Shown>,
    turns: Arc<Semaphore>,
}

impl Explaining {
    pub(super) fn new(shown: Arc<Shown>) -> Self {
        Self { shown, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// Why a client gets what it gets.
pub(super) async fn explanation(
    State(Explaining { shown, turns }): State<Explaining>,
    question: Result<Query<Question>, QueryRejection>,
) -> Response {
    let question = match question {
        Ok(Query(question)) => question,
        Err(rejected) => return refused(&rejected.body_text()),
    };
    // Nobody closes the semaphore.
    let Ok(Ok(turn)) = timeout(PATIENCE, turns.acquire_owned()).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "busy explaining; try again\n").into_response();
    };
    let told = spawn_blocking(move || {
        // Its turn lasts until it is explained, even if nobody waits for it any more.
        let _turn = turn;
        explain(&shown, &question)
    });
    match told.await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(Err(error)) => refused(&format!("{error:#}")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "explaining failed\n").into_response(),
    }
}

fn explain(shown: &Shown, question: &Question) -> anyhow::Result<String> {
    let atlas = shown.geo.as_ref().map(|geo| geo.atlas());
    let known = Known {
        snapshot: &shown.snapshots.load(),
        beyond: atlas.as_ref().map(|atlas| &**atlas as &dyn Locate),
        witness: &shown.witness,
        now: i64::try_from(unix_now()).unwrap_or(i64::MAX),
    };
    explain::explain(&known, question)
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use portolan_zones::object::{Export, Service, ServiceKind};
    use portolan_zones::policy::explain::{Evidence, Witness};
    use portolan_zones::{
        Change, ClusterEvent, ClusterId, Event, Name, Object, ServiceName, Snapshot, Table, ZoneConfig,
        Zones, compile,
    };

    use super::*;
    use crate::admin::tests::start_witnessed;

    /// Who explains is held up, and everything else is not: two at a time are explained, others are told to try again.
    #[tokio::test]
    async fn explanations_take_turns_and_hold_nobody_up() {
        let (enter, mut entered) = tokio::sync::mpsc::unbounded_channel();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let witness = Witness::new(move |_, _| {
            enter.send(()).unwrap();
            // Until the test lets go, which it can't when its own thread is held up here.
            let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(8));
            Evidence::default()
        });
        let server = Arc::new(start_witnessed(witness, None, Vec::new()).await);
        server.snapshots.store(Arc::new(with_a_service()));
        let ask = || {
            let server = server.clone();
            let path = "/explain?name=s.n.svc.clusterset.local&from=192.0.2.1";
            tokio::spawn(async move { server.get(path).await })
        };
        let explained = [ask(), ask()];
        for _ in &explained {
            timeout(Duration::from_secs(5), entered.recv()).await.expect("both are looked at").unwrap();
        }
        let late: Vec<_> = (0..20).map(|_| ask()).collect();
        assert_eq!(server.get("/health").await.0, 200);
        for late in late {
            let (code, text) = late.await.unwrap();
            assert!(code == 503 && text.ends_with("\r\n\r\nbusy explaining; try again\n"), "{code}: {text}");
        }
        assert!(entered.try_recv().is_err(), "no more than two were looked at");
        drop(open);
        for explained in explained {
            let (code, text) = explained.await.unwrap();
            assert!(code == 200 && text.contains("\"n/s\""), "{code}: {text}");
        }
        assert_eq!(ask().await.unwrap().0, 200, "there are turns again");
    }

    /// Service `n/s` of one cluster.
    fn with_a_service() -> Snapshot {
        let name = || ServiceName::new("n", "s").unwrap();
        let export = Export { name: name(), created: 1, exported: None, gateway: None, state: None };
        let kind = ServiceKind::ClusterIp;
        let service = Service { name: name(), kind, spec: Arc::default(), gateway: None };
        let change = Change::Reset(vec![Object::Export(export), Object::Service(service)]);
        let mut table = Table::default();
        table.apply(Event::Cluster(ClusterEvent { cluster: ClusterId::new("fra1").unwrap(), change }));
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
        let before = Snapshot::unsynced(zones.clone());
        compile(&mut table, &zones, &before, 2).expect("there is something new")
    }
}
