//! Every bound: rates, access, connections, sizes; and messages that no client sends.

mod access;
mod connections;
mod messages;
mod sizes;
