//! Programs that run until they are told to end, and how they are.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Format;
use super::source::{Own, Source, state_folder};

/// `portolan serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub own: Own,
    /// Serve UDP and TCP here, in place of the configuration's addresses; may be repeated
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Write the bound addresses here as JSON once every cluster was tried once
    ///
    /// Whether all of them could be read, /ready says. For tests and scripts that listen on port 0.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// `portolan controller`
#[derive(Debug, Args)]
pub(crate) struct Controller {
    /// Configuration file (YAML) [default: /etc/portolan/portolan.yaml]
    #[arg(long, short, value_name = "FILE", env = "PORTOLAN_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub own: Own,
    /// Folder that a relative vips.state-file is in [default: the configuration's folder]
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", value_parser = state_folder)]
    pub state_directory: Option<PathBuf>,
    /// Write the bound admin address here as JSON once this cluster was read
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

impl Controller {
    /// The same as a source of state, without manifests.
    pub(crate) fn source(&self) -> Source {
        Source { config: self.config.clone(), manifests: None, state_directory: self.state_directory.clone() }
    }
}

/// `portolan status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Admin address of the process: ADDRESS:PORT or http://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9153", value_parser = admin_address)]
    pub admin: String,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// HOST:PORT, with or without the scheme in front and a path behind.
pub(super) fn admin_address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.split('/').next().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').ok_or("expected ADDRESS:PORT or http://HOST:PORT")?;
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() => Ok(address.to_owned()),
        _ => Err("expected ADDRESS:PORT or http://HOST:PORT".to_owned()),
    }
}

pub(super) const SERVE_EXAMPLES: &str = "\
Examples:
  portolan serve
  portolan serve --in-cluster
  portolan serve --kubeconfig ~/.kube/config --context fra1 --listen 127.0.0.1:5300
  portolan serve --manifests clusters/ --listen 127.0.0.1:5300
  curl http://127.0.0.1:9153/status";

pub(super) const CONTROLLER_EXAMPLES: &str = "\
Examples:
  portolan controller --in-cluster
  portolan controller --kubeconfig ~/.kube/config --context fra1
  portolan controller --config portolan.yaml   # with `kubernetes`, and peers as `clusters`
  curl http://127.0.0.1:9153/status";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  portolan status
  portolan status --admin 10.1.2.3:9153 --format json
  kubectl exec -n portolan-system deploy/portolan-controller -- portolan status";
