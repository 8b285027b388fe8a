//! What becomes of clients when backends go and come, and when shares change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use portolan_tests::harness::eventually;
use portolan_tests::harness::node::{Talk, backends, can_hook, connects};
use serde_json::Value;

use crate::site::{Site, service, slice};

pub(super) const PORTS: [&str; 2] = ["http 80/TCP", "who 53/UDP"];
pub(super) const THEIRS: [&str; 2] = ["http 8080/TCP", "who 5353/UDP"];

/// `paris` is at 10.1.0.11, `oslo` at 10.1.0.12.
const SERVERS: [&str; 4] = [
    "paris/tcp/10.1.0.11/8080",
    "oslo/tcp/10.1.0.12/8080",
    "paris/udp/10.1.0.11/5353",
    "oslo/udp/10.1.0.12/5353",
];

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Clients that connect one after the other, beside the test.
struct Load(Talk);

impl Load {
    fn start(site: &Site, vip: &str) -> Self {
        let (client, inside) = site.inside();
        Self(Talk::start(client, inside, "load.py", &[vip, "80"]))
    }

    /// What became of them, once there are so many more.
    fn after(&mut self, more: u64) -> Value {
        let count = |told: &Value| told["connections"].as_u64().unwrap();
        let before = count(&self.0.say("tell"));
        eventually("clients connect", || count(&self.0.say("tell")) >= before + more);
        self.0.say("tell")
    }
}

/// After `change` no connection may begin that goes to `gone`, and none may fail, before or after.
fn moves_away(site: &Site, load: &mut Load, gone: &str, change: impl FnOnce()) {
    let told = load.after(300);
    assert!(told["names"][gone].as_u64().unwrap() > 0, "{told}");
    let begun = now();
    change();
    let in_kernel = now();
    let told = load.after(500);
    let last = told["last"][gone].as_f64().unwrap();
    assert!(last <= in_kernel, "{gone} got a connection {} s after the change: {told}", last - in_kernel);
    assert_eq!(told["errors"], serde_json::json!({}), "{told}");
    let pass = site.agent.status()["lastPassMilliseconds"].clone();
    eprintln!(
        "{gone}: its last connection began {:.1} ms after the change was written; seen in the kernel after {:.1} ms, pass {pass} ms",
        (last - begun) * 1000.0,
        (in_kernel - begun) * 1000.0
    );
}

/// design.md §5: what is not ready is not chosen, from the moment that the kernel knows; nobody else notices.
#[test]
fn a_backend_that_is_not_ready_gets_no_connection() {
    if !can_hook("a_backend_that_is_not_ready_gets_no_connection") {
        return;
    }
    let web = |oslo: &str| service("web", "", &PORTS) + &slice("web", "a", &THEIRS, &["10.1.0.11", oslo]);
    let mut site = Site::new(&web("10.1.0.12"));
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let mut load = Load::start(&site, &site.vip("web", false));
    let rewrite = |text: String| site.rewrite("clusters/paris/services.yaml", text);
    moves_away(&site, &mut load, "oslo", || rewrite(web("10.1.0.12!")));
    rewrite(web("10.1.0.12"));
    let before = load.after(1)["names"]["oslo"].as_u64().unwrap();
    let told = load.after(300);
    assert!(told["names"]["oslo"].as_u64().unwrap() > before, "it is back: {told}");
    assert_eq!(told["errors"], serde_json::json!({}));
}

/// A cluster whose endpoints all go is out for all services at once (keeper: `portolan_agent_clusters_down`), and comes back.
#[test]
fn a_cluster_that_goes_is_out_of_all_services() {
    if !can_hook("a_cluster_that_goes_is_out_of_all_services") {
        return;
    }
    const SERVICES: usize = 40;
    let all = |endpoint: &str| -> String {
        let one = |at: usize| {
            let name = format!("s{at}");
            service(&name, "", &PORTS) + &slice(&name, "a", &THEIRS, &[endpoint])
        };
        (0..SERVICES).map(one).collect()
    };
    let mut site = Site::of(&[("paris", &all("10.1.0.11")), ("oslo", &all("10.1.0.12"))], "", "");
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let [first, last] = ["s0", "s39"].map(|name| site.vip(name, false));
    let (client, inside) = site.inside();
    assert_eq!(connects(client, inside, &last, 80, 100).names.len(), 2);
    let mut load = Load::start(&site, &first);
    let rewrite = |text: String| site.rewrite("clusters/oslo/services.yaml", text);
    moves_away(&site, &mut load, "oslo", || rewrite(all("10.1.0.12!")));
    let clusters = |site: &Site| -> Vec<String> {
        let told = site.agent.services("default/");
        let ports = told.as_array().unwrap().iter();
        let backends = ports.flat_map(|port| port["backends"].as_array().unwrap().clone());
        let mut names: Vec<_> =
            backends.map(|backend| backend["cluster"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(clusters(&site), ["paris"]);
    assert_eq!(connects(client, inside, &last, 80, 100).names, [("paris".to_owned(), 100)].into());
    let metrics = site.agent.get("/metrics").1;
    assert!(metrics.contains("portolan_agent_clusters_down_total 1\n"), "{metrics}");
    rewrite(all("10.1.0.12"));
    for vip in [&first, &last] {
        let said = connects(client, inside, vip, 80, 100);
        assert_eq!((said.names.len(), said.answers()), (2, 100), "it is back: {said:?}");
    }
}

/// Of clusters `paris` and `oslo`.
pub(super) fn weights(paris: u32, oslo: u32) -> String {
    format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: split, namespace: default}}\nspec:\n  \
         targetRefs: [{{kind: ServiceExport, name: web}}]\n  \
         weights: [{{cluster: paris, weight: {paris}}}, {{cluster: oslo, weight: {oslo}}}]\n"
    )
}

pub(super) fn weighted() -> Site {
    let web = |endpoints: &[&str]| {
        service("web", "ipFamilies: [IPv4, IPv6]", &PORTS)
            + &slice("web", "v4", &THEIRS, &endpoints[..1])
            + &slice("web", "v6", &THEIRS, &endpoints[1..])
    };
    let site = Site::of(
        &[("paris", &web(&["10.1.0.11", "fd00:1::11"])), ("oslo", &web(&["10.1.0.12", "fd00:1::12"]))],
        "",
        "",
    );
    site.agent.write("clusters/paris/policy.yaml", weights(1, 1));
    site
}

/// What programs read of a service is replaced by single words (reconcile.rs): however often its shares change, no connection
/// fails.
#[test]
fn no_connection_fails_while_weights_change() {
    if !can_hook("no_connection_fails_while_weights_change") {
        return;
    }
    const CLIENTS: usize = 4;
    const EACH: u32 = 5000;
    let mut site = weighted();
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let (client, inside) = site.inside();
    let done = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| connects(client, inside, &vip, 80, EACH))).collect();
        let site = &site;
        let done = &done;
        let changer = scope.spawn(move || {
            let mut changes = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let (paris, oslo) = [(1, 9), (9, 1), (1, 0), (0, 1), (1, 1)][changes as usize % 5];
                site.rewrite("clusters/paris/policy.yaml", weights(paris, oslo));
                changes += 1;
            }
            changes
        });
        let said: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        for said in said {
            assert_eq!((said.answers(), said.errors.len(), said.strangers.len()), (EACH, 0, 0), "{said:?}");
            assert_eq!(said.names.len(), 2, "{said:?}");
        }
        changer.join().unwrap()
    });
    eprintln!("{changes} changes of weights under {} connections", CLIENTS as u32 * EACH);
    assert!(changes >= 10, "only {changes} changes");
}
