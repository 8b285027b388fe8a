//! Log lines to standard error, for people or for programs.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::config::{Log, LogFormat};

/// Changes the level of a running log.
pub(crate) struct LogLevel(Handle<EnvFilter, Registry>);

/// Starts the log. Once per run.
pub(crate) fn start(log: &Log) -> anyhow::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    match log.format {
        LogFormat::Human => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .context("the log can't be started")?;
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Takes over the level; the format stays.
    pub(crate) fn set(&self, log: &Log) -> anyhow::Result<()> {
        self.0.reload(filter(log)?).context("the log level can't be changed")
    }
}

/// hickory-server logs every reply, and every connection that a client ends; kube every failed request, which we tell
/// once and with what to do. Silent unless they are asked for by name.
const QUIET: &str = "hickory_server=off,hickory_net=off,kube_client=off,kube_runtime=off";

fn filter(log: &Log) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(format!("{QUIET},{}", log.level))
        .with_context(|| format!("`{}` is no log level", log.level))
}
