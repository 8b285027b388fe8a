//! What is said of a wrong file.

use super::*;

/// `line: field: message` of each problem of `text` under `version: v1`, which is line 1.
pub(super) fn problems(text: &str) -> Vec<String> {
    let read = crate::parse(&format!("version: v1\n{text}"), Path::new(FILE), None, all);
    let problems = read.expect_err(text);
    problems.into_iter().map(|p| format!("{}: {}: {}", p.line, p.field, p.message)).collect()
}

#[test]
fn wrong_values_are_named_with_line_and_field() {
    for (text, expected) in [
        ("home: a\nhome: b", "3: home: `home` is written twice, first on line 2: remove one"),
        (
            "clusters:\n  - name: a",
            "3: clusters[0].manifests: neither `manifests` nor `kubeconfig` is given: one is needed",
        ),
        (
            "clusters: [{manifests: a, kubeconfig: b}]",
            "2: clusters[0].kubeconfig: `manifests` is given, too: remove one of them",
        ),
        (
            "clusters:\n  - manifests: a\n    context: b",
            "4: clusters[0].context: `context` is for clusters with a `kubeconfig`: remove it",
        ),
        (
            "clusters:\n  - {kubeconfig: a, context: x}\n  - {kubeconfig: b, context: x}",
            "4: clusters[1]: `x` is listed twice: remove one",
        ),
        (
            "clusters: [{kubeconfig: a, namespaces: []}]",
            "2: clusters[0].namespaces: no export would count: leave `namespaces` out to accept all",
        ),
        (
            "clusters: [{kubeconfig: a, namespaces: [a.b]}]",
            "2: clusters[0].namespaces[0]: `a.b` is no namespace: `a.b` is no DNS label: lower-case letters, digits \
             and `-` only, starting and ending with a letter or digit (RFC 1123)",
        ),
        (
            "clusters: [{kubeconfig: a, stale-after: 1m, withdraw-after: 30s}]",
            "2: clusters[0].withdraw-after: must not be shorter than `stale-after`",
        ),
        (
            "clusters: [{kubeconfig: a, stale-after: 0s}]",
            "2: clusters[0].stale-after: must be at least 1s: the cluster is asked every few seconds",
        ),
        (
            "kubernetes: {context: a}",
            "2: kubernetes.context: a context is one of a `kubeconfig`, and none is given",
        ),
        ("vips: {answer-to: Nobody}", "2: vips.answer-to: `Nobody` is not `Everybody` or `Agents`"),
        ("controller: {vips: pool}", "2: controller.vips: `pool` is not `Service` or `Pool`"),
        (
            "controller: {lease: {duration: 10s}}",
            "2: controller.lease.duration: must be longer than `renew`, or two could lead at once",
        ),
        (
            "controller: {gateway: {ports: 29999-20000}}",
            "2: controller.gateway.ports: `29999-20000` is not a range of ports such as `20000-29999`",
        ),
        (
            "controller: {lease: {retry: 9s}}",
            "2: controller.lease.renew: must be longer than twice `retry`, which must not be 0",
        ),
        (
            "clusters:\n  - {name: a, manifests: x}\n  - {name: a, manifests: y}",
            "4: clusters[1]: `a` is listed twice: remove one",
        ),
        ("clusters: fra1", "2: clusters: expected a list: lines that begin with `-`"),
        ("zones: []", "2: zones: there must be a zone: leave `zones` out for clusterset.local"),
        ("zones: [{origin: .}]", "2: zones[0].origin: the root can't be served"),
        (
            "zones: [{origin: a, ttl: 3000000000}]",
            "2: zones[0].ttl: 3000000000 seconds are more than 2147483647 (RFC 2181 §8)",
        ),
        (
            "reverse-zones:\n- 10.0.0.0/12",
            "3: reverse-zones[0]: `10.0.0.0/12` is not on an octet boundary: use /8, /16, /24 or /32",
        ),
        ("max-endpoints: 0", "2: max-endpoints: must be at least 1"),
        ("max-endpoints: many", "2: max-endpoints: `many` is not a whole number"),
        ("max-endpoints: [1]", "2: max-endpoints: expected a whole number, not a list"),
        (
            "vips: {pool: {ipv4: 242.1.0.0/16}}",
            "2: vips.pool: pool 242.1.0.0/16 overlaps 242.0.0.0/8 (Submariner Globalnet): choose another range",
        ),
        (
            "vips: {pool: {ipv4: fd00::/64}}",
            "2: vips.pool.ipv4: `fd00::/64` is not an IPv4 network such as `241.0.0.0/8`",
        ),
        (
            "view: {networks: [{region: a}]}",
            "2: view.networks[0].network: `network` is missing: it has no default",
        ),
        (
            "view: {networks: [{network: 10.0.0.0/8}]}",
            "2: view.networks[0].region: none of `region`, `zone` and `cluster` is given: where is it?",
        ),
        (
            "view:\n  networks:\n  - {network: 10.0.0.0/8, zone: a}\n  - {network: 10.0.0.0/8, zone: b}",
            "5: view.networks[1]: `10.0.0.0/8` is listed twice: remove one",
        ),
        (
            "view: {networks: [{network: 10.0.0.0/8, regon: a, zone: b}]}",
            "2: view.networks[0].regon: unknown key `regon`, did you mean `region`?",
        ),
        (
            "policies: [{service: cart, spec: {}}]",
            "2: policies[0].service: `cart` is not a service's namespace and name, such as `shop/cart`",
        ),
        (
            "policies: [{service: a/b, namespace: a, spec: {}}]",
            "2: policies[0].namespace: `service` is given, too: remove one of them",
        ),
        ("policies: [{namespace: a}]", "2: policies[0].spec: `spec` is missing: it says what the policy is"),
        (
            "policies: [{zone: example.com, spec: {}}]",
            "2: policies[0].zone: `example.com.` is not the origin of one of `zones`",
        ),
        (
            "policies:\n- spec:\n    weights:\n    - {cluster: a, weight: 1}\n    - {cluster: b, weight: -1}",
            "6: policies[0].spec.weights[1].weight: -1 is not a number from 0 to 1000000",
        ),
        (
            "policies:\n- spec:\n    failover: [a, b, a]",
            "4: policies[0].spec.failover[2]: `a` is listed twice",
        ),
        (
            "policies:\n- spec:\n    answer: VIP\n    localty: {}",
            "5: policies[0].spec.localty: unknown key `localty`, did you mean `locality`?",
        ),
        (
            "policies:\n- spec:\n    healthCheck:\n      type: HTTP\n      interval: 0s",
            "6: policies[0].spec.healthCheck.interval: `0s` is not a time such as 10s or 1m, from a second to a day",
        ),
        (
            "policies:\n- spec:\n    sticky: true\n    scope: ClusterSet",
            "5: policies[0].spec.scope: is for TrafficPolicy objects: say `service` or `namespace` beside `spec`, or \
             neither for all",
        ),
        (
            "zones: [{origin: a.example}]\npolicies: [{zone: a.example, spec: {slowStart: 9s}}, {spec: {slowStart: 9s}}]",
            "3: policies[0].spec.slowStart: endpoints are judged alike in all zones: say it in a policy without `zone`",
        ),
        (
            "policies: [{spec: {targetRefs: [{kind: ServiceExport, name: a}]}}]",
            "2: policies[0].spec.targetRefs: is for TrafficPolicy objects: say `service` or `namespace` beside `spec`, \
             or neither for all",
        ),
        (
            "policies:\n- {namespace: a, spec: {}}\n- {service: a/b, spec: {}}\n- {namespace: a, spec: {}}",
            "5: policies[2]: is about the same as policies[0]: remove one",
        ),
        ("states: [{state: up}]", "2: states[0].cluster: `cluster` is missing: it has no default"),
        (
            "states:\n- {cluster: a,\n   state: off}",
            "4: states[0].state: `off` is not `up`, `drain` or `down`",
        ),
        (
            "clusters: [{manifests: a, labels: [b]}]",
            "2: clusters[0].labels: expected a section of `key: value` lines",
        ),
        (
            "clusters: [{manifests: a, labels: {b: c d}}]",
            "2: clusters[0].labels.b: `c d` is no label's value: at most 63 letters, digits, `-`, `_` and `.`, of which \
             a letter or digit comes first and last",
        ),
        ("kubernetes: {labels: {a/: b}}", "2: kubernetes.labels.a/: `a/` is no label's key"),
        (
            "kubernetes:\n  labels:\n    example.com/tier: a\n    example.com/-: b",
            "5: kubernetes.labels.example.com/-: `example.com/-` is no label's key",
        ),
        (
            "clusters:\n- manifests: a\n  labels:\n    example: a\n    example.com/tier: c d",
            "6: clusters[0].labels.example.com/tier: `c d` is no label's value: at most 63 letters, digits, `-`, `_` and \
             `.`, of which a letter or digit comes first and last",
        ),
        ("log: {format: xml}", "2: log.format: `xml` is not `human` or `json`"),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(problems("log: {level: inof}")[0].starts_with("2: log.level: `inof` is not error, warn"));
}

/// What is answered in a zone with policies of its own is compiled for it alone.
#[test]
fn a_few_zones_have_policies_of_their_own() {
    let text = |zones: usize| {
        let origins: String = (0..10).map(|at| format!("- origin: z{at}\n")).collect();
        let policy =
            |at| format!("- {{zone: z{at}, spec: {{}}}}\n- {{zone: z{at}, namespace: a, spec: {{}}}}\n");
        format!("zones:\n{origins}policies:\n{}", (0..zones).map(policy).collect::<String>())
    };
    assert_eq!(parse(&format!("version: v1\n{}", text(8))).map(|config| config.policies.len()), Ok(16));
    let one_more = "policies[16]: at most 8 zones have policies of their own, and this is one more";
    assert_eq!(problems(&text(9)), [format!("30: {one_more}")]);
    assert_eq!(problems(&text(10)), [format!("30: {one_more}")]);
}

#[test]
fn problems_print_as_compilers_print_them() {
    let problem = parse("version: v2").unwrap_err().remove(0);
    assert_eq!(
        problem.to_string(),
        "/etc/portolan/portolan.yaml:1: version: this release reads `version: v1`"
    );
    let missing =
        load(Path::new("/nonexistent/portolan.yaml"), None, Clusterset::read).unwrap_err().remove(0);
    assert!(missing.to_string().starts_with("/nonexistent/portolan.yaml: cannot be read: "), "{missing}");
    assert_eq!(parse("version: [").unwrap_err().len(), 1);
}
