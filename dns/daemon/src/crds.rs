//! `portolan crds`: the definitions of our own resources.

use std::fmt::Write;

use portolan_program::Outcome;
use portolan_sync::kubernetes::resources;

/// One YAML document each, as `kubectl apply -f -` takes them.
pub(crate) fn run() -> anyhow::Result<Outcome> {
    let mut text = String::new();
    for (_, yaml) in resources::crds() {
        writeln!(text, "---\n{}", yaml.trim_end())?;
    }
    Ok(Outcome::good(text))
}
