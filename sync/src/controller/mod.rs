//! The MCS controller: what the own cluster is to hold of the clusterset, written by whoever leads.

mod apply;
mod bodies;
mod conditions;
mod derived;
mod desired;
mod election;
mod facts;
pub(crate) mod freshness;
mod imports;
mod observed;
mod peer_status;
mod plan;
mod queue;
mod reconcile;
mod slices;
mod sweep;
mod words;

#[cfg(test)]
mod tests;
