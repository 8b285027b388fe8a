//! Health checks, of real backends that are killed, freeze, and answer otherwise than they should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use portolan_tests::harness::{Server, Setup, becomes, eventually, headless, list, namespaces};

/// Where backends listen, as their slices say.
const PORT: u16 = 80;
const WEB: &str = "web.shop.svc.clusterset.local A";

/// How a backend behaves.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Mood {
    Well,
    /// 503 to everything.
    Broken,
    /// Accepts, and says nothing.
    Frozen,
}

/// An HTTP server at an address, whose mood can be changed.
struct Backend(Arc<AtomicU8>);

impl Backend {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind((address, PORT)).unwrap();
        let mood = Arc::new(AtomicU8::new(Mood::Well as u8));
        let now = mood.clone();
        std::thread::spawn(move || {
            let mut frozen = Vec::new();
            for stream in listener.incoming().flatten() {
                match now.load(Ordering::Relaxed) {
                    frost if frost == Mood::Frozen as u8 => frozen.push(stream),
                    mood => {
                        answer(stream, if mood == Mood::Well as u8 { "200 OK" } else { "503 Unavailable" });
                    }
                }
            }
        });
        Self(mood)
    }

    fn is(&self, mood: Mood) {
        self.0.store(mood as u8, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, status: &str) {
    let _ = stream.read(&mut [0; 1024]);
    let body = "fine";
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
}

fn server(addresses: &[&str; 3], spec: &str) -> Server {
    let of = |address: &str| list(headless("web", [address.parse().unwrap()]));
    let policy = format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: checked, namespace: shop}}\n\
         spec:\n  targetRefs: [{{kind: ServiceExport, name: web}}]\n{spec}"
    );
    let setup =
        Setup::new("clusters: [{manifests: clusters/a}, {manifests: clusters/b}, {manifests: clusters/c}]");
    // Whoever exports has its own endpoints asked as it wishes.
    let setup = ["a", "b", "c"]
        .into_iter()
        .fold(setup, |setup, cluster| setup.file(&format!("clusters/{cluster}/policy.yaml"), &policy));
    setup
        .file("clusters/a/web.yaml", of(addresses[0]))
        .file("clusters/b/web.yaml", of(addresses[1]))
        .file("clusters/c/web.yaml", of(addresses[2]))
        .start()
}

fn answered(server: &Server, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    becomes("the answer", &expected, || server.dig(WEB).data());
}

/// design.md §5: what fails is left out once it failed `fall` times in a row, and comes back; under the panic threshold health
/// is ignored, for few endpoints for all clients is worse; when all are down all are answered.
#[test]
fn what_is_not_healthy_is_not_answered() {
    let addresses = ["10.98.1.1", "10.98.2.1", "10.98.3.1"];
    if !namespaces::in_network_with("policies::health::what_is_not_healthy_is_not_answered", &addresses) {
        return;
    }
    let [a, b, c] = addresses.map(Backend::start);
    let server = server(
        &addresses,
        "  panicThreshold: 30\n  healthCheck: {type: HTTP, path: /health, expectedStatuses: '200', body: fine, \
         interval: 1s, timeout: 1s, rise: 2, fall: 2}\n",
    );
    answered(&server, &addresses);
    eventually("three are asked", || server.status()["probes"]["targets"] == 3);
    b.is(Mood::Broken);
    answered(&server, &[addresses[0], addresses[2]]);
    let probes = server.status()["probes"].clone();
    assert_eq!(probes["unhealthy"], 1, "{probes}");
    assert!(probes["listed"][0]["error"].as_str().unwrap().contains("503"), "{probes}");
    assert_eq!(server.metric("portolan_probe_unhealthy_targets", &[]), Some(1.0));
    let (_, why) = server.get("/explain?name=web.shop.svc.clusterset.local&from=192.0.2.1");
    assert!(why.contains("2 of 3 healthy"), "{why}");
    let told: serde_json::Value = serde_json::from_str(&why).unwrap();
    let checks = told["evidence"]["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 3, "{why}");
    for check in checks {
        let is_bad = check["address"].as_str().unwrap().starts_with(addresses[1]);
        assert_eq!(check["healthy"], !is_bad, "{why}");
        assert!(!is_bad || check["lastError"].as_str().unwrap().contains("503"), "{why}");
        assert!(check["askedSecondsAgo"].as_f64().unwrap() < 60.0, "{why}");
    }
    assert!(why.contains("b 10.98.2.1:80: not healthy for "), "{why}");
    c.is(Mood::Frozen);
    answered(&server, &[addresses[0]]);
    b.is(Mood::Well);
    answered(&server, &addresses[..2]);
    a.is(Mood::Broken);
    answered(&server, &[addresses[1]]);
    b.is(Mood::Broken);
    answered(&server, &addresses);
    // What its cluster says is not ready is never answered, whatever is known of its health.
    server.write("clusters/a/web.yaml", list(headless("web", [])));
    answered(&server, &addresses[1..]);
}

/// Nobody is asked any more when the policy is gone, and everybody counts.
#[test]
fn checks_end_with_their_policy() {
    let addresses = ["10.97.1.1", "10.97.2.1", "10.97.3.1"];
    if !namespaces::in_network_with("policies::health::checks_end_with_their_policy", &addresses) {
        return;
    }
    // At the other two nobody listens.
    let _a = Backend::start(addresses[0]);
    let server = server(
        &addresses,
        "  panicThreshold: 0\n  healthCheck: {type: TCP, interval: 1s, timeout: 1s, fall: 1}\n",
    );
    answered(&server, &addresses[..1]);
    for cluster in ["a", "b", "c"] {
        std::fs::remove_file(server.path(&format!("clusters/{cluster}/policy.yaml"))).unwrap();
    }
    answered(&server, &addresses);
    eventually("nobody is asked", || server.status()["probes"]["targets"] == 0);
}
