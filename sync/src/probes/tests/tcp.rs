//! Probes by TCP, and a prober with real ones.

use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::*;

/// A port that nobody listens on, and nobody else gets for as long as this lives.
fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn who_accepts_is_there_and_how_long_it_takes_is_told() {
    let address = silent().await;
    let (rtt, result) = found(address, Kind::Tcp, LONG).await;
    assert_eq!(result, Ok(()));
    assert!(rtt.unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn who_refuses_is_not() {
    let (_socket, address) = closed();
    let (rtt, result) = found(address, Kind::Tcp, LONG).await;
    assert_eq!(result, Err(format!("TCP {address}: connection refused")));
    assert_eq!(rtt, None);
}

/// Who says nothing at all, as behind a firewall, costs the timeout and no more.
#[tokio::test]
async fn who_says_nothing_is_given_up_in_time() {
    let (socket, address) = closed();
    let _listener = socket.listen(1).unwrap();
    // Until its queue is full, and further connections get no answer.
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
        assert!(queue.len() < 100);
    }
    let (rtt, result) = found(address, Kind::Tcp, SECOND).await;
    assert_eq!(result, Err(format!("TCP {address}: no connection within 1s")));
    assert_eq!(rtt, None);
}

/// A machine that stands still sees its own timeout, and blames nobody.
#[tokio::test]
async fn who_is_not_looked_after_is_not_judged() {
    let path = "/".parse().unwrap();
    let kind = Kind::Http { tls: false, path, host: None, status: 200..=399, body: None };
    let timeout = Duration::from_millis(100);
    let target = Target { address: silent().await, probe: Arc::new(Probe { timeout, ..probe(kind) }) };
    let attempt = tokio::spawn(async move { Attempts::new().attempt(&target).await });
    tokio::task::yield_now().await;
    // The only thread of this runtime.
    std::thread::sleep(timeout * 3);
    let outcome = attempt.await.unwrap();
    assert!(matches!(&outcome.result, Err(Trouble::Ours(text)) if text.contains("too busy")), "{outcome:?}");
    assert_eq!(outcome.rtt, None);
}

/// A real server that comes and goes, as the reader of changes sees it.
#[tokio::test]
async fn a_server_that_goes_falls_and_one_that_comes_back_rises() {
    let (prober, mut changes) = Prober::start(&Handle::current(), plenty(), 1);
    let (socket, address) = closed();
    let quick = Probe { interval: Duration::from_millis(20), timeout: LONG, ..probe(Kind::Tcp) };
    let target = Target { address, probe: Arc::new(quick) };
    prober.set([target.clone()]);
    let fallen = timeout(LONG, changes.next()).await.unwrap().unwrap();
    assert!(!fallen[0].1.healthy && fallen[0].0 == target, "{fallen:?}");
    assert_eq!(fallen[0].1.error.as_deref(), Some(&*format!("TCP {address}: connection refused")));
    let listener = socket.listen(64).unwrap();
    let accept = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let risen = async {
        loop {
            let told = changes.next().await.unwrap();
            if told[0].1.healthy {
                break told[0].1.clone();
            }
        }
    };
    let risen = timeout(LONG, risen).await.unwrap();
    assert!(risen.rtt.is_some() && risen.successes >= 2, "{risen:?}");
    accept.abort();
}

/// A probe of what is no target any more ends, and its server sees that.
#[tokio::test]
async fn connections_end_with_the_target() {
    let (sender, mut ends) = tokio::sync::mpsc::channel(100);
    let address = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(false).await.unwrap();
            let mut request = [0; 1024];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
            let _ = sender.send(true).await;
        }
    })
    .await;
    let (prober, _changes) = Prober::start(&Handle::current(), plenty(), 1);
    let kind =
        Kind::Http { tls: false, path: "/".parse().unwrap(), host: None, status: 200..=399, body: None };
    let slow =
        Probe { interval: Duration::from_millis(20), timeout: Duration::from_secs(3600), ..probe(kind) };
    prober.set([Target { address, probe: Arc::new(slow) }]);
    assert_eq!(timeout(LONG, ends.recv()).await.unwrap(), Some(false));
    prober.set([]);
    assert_eq!(timeout(LONG, ends.recv()).await.unwrap(), Some(true));
}
