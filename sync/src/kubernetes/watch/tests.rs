//! What a watch concludes from what its server does: a fake API server inside of the process, whose answers each test
//! gives by hand, on a clock that runs ahead whenever all wait.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use kube::client::Body;
use kube::core::Status;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{BoxError, service_fn};

use super::*;

/// A request, which is answered at will.
struct Asked {
    uri: String,
    at: Instant,
    answer: oneshot::Sender<Response<Pieces>>,
}

/// A body as it is sent; ends when the sender is dropped.
struct Pieces(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

type Sending = mpsc::UnboundedSender<Bytes>;

impl Asked {
    fn begin(self, code: u16) -> Sending {
        let (sender, pieces) = mpsc::unbounded_channel();
        let response = Response::builder().status(code).body(Pieces(pieces)).unwrap();
        assert!(self.answer.send(response).is_ok(), "{} was given up", self.uri);
        sender
    }

    fn reply(self, code: u16, text: &str) {
        self.begin(code).send(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    }

    fn fail(self, code: u16) {
        self.reply(
            code,
            &format!(r#"{{"kind": "Status", "code": {code}, "message": "no", "reason": "No"}}"#),
        );
    }

    /// Whether everything is asked for, not only what changes.
    fn is_list(&self) -> bool {
        !self.uri.contains("watch=true") || self.uri.contains("sendInitialEvents=true")
    }

    /// Answers a list by an empty one, which goes on as a watch.
    fn list(self) -> Sending {
        assert!(self.uri.contains("sendInitialEvents=true"), "{}", self.uri);
        let sending = self.begin(200);
        tell(&sending, &bookmark(r#", "annotations": {"k8s.io/initial-events-end": "true"}"#));
        sending
    }
}

fn tell(sending: &Sending, line: &str) {
    sending.send(Bytes::from(format!("{line}\n"))).unwrap();
}

fn bookmark(more: &str) -> String {
    format!(
        r#"{{"type": "BOOKMARK", "object": {{"kind": "X", "apiVersion": "v1", "metadata": {{"resourceVersion": "10"{more}}}}}}}"#
    )
}

const GONE: &str = r#"{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}"#;

struct Case {
    asked: mpsc::UnboundedReceiver<Asked>,
    words: mpsc::Receiver<(Topic, Word)>,
    outages: watch::Sender<Instant>,
    _watch: JoinSet<()>,
}

impl Case {
    fn of(topic: Topic) -> Self {
        let (asking, asked) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Body>| {
            let (answer, answered) = oneshot::channel();
            let asked = Asked { uri: request.uri().to_string(), at: Instant::now(), answer };
            let sent = asking.send(asked).is_ok();
            async move { if sent { answered.await.map_err(BoxError::from) } else { Err("over".into()) } }
        });
        let (telling, words) = mpsc::channel(QUEUE);
        let (outages, ended) = watch::channel(Instant::now());
        let wanted = Wanted { topic, selector: None, namespace: None, name: None };
        let mut tasks = JoinSet::new();
        tasks.spawn(super::watch(Client::new(service, "default"), wanted, telling, ended));
        Self { asked, words, outages, _watch: tasks }
    }

    async fn asked(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    /// The next word, without the object.
    async fn word(&mut self) -> &'static str {
        name(&self.words.recv().await.unwrap().1)
    }

    async fn words(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.word().await, *expected);
        }
    }

    /// That nothing is told for so long.
    async fn silence(&mut self, time: Duration) {
        let word = timeout(time, self.word()).await;
        assert!(word.is_err(), "{word:?}");
    }
}

fn name(word: &Word) -> &'static str {
    match word {
        Word::Begin => "begin",
        Word::Listed(_) => "listed",
        Word::Done => "done",
        Word::Apply(_) => "apply",
        Word::Delete(_) => "delete",
        Word::Absent => "absent",
        Word::Broken(_) => "broken",
        Word::Denied(_) => "denied",
        Word::Mended => "mended",
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A server that forgets changes faster than we read them is not asked for everything as fast as it can answer.
#[tokio::test(start_paused = true)]
async fn expired_watches_list_again_after_growing_waits_and_say_so() {
    let mut case = Case::of(Topic::Service);
    let mut at = Vec::new();
    for _ in 0..8 {
        let asked = case.asked().await;
        assert!(asked.is_list());
        at.push(asked.at);
        tell(&asked.list(), GONE);
    }
    let waits: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_millis(100), "{waits:?}");
    assert!(waits[6] >= Duration::from_millis(6400), "they grow though each list was complete: {waits:?}");
    case.words(&["begin", "done", "begin", "done", "broken", "begin", "done"]).await;
}

/// What worked for a while and expires then, as after a night without changes, is no problem.
#[tokio::test(start_paused = true)]
async fn a_watch_that_expires_once_is_no_problem() {
    let mut case = Case::of(Topic::Service);
    for _ in 0..3 {
        let sending = case.asked().await.list();
        case.words(&["begin", "done"]).await;
        case.silence(MINUTE).await;
        tell(&sending, GONE);
    }
}

/// A server that takes requests and does not answer is as silent as one that is gone: nothing works again before it does.
#[tokio::test(start_paused = true)]
async fn what_was_broken_is_mended_by_an_answer_only() {
    let mut case = Case::of(Topic::Service);
    drop(case.asked().await.list());
    case.words(&["begin", "done"]).await;
    case.asked().await.fail(500);
    case.words(&["broken"]).await;
    let hanging = case.asked().await;
    case.silence(MINUTE).await;
    let sending = hanging.begin(200);
    let accepted = Instant::now();
    case.words(&["mended"]).await;
    assert!(accepted.elapsed() >= MENDED, "{:?}", accepted.elapsed());
    drop(sending);
    case.asked().await.fail(500);
    case.words(&["broken"]).await;
    tell(
        &case.asked().await.begin(200),
        r#"{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "11"}}}"#,
    );
    let told = Instant::now();
    case.words(&["mended", "apply"]).await;
    assert!(told.elapsed() < MENDED, "an event is evidence at once");
}

/// A list that hangs after failures mends nothing, neither its beginning nor its objects: only its end does.
#[tokio::test(start_paused = true)]
async fn an_endless_list_is_told_and_mends_nothing() {
    let mut case = Case::of(Topic::Service);
    case.asked().await.fail(500);
    case.words(&["broken"]).await;
    let sending = case.asked().await.begin(200);
    case.words(&["begin"]).await;
    let began = Instant::now();
    let told = loop {
        let object = r#"{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "11"}}}"#;
        if sending.send(Bytes::from(format!("{object}\n"))).is_err() {
            break case.word().await;
        }
        match timeout(Duration::from_secs(29), case.word()).await {
            Err(_) | Ok("listed") => {}
            Ok(told) => break told,
        }
    };
    assert_eq!(told, "broken");
    assert!(began.elapsed() <= LIST + MINUTE, "{:?}", began.elapsed());
}

/// More objects than can be meant are not taken in, even in one page. (An object may be any JSON.)
#[tokio::test(start_paused = true)]
async fn a_flood_of_objects_is_cut_off() {
    let mut case = Case::of(Topic::Service);
    case.asked().await.fail(422);
    let items = vec!["7"; MOST_OBJECTS + 10].join(",");
    case.asked().await.reply(
        200,
        &format!(r#"{{"kind": "List", "apiVersion": "v1", "metadata": {{"resourceVersion": "1"}}, "items": [{items}]}}"#),
    );
    case.words(&["begin"]).await;
    let mut listed = 0;
    let last = loop {
        match case.word().await {
            "listed" => listed += 1,
            other => break other,
        }
    };
    assert_eq!((listed, last), (MOST_OBJECTS, "broken"));
}

/// After an outage a watch goes on where it was; everything is listed again only when the server says so. Who has heard
/// something since is not even asked again.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_a_request_and_no_list() {
    let mut case = Case::of(Topic::Service);
    let _silent = case.asked().await.list();
    case.words(&["begin", "done"]).await;
    case.silence(Duration::from_secs(5)).await;
    let over = Instant::now();
    case.outages.send_replace(over);
    let asked = case.asked().await;
    assert!(!asked.is_list() && asked.uri.contains("resourceVersion=10"), "{}", asked.uri);
    assert!(asked.at - over <= SPREAD);
    let alive = asked.begin(200);
    case.silence(Duration::from_secs(5)).await;
    case.outages.send_replace(Instant::now());
    tell(&alive, &bookmark(""));
    assert!(timeout(MINUTE, case.asked()).await.is_err(), "it is alive");
}

/// A connection that is dead without a word is found by the bookmarks that are missing, and costs no list either.
#[tokio::test(start_paused = true)]
async fn a_watch_without_bookmarks_is_asked_for_anew() {
    let mut case = Case::of(Topic::Service);
    let sending = case.asked().await.list();
    for _ in 0..3 {
        assert!(timeout(MINUTE, case.asked()).await.is_err());
        tell(&sending, &bookmark(""));
    }
    let asked = timeout(SILENT + MINUTE, case.asked()).await.unwrap();
    assert!(!asked.is_list(), "{}", asked.uri);
    case.words(&["begin", "done"]).await;
    case.silence(Duration::from_secs(30)).await;
}

/// A server that ends each watch at once is not asked as fast as it can answer.
#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_asked_for_at_once() {
    let mut case = Case::of(Topic::Service);
    drop(case.asked().await.list());
    let began = Instant::now();
    for _ in 0..10 {
        tell(&case.asked().await.begin(200), &bookmark(""));
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}

/// A watch that is accepted proves nothing when it never says anything, be it that it stays open or that it ends at once: what
/// it should have told is listed.
#[tokio::test(start_paused = true)]
async fn watches_that_never_say_anything_are_broken() {
    for ends_at_once in [false, true] {
        let mut case = Case::of(Topic::Service);
        drop(case.asked().await.list());
        case.words(&["begin", "done"]).await;
        let mut open = Vec::new();
        for _ in 0..MUTE + 1 {
            let asked = case.asked().await;
            assert!(!asked.is_list());
            let sending = asked.begin(200);
            if !ends_at_once {
                open.push(sending);
            }
        }
        case.words(&["broken"]).await;
        let asked = case.asked().await;
        assert!(asked.is_list() && !asked.uri.contains("watch=true"), "{}", asked.uri);
    }
}

/// A server may answer by an error inside of a watch that stays open: its next bookmark shows that it works again.
#[tokio::test(start_paused = true)]
async fn an_error_inside_of_a_watch_is_over_with_its_next_bookmark() {
    let mut case = Case::of(Topic::Service);
    let sending = case.asked().await.list();
    case.words(&["begin", "done"]).await;
    tell(&sending, "no JSON");
    case.words(&["broken"]).await;
    case.silence(Duration::from_secs(30)).await;
    tell(&sending, &bookmark(""));
    let told = Instant::now();
    case.words(&["mended"]).await;
    assert!(told.elapsed() <= MINUTE, "{:?}", told.elapsed());
}

/// A large list over a slow line takes longer than any fixed time, and is not begun anew for that.
#[tokio::test(start_paused = true)]
async fn a_list_may_take_long_while_it_gets_on() {
    let mut case = Case::of(Topic::Service);
    let sending = case.asked().await.begin(200);
    case.words(&["begin"]).await;
    let began = Instant::now();
    let line = format!(
        "{}\n",
        r#"{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "11"}}}"#
    );
    while began.elapsed() < 2 * LIST {
        sending.send(Bytes::from(line.repeat(STEP / 20))).unwrap();
        for _ in 0..STEP / 20 {
            case.words(&["listed"]).await;
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    tell(&sending, &bookmark(r#", "annotations": {"k8s.io/initial-events-end": "true"}"#));
    case.words(&["done"]).await;
}

/// The table may be slow to take in what is told. That we did not listen meanwhile is no silence of the server's.
#[tokio::test(start_paused = true)]
async fn who_could_not_listen_concludes_nothing_from_silence() {
    let mut case = Case::of(Topic::Service);
    let sending = case.asked().await.begin(200);
    let line = format!(
        "{}\n",
        r#"{"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "11"}}}"#
    );
    sending.send(Bytes::from(line.repeat(2 * QUEUE))).unwrap();
    tokio::time::sleep(2 * STALLED).await;
    case.words(&["begin"]).await;
    for _ in 0..2 * QUEUE {
        case.words(&["listed"]).await;
    }
    tokio::time::sleep(STALLED / 2).await;
    tell(&sending, &bookmark(r#", "annotations": {"k8s.io/initial-events-end": "true"}"#));
    case.words(&["done"]).await;
}

/// A stream that stalls is a hiccup: pages for this once. A server that does not know them is asked for pages for good.
#[tokio::test(start_paused = true)]
async fn pages_for_good_only_where_streams_are_not_understood() {
    const PAGE: &str =
        r#"{"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}"#;
    for refused in [false, true] {
        let mut case = Case::of(Topic::Service);
        let asked = case.asked().await;
        let _stalled = if refused {
            asked.fail(422);
            None
        } else {
            Some(asked.begin(200))
        };
        let asked = case.asked().await;
        assert!(!asked.uri.contains("watch=true"), "{}", asked.uri);
        asked.reply(200, PAGE);
        tell(&case.asked().await.begin(200), GONE);
        assert_eq!(case.asked().await.uri.contains("watch=true"), !refused);
    }
}

/// A load balancer without a backend answers 404 to all: that takes away nothing, however long it lasts.
#[tokio::test(start_paused = true)]
async fn a_404_is_no_evidence_that_a_kind_is_not_served() {
    let text = "404 page not found";
    let bodies = [text, "{}", r#"{"kind": "APIGroupList", "groups": []}"#, r#"{"error": "not found"}"#];
    for (index, body) in bodies.into_iter().enumerate() {
        let mut case = Case::of(Topic::ServiceExport);
        let began = Instant::now();
        while began.elapsed() < 5 * MINUTE {
            let asked = case.asked().await;
            let groups = asked.uri == "/apis" && index > 0;
            asked.reply(if groups { 200 } else { 404 }, if groups { body } else { text });
            while let Ok((_, word)) = case.words.try_recv() {
                assert_eq!(name(&word), "broken", "{body}");
            }
        }
    }
}

/// Servers that start may not serve everything yet, and definitions are replaced by deleting them: what is not served is
/// gone at the second look only, at the start as well as later.
#[tokio::test(start_paused = true)]
async fn a_kind_is_not_served_at_the_second_look() {
    const GROUPS: &str = r#"{"kind": "APIGroupList", "groups": [
        {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]}]}"#;
    let mut case = Case::of(Topic::ServiceExport);
    let began = Instant::now();
    let mut looks = 0;
    while !matches!(case.words.try_recv(), Ok((_, Word::Absent))) {
        let Ok(asked) = timeout(Duration::from_millis(1), case.asked()).await else { continue };
        if asked.uri == "/apis" {
            looks += 1;
            asked.reply(200, GROUPS);
        } else {
            asked.fail(404);
        }
    }
    assert_eq!(looks, 2);
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
}

/// Of the server's answers to the first request, only those that speak against the way of asking make us ask in
/// another way; a server that is busy or refuses us is asked in the same way later.
#[test]
fn pages_only_where_streamed_lists_are_not_understood() {
    let status = |code| Box::new(Status { code, ..Status::default() });
    let start = |code| watcher::Error::WatchStartFailed(kube::Error::Api(status(code)));
    let cases = [
        (start(422), true, Remedy::Pages),
        (start(400), true, Remedy::Pages),
        (start(422), false, Remedy::Retry),
        (start(401), true, Remedy::Retry),
        (start(403), true, Remedy::Retry),
        (start(404), true, Remedy::Anew),
        (start(410), false, Remedy::Expired),
        (start(429), true, Remedy::Retry),
        (start(503), true, Remedy::Retry),
        (watcher::Error::WatchError(status(410)), false, Remedy::Expired),
        (watcher::Error::WatchError(status(500)), false, Remedy::Retry),
        (watcher::Error::NoResourceVersion, false, Remedy::Retry),
    ];
    for (error, streams, expected) in cases {
        assert_eq!(remedy(&error, streams), expected, "{error}");
    }
}
