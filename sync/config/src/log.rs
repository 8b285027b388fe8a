//! Log lines to standard error, for people or for programs.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{Directive, LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::scalar::Scalar;
use crate::section::Section;

/// How log lines look and which there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// A level, or directives such as `info,portolan_dns=debug`.
    pub level: String,
}

/// A log line's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line.
    Human,
    /// One JSON object a line.
    Json,
}

/// Changes the level of a running log.
#[derive(Debug)]
pub struct LogLevel(Handle<EnvFilter, Registry>);

/// Why there is no log, or not the one that is wanted.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has one already.
    #[error("the log can't be started")]
    Start(#[source] TryInitError),
    /// The log has ended.
    #[error("the log level can't be changed")]
    Change(#[source] reload::Error),
    /// No directives. What a file says was checked when it was read.
    #[error("`{0}` is no log level")]
    Level(String, #[source] ParseError),
}

impl Log {
    /// Starts the log. Once per run.
    pub fn start(&self) -> Result<LogLevel, LogError> {
        let (filter, level) = reload::Layer::new(self.filter()?);
        let registry = tracing_subscriber::registry().with(filter);
        let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
        match self.format {
            LogFormat::Human => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        }
        .map_err(LogError::Start)?;
        Ok(LogLevel(level))
    }

    /// Takes its section from the root.
    pub fn read(root: &mut Section<'_>) -> Self {
        root.section("log", |section| {
            let default = Self::default();
            let level = section.get("level", default.level);
            if !level.split(',').all(is_directive) {
                section.problem("level", format!("`{level}` is not error, warn, info, debug, trace or off, nor a list such as `info,portolan_dns=debug`"));
            }
            Self { format: section.get("format", default.format), level }
        })
    }

    fn filter(&self) -> Result<EnvFilter, LogError> {
        EnvFilter::try_new(format!("{QUIET},{}", self.level))
            .map_err(|error| LogError::Level(self.level.clone(), error))
    }
}

impl LogLevel {
    /// Takes over the level; the format stays.
    pub fn set(&self, log: &Log) -> Result<(), LogError> {
        self.0.reload(log.filter()?).map_err(LogError::Change)
    }
}

/// hickory-server logs every reply, and every connection that a client ends; kube every failed request, which we tell
/// once and with what to do. Silent unless they are asked for by name.
const QUIET: &str = "hickory_server=off,hickory_net=off,kube_client=off,kube_runtime=off";

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}

/// A level, or `target=level`. Stricter than the filter, which takes a misspelt level for a target.
fn is_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    !level.is_empty() && level.parse::<LevelFilter>().is_ok() && text.parse::<Directive>().is_ok()
}

impl Scalar for LogFormat {
    const EXPECTED: &'static str = "`human` or `json`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}
