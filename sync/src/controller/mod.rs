//! The MCS controller: what the own cluster is to hold of the clusterset, written by whoever leads.

mod election;
mod words;
