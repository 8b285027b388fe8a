//! `portolan export` and `portolan unexport`: one ServiceExport, created or deleted.

use portolan_program::Outcome;
use portolan_sync::kubernetes::exports::{self, Exported, Target};

use crate::cli;

/// Creates the ServiceExport, or has it export other labels.
pub(crate) fn export(asked: &cli::Export) -> anyhow::Result<Outcome> {
    let labels = asked.labels.iter().cloned().collect();
    let exported = block_on(exports::export(&target(&asked.target), service(&asked.target), &labels))?;
    let name = name(&asked.target);
    Ok(Outcome::good(match exported {
        Exported::Created => format!("{name} is exported\n"),
        Exported::Changed => format!("{name} was exported already; the labels of its imports are changed\n"),
        Exported::Unchanged => format!("{name} was exported already\n"),
    }))
}

/// Deletes the ServiceExport.
pub(crate) fn unexport(asked: &cli::Unexport) -> anyhow::Result<Outcome> {
    block_on(exports::unexport(&target(&asked.target), service(&asked.target)))?;
    Ok(Outcome::good(format!("{} is no longer exported from this cluster\n", name(&asked.target))))
}

/// One request after the other needs one thread.
fn block_on<T, E: std::error::Error + Send + Sync + 'static>(
    done: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(done)?)
}

fn target(asked: &cli::Target) -> Target {
    Target { kubeconfig: asked.kubeconfig.clone(), context: asked.context.clone() }
}

fn service(asked: &cli::Target) -> (&str, &str) {
    (&asked.service.0, &asked.service.1)
}

fn name(asked: &cli::Target) -> String {
    let (namespace, name) = &asked.service;
    format!("{namespace}/{name}")
}
