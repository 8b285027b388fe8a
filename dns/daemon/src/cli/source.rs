//! Where the state comes from, and for which cluster a process runs.

use std::path::PathBuf;

use clap::Args;

/// Where the configuration is when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/portolan/portolan.yaml";

/// Where the state comes from.
#[derive(Debug, Default, Args)]
pub(crate) struct Source {
    /// Configuration file (YAML) [default: /etc/portolan/portolan.yaml]
    #[arg(long, short, value_name = "FILE", env = "PORTOLAN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of manifests, each subfolder a cluster: in place of the configuration's clusters
    ///
    /// Changes in the subfolders are followed; a new subfolder becomes a cluster at the next reload (SIGHUP). Without --config everything else is as `check --print-defaults` prints it, except that VIPs are not remembered.
    #[arg(long, short, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Folder that a relative vips.state-file is in, as systemd's StateDirectory= gives it [default: the
    /// configuration's folder]
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", value_parser = state_folder)]
    pub state_directory: Option<PathBuf>,
}

impl Source {
    /// Whether the command line, or the environment, names any.
    pub(crate) fn is_given(&self) -> bool {
        self.config.is_some() || self.manifests.is_some()
    }
}

/// The cluster that a process runs for, in place of the configuration's `kubernetes`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Own {
    /// Run for the cluster of this Pod, by its service account; needs no configuration file
    #[arg(long, conflicts_with = "kubeconfig")]
    pub in_cluster: bool,
    /// Run for the cluster of this kubeconfig; needs no configuration file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
}

impl Own {
    /// Whether the command line names a cluster.
    pub(crate) fn is_given(&self) -> bool {
        self.in_cluster || self.kubeconfig.is_some()
    }
}

/// systemd separates several folders by colons (systemd.exec(5)); the first one is ours.
pub(super) fn state_folder(text: &str) -> Result<PathBuf, String> {
    let first = text.split(':').next().filter(|first| !first.is_empty());
    first.map(PathBuf::from).ok_or_else(|| "no folder is named".to_owned())
}
