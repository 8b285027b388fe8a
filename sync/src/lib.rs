//! Sources of cluster state.
