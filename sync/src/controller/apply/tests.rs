use serde_json::json;
use tokio::net::TcpListener;

use super::*;

fn target(what: What) -> Target {
    Target { what, namespace: "shop".to_owned(), name: "web".to_owned() }
}

/// What an API server says of definitions that are older than we are.
#[test]
fn only_what_clients_can_do_without_is_left_out() {
    let says = |kind: &str, field: &str| {
        format!(
            "failed to create typed patch object (shop/web; multicluster.x-k8s.io/v1beta1, Kind={kind}): {field}: \
             field not declared in schema"
        )
    };
    for (what, kind, field, expected) in [
        (What::Import, "ServiceImport", ".spec.ipFamilies", Some("spec.ipFamilies")),
        (What::Import, "ServiceImport", ".spec.trafficDistribution", Some("spec.trafficDistribution")),
        (What::Import, "ServiceImport", ".spec.ips", None),
        (What::Import, "ServiceImport", ".spec.ports[name=\"\"].appProtocol", None),
        (What::ImportStatus, "ServiceImport", ".status.conditions", Some("status.conditions")),
        (What::ImportStatus, "ServiceImport", ".status.clusters", None),
        (
            What::ExportStatus,
            "ServiceExport",
            ".status.conditions[type=\"Valid\"].observedGeneration",
            Some("status.conditions.observedGeneration"),
        ),
        (What::ExportStatus, "ServiceExport", ".status.conditions", None),
        (What::Service, "Service", ".spec.ipFamilies", None),
    ] {
        assert_eq!(undeclared(what, &says(kind, field)), expected, "{kind} {field}");
    }
    assert_eq!(undeclared(What::Import, "spec.ipFamilies: Invalid value"), None);
}

/// An EndpointSlice that has our name and lost our label is somebody else's: it is refused every time.
#[test]
fn what_is_too_late_every_time_is_told() {
    let late =
        WriteError::Late { target: target(What::Slice), message: "conflict with \"kubectl\"".to_owned() };
    let told: Vec<_> = (0..5).map(|times| late.told(times).is_some()).collect();
    assert_eq!(told, [false, false, false, true, true]);
    assert!(late.told(3).unwrap().starts_with("EndpointSlice shop/web has changed meanwhile"));
    let refused = WriteError::Refused { target: target(What::Slice), code: 422, message: String::new() };
    assert!(refused.told(0).is_some());
}

/// Leader election: whoever leads next may write from then on. A request that is not answered by then is given up, and
/// tells nothing of the API server.
#[tokio::test]
async fn a_request_ends_with_the_leadership() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let client = Client::try_from(kube::Config::new(uri)).unwrap();
    let connection = Connection { client, mcs: "v1beta1" };
    let writer = Writer::new(Access::InCluster);
    let verb = Verb::Apply { body: json!({ "metadata": { "namespace": "shop", "name": "web" } }) };
    let action = Action { target: target(What::Slice), verb };
    let (begin, left) = (Instant::now(), Duration::from_millis(200));
    let done = writer.carry_out(&connection, &action, begin + left).await;
    assert_eq!(done, Err(WriteError::Over { target: target(What::Slice) }));
    assert!(begin.elapsed() >= left && begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    assert_eq!(writer.counts().1, 0, "nobody refused anything");
}
