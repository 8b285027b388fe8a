//! The socket hook: connections to virtual IPs go where DNS would send them.
//!
//! ```text
//!  zones::Snapshot
//!    ▼
//!  follow       which services are to be written anew                      pure
//!    ▼
//!  wanted       what the kernel should know of a service: the choice that DNS answers by, for this node's place   pure
//!    ▼
//!  reconcile    numbers, ranges, order of writes; `encode`, `space`         pure: writes to `tables`
//!    ▼
//!  kernel       maps: arrays as memory, hash maps by system calls           bpf/portolan.bpf.c reads them
//!    ├─ hooks      programs on a cgroup, replaced without a gap
//!    ├─ pins       what stays when no agent runs
//!    ├─ connected  which UDP sockets were redirected, as the programs note them
//!    └─ sockets    those whose backend is gone are closed
//! ```
//!
//! # Choices
//!
//! - Arrays are written through memory (BPF_F_MMAPABLE), without system calls, and a service's spread is replaced by one word.
//!   What programs may be reading is never changed: see `reconcile`. A map of maps would say the same with a wait of milliseconds
//!   for each service; here one wait frees what a whole snapshot replaced.
//! - Every agent makes tables of its own, fills them and swaps the programs. Taking over, an upgrade, other sizes and another
//!   layout are one path, which each start goes; nothing that another process wrote is trusted. Only what established
//!   connections need is kept, under a version.
//! - Shares are alias tables at both steps, so a choice costs the same whatever the weights and however many services there are.
//! - Affinity and flows are the kernel's own (LRU maps): an agent that is gone is not missed by them.
//!
//! The DNS server needs none of this, nor clang, which compiles the programs.

pub mod abi;
pub mod connected;
mod encode;
mod error;
pub mod follow;
pub mod hooks;
pub mod kernel;
pub mod pins;
pub mod reconcile;
mod redirection;
pub mod sockets;
mod space;
mod sys;
pub mod tables;
pub mod wanted;

pub use redirection::{Extras, Redirection, StartError};
