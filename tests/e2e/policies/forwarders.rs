//! What is told of forwarders that may say where clients are, and of what they make of it.

use std::time::Duration;

use portolan_tests::harness::{DNS, ask_udp, eventually, query};

use super::{CART, NEAR, asked_from, with_policy};

const MISSING: &str = "portolan_dns_ecs_missing_forwarders";

/// Who is trusted to say where clients are and never does is told of in log and metrics, once.
#[test]
fn a_forwarder_that_never_says_where_clients_are_is_told_of() {
    let server = with_policy(NEAR).start();
    assert_eq!(server.metric(MISSING, &[]), Some(0.0));
    assert_eq!(server.metric("portolan_dns_ecs_ignored_forwarders", &[]), Some(0.0));
    let question = query(CART, 1);
    let ask = || assert!(ask_udp(server.at(DNS), &question, Duration::from_secs(5)).is_some());
    (0..40).for_each(|_| ask());
    let told = || server.log().matches("never says it").count();
    eventually("it is told", || told() == 1);
    assert_eq!(server.metric(MISSING, &[]), Some(1.0));
    assert!(server.log().contains("127.0.0.1"), "{}", server.log());

    // Of one that says it now and then nothing is told.
    let server = with_policy(NEAR).start();
    asked_from(&server, "10.1.0.7/32");
    for _ in 0..40 {
        assert!(ask_udp(server.at(DNS), &question, Duration::from_secs(5)).is_some());
    }
    assert_eq!(server.metric(MISSING, &[]), Some(0.0));
}
