//! The README's chapter "In Kubernetes", followed word for word by somebody who has two clusters.

use std::path::Path;
use std::process::Command;

use portolan_tests::harness::kubernetes::{
    ADMIN_USER, CONTROLLER, Cluster, Options, SERVER, binary, namespace, ours, service,
};
use portolan_tests::harness::{eventually, portolan, repository, run, until};
use serde_json::{Value, json};

/// The commands of the chapter, in order.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, chapter) = text.split_once("\n## In Kubernetes\n").expect("the chapter");
    let chapter = chapter.split("\n## ").next().unwrap();
    chapter.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// One who types them: contexts of the clusters' names, kubectl and portolan at hand.
struct Person<'a> {
    kubeconfig: &'a Path,
    path: String,
}

impl Person<'_> {
    fn types(&self, line: &str) -> (bool, String) {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]).current_dir(repository());
        run(shell.env("KUBECONFIG", self.kubeconfig).env("PATH", &self.path))
    }

    fn does(&self, line: &str) -> String {
        let (good, text) = self.types(line);
        assert!(good, "$ {line}\n{text}");
        text
    }

    /// Looks again until it is there.
    fn sees(&self, line: &str, expected: &str) {
        eventually(&format!("`{line}` shows {expected}"), || self.types(line).1.contains(expected));
    }
}

/// The admin's kubeconfigs as one, with a context for each cluster.
fn kubeconfig(clusters: &[(&str, &Cluster)]) -> Value {
    let mut all =
        json!({ "apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": [] });
    for (name, cluster) in clusters {
        let one = std::fs::read_to_string(cluster.kubeconfig(ADMIN_USER)).unwrap();
        let one: Value = serde_json::from_str(&one).unwrap();
        let context = json!({ "name": name, "context": { "cluster": name, "user": name } });
        for (list, what, value) in [
            ("contexts", "context", &context["context"]),
            ("clusters", "cluster", &one["clusters"][0]["cluster"]),
            ("users", "user", &one["users"][0]["user"]),
        ] {
            all[list].as_array_mut().unwrap().push(json!({ "name": name, what: value }));
        }
    }
    all
}

/// Every command does what the text around it says.
#[test]
fn the_chapter_can_be_followed() {
    let lines = commands();
    let [apply, join, peers, export, imports, slices, conditions] = &lines[..] else {
        panic!("a command came or went: {lines:#?}")
    };
    let options = || Options { id: None, ..Options::new("") };
    let clusters = Cluster::start_all(vec![options(), options()]);
    let (paris, tokyo) = (&clusters[0], &clusters[1]);
    let file = paris.path("both.kubeconfig");
    std::fs::write(&file, kubeconfig(&[("paris", paris), ("tokyo", tokyo)]).to_string()).unwrap();
    let folder = |file: &Path| file.parent().unwrap().display().to_string();
    let path = [folder(&binary("kubectl")), folder(portolan()), std::env::var("PATH").unwrap()];
    let person = Person { kubeconfig: &file, path: path.join(":") };

    person.does(apply);
    person.does(join);
    // What the Deployments' Pods would run: there is nobody here to run Pods.
    let running: Vec<_> = clusters
        .iter()
        .map(|cluster| {
            let controller = ours(cluster, CONTROLLER, cluster.at(), "").for_command("controller").start();
            (controller, ours(cluster, SERVER, cluster.at(), "").start())
        })
        .collect();
    person.sees(peers, "True");
    assert!(person.does(peers).contains("tokyo"));

    for cluster in &clusters {
        cluster.put(&namespace("shop"));
    }
    let (good, text) = person.types(export);
    assert!(!good && text.contains("service shop/cart does not exist"), "{text}");
    tokyo.namespace("shop");
    tokyo.put(&service("shop", "cart"));
    tokyo.run_pod("shop", "cart", "cart-1", &["10.2.0.1"]);
    person.does(export);
    person.sees(imports, "ClusterSetIP");
    person.sees(slices, "10.2.0.1");
    person.sees(conditions, "NoConflicts");
    let import = paris.get("ServiceImport", "shop", "cart").unwrap();
    let address = import["spec"]["ips"][0].as_str().unwrap().to_owned();
    let answered =
        || Some(running[0].1.dig("cart.shop.svc.clusterset.local A").data()).filter(|d| !d.is_empty());
    assert_eq!(until("paris answers", answered).0, [address]);
}
