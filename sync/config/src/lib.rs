//! The configuration file: one for all programs of Portolan, each of which takes from it what it needs.
//!
//! A file goes through three stages: text → located tree (`tree`), tree → values with every problem collected
//! ([`Section`], [`Scalar`]), and values → [`Clusterset`], [`Log`], [`Agent`] and what a program adds of its own, which know
//! nothing of YAML.
//! Units and the reason for each default stand in [`DEFAULTS`]; tests hold them equal to the `Default` of what is read.
//!
//! ```
//! use portolan_config::{Clusterset, Log, Problem};
//!
//! fn read(text: &str) -> Result<(Clusterset, Log), Vec<Problem>> {
//!     let file = "/etc/portolan/portolan.yaml".as_ref();
//!     portolan_config::parse(text, file, None, |root| (Clusterset::read(root), Log::read(root)))
//! }
//!
//! // What others read is theirs to judge; what nobody reads is refused.
//! assert!(read("version: v1\nlisten: {udp: nowhere}").is_ok());
//! let problems = read("version: v1\nhom: fra1").unwrap_err();
//! assert_eq!(problems[0].message, "unknown key `hom`, did you mean `home`?");
//! ```

mod agent;
mod clusterset;
mod document;
mod kubernetes;
mod log;
mod objects;
mod policies;
mod scalar;
mod section;
mod tree;
mod view;
mod zones;

pub use agent::{Agent, Beside, MapSizes};
pub use clusterset::{AnswerTo, Clusterset, Unservable, manifests_in};
pub use document::{Problem, ROOT, keys, load, parse};
pub use kubernetes::{Controller, Vips};
pub use log::{Log, LogError, LogFormat, LogLevel};
pub use scalar::Scalar;
pub use section::Section;
pub use view::place;

/// The whole default configuration of all programs, with comments.
pub const DEFAULTS: &str = include_str!("defaults.yaml");

#[cfg(test)]
mod tests;
