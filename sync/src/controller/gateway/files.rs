//! What of a plan has its place in the ConfigMap of the configurations.

use super::keeper::Served;
use crate::gateway::ports::PortKey;
use crate::gateway::{Listener, Plan, Program, RenderError, Style, render};

/// The API server takes ConfigMaps of a mebibyte.
const MOST_OCTETS: usize = 900_000;
/// As many lines of the configurations may tell of what they lack.
const MOST_REASONS: usize = 100;

/// What a listener is known by.
pub(super) fn serves(listener: &Listener) -> (PortKey, u16) {
    (listener.key.clone(), listener.port)
}

/// Both configurations. Reasons why something is left out are bounded there; the status has them all.
pub(super) fn texts(plan: &Plan, style: &Style) -> Result<[String; 2], RenderError> {
    let refused = plan.refused.iter().take(MOST_REASONS).cloned().collect();
    let plan = Plan { listeners: plan.listeners.clone(), refused };
    Ok([render(Program::Haproxy, &plan, style)?, render(Program::Nginx, &plan, style)?])
}

/// Takes out of the plan what is too much for a ConfigMap, those who are served already last. Returns a line for each.
pub(super) fn fit<E>(
    plan: &mut Plan,
    served: &Served,
    texts: impl Fn(&Plan) -> Result<[String; 2], E>,
) -> Vec<String> {
    let listeners = std::mem::take(&mut plan.listeners).into_iter();
    let (mut order, new): (Vec<_>, Vec<_>) =
        listeners.partition(|listener| served.contains(&serves(listener)));
    order.extend(new);
    let with = |count: usize| {
        let mut listeners = order[..count].to_vec();
        listeners.sort_by_key(|listener| (listener.port, listener.key.protocol));
        Plan { listeners, refused: plan.refused.clone() }
    };
    // What can't be rendered is no matter of size.
    let fits = |count: usize| !texts(&with(count)).is_ok_and(|[a, b]| a.len() + b.len() > MOST_OCTETS);
    let mut count = order.len();
    if !fits(count) {
        // `most` fit, `count` don't.
        let mut most = 0;
        while count - most > 1 {
            let middle = most.midpoint(count);
            *(if fits(middle) { &mut most } else { &mut count }) = middle;
        }
        count = most;
    }
    plan.listeners = with(count).listeners;
    let refused = order[count..].iter().map(|listener| {
        format!(
            "{}: the gateway's configuration would not fit into a ConfigMap: give services gateways of their own, or narrow \
             the range of ports",
            listener.key
        )
    });
    refused.collect()
}
