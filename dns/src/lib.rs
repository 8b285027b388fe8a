//! Snapshot to wire.
