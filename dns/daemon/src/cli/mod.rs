//! The command line: what can be asked of the binary, and its help.

mod exports;
mod gateway;
mod looking;
mod running;
mod source;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use self::exports::{CRDS_EXAMPLES, EXPORT_EXAMPLES, UNEXPORT_EXAMPLES};
pub(crate) use self::exports::{Export, Target, Unexport};
use self::gateway::GATEWAY_EXAMPLES;
pub(crate) use self::gateway::{Gateway, Proxy, Transport, Upstream};
use self::looking::{CHECK_EXAMPLES, EXPLAIN_EXAMPLES, LOOKUP_EXAMPLES, ZONE_EXAMPLES};
pub(crate) use self::looking::{Check, Explain, Lookup, Zone, explained_type};
use self::running::{CONTROLLER_EXAMPLES, SERVE_EXAMPLES, STATUS_EXAMPLES};
pub(crate) use self::running::{Controller, Serve, Status};
pub(crate) use self::source::{DEFAULT_CONFIG, Own, Source};

/// DNS for services of many Kubernetes clusters.
///
/// Answers `<service>.<namespace>.svc.clusterset.local` (Kubernetes Multi-Cluster Services, KEP-1645) with the
/// endpoints of all clusters.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Reads a command line; ends the process when it is wrong or asks for help. kubectl calls its plugin
/// `kubectl-portolan`, and people call it `kubectl portolan`: help and errors do so, too.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Cli {
    let words: Vec<_> = words.collect();
    let called = words.first().map(Path::new).and_then(Path::file_stem);
    let command = Cli::command();
    let command = match called.is_some_and(|name| name == "kubectl-portolan") {
        true => command.bin_name("kubectl portolan"),
        false => command,
    };
    let matches = command.get_matches_from(words);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

const EXAMPLES: &str = "\
Try it without a configuration, a server or root:
  portolan lookup cart.shop.svc.clusterset.local --manifests clusters/
  portolan serve --manifests clusters/ --listen 127.0.0.1:5300
  dig @127.0.0.1 -p 5300 cart.shop.svc.clusterset.local

Set it up:
  portolan check --print-defaults > portolan.yaml
  portolan check --config portolan.yaml
  portolan serve --config portolan.yaml

In Kubernetes, in each cluster:
  portolan crds | kubectl apply -f -
  portolan controller --in-cluster
  portolan serve --in-cluster
  portolan export shop/cart
  portolan status";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve DNS
    ///
    /// Answers from the clusters of the configuration and follows every change of them. A change of the
    /// configuration file, or SIGHUP, reloads it; a wrong file leaves the running configuration in force. SIGTERM ends
    /// after the lameduck time.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Write into a cluster what the clusterset exports
    ///
    /// Follows this cluster and its peers (ClusterPeer objects, and API servers listed as `clusters`), merges what they export, and
    /// writes ServiceImports, EndpointSlices and conditions of exports, in this cluster only. Run two or three of them
    /// in each cluster: one leads and writes, the others wait. SIGTERM releases the lease and ends; a second one ends
    /// at once.
    #[command(after_help = CONTROLLER_EXAMPLES)]
    Controller(Controller),
    /// Say how a running server or controller is: its clusters, how fresh they are, what is wrong
    ///
    /// Exit status: 0 all is well, 1 a cluster is stale or can't be reached, or nothing runs, 2 the command line is wrong.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Export a Service to the clusterset: create its ServiceExport
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Take a Service out of the clusterset: delete its ServiceExport
    ///
    /// Only this cluster's part goes: what other clusters export under the same name stays.
    #[command(after_help = UNEXPORT_EXAMPLES)]
    Unexport(Unexport),
    /// Print the definitions of our own resources (CRDs) as YAML
    #[command(after_help = CRDS_EXAMPLES)]
    Crds,
    /// Say everything that is wrong with the configuration and the manifests
    ///
    /// Exit status: 0 nothing is wrong, 1 something is, 2 the command line is.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show what would be answered, as dig shows it, without a server
    #[command(after_help = LOOKUP_EXAMPLES)]
    Lookup(Lookup),
    /// Say why a client gets what it gets of a service: every step of the choice, and the shares that come of it
    ///
    /// Asks a running server, or reads --manifests or --config without one. --if and --policy show what would be. For --everywhere
    /// it is a table: who gets how much, wherever clients are.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Print a zone as text (RFC 1035 §5)
    #[command(after_help = ZONE_EXAMPLES)]
    Zone(Zone),
    /// Print the configuration of a cluster's shared gateway, for HAProxy or nginx
    ///
    /// Through it clients of other networks reach exported services that have no gateway of their own. With manifests it leads to
    /// endpoints, on the ports that exports name (annotation portolan.dev/gateway-ports) or on stable ones; with a cluster (--kubeconfig,
    /// --in-cluster, or a --config that has `kubernetes`) to Services, on the ports that its controller has given.
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(Gateway),
    /// Print a completion script
    ///
    /// For example: portolan completions bash > /etc/bash_completion.d/portolan
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}
