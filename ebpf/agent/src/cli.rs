//! The command line: what can be asked of the agent, and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portolan_zones::ClusterId;

/// Where the configuration is when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/portolan/portolan.yaml";

/// Redirect virtual IPs of a clusterset on this node
///
/// Connections to a service's virtual IP go to a backend, chosen as DNS chooses, when they are made: an eBPF socket hook rewrites the address that
/// a program connects to, and shows it the virtual IP when it asks. TCP and UDP, IPv4 and IPv6. Nothing is on the packets' way. It
/// goes on when the agent ends, is killed or upgraded.
///
/// It can't redirect SCTP and ICMP (`ping` of a virtual IP fails), nor programs in sandboxes with a network stack of their own (gVisor, Kata
/// Containers), nor sockets that were made before it was attached, or outside the cgroup.
#[derive(Debug, Parser)]
#[command(name = "portolan-agent", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
In Kubernetes: kubectl apply -f deploy/agent

By hand, as root:
  portolan-agent run --manifests clusters/ --home paris --dry-run
  portolan-agent run --manifests clusters/ --home paris --cgroup /sys/fs/cgroup/trial
  portolan-agent status
  portolan-agent trace
  portolan-agent detach";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load the programs, attach them, and keep them as the clusterset is
    ///
    /// What a former agent attached is taken over without a gap. SIGTERM ends the agent; redirection goes on until `detach`.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Say what is attached where, how full the maps are, and with NAME a service's backends and their counters
    ///
    /// Exit status: 0 all is well, 1 something is wrong or no agent runs, 2 the command line is wrong.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Show decisions as they are made: who connects, to which virtual IP, and where it goes
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// Take the programs off and remove all that is pinned
    ///
    /// Connections that are established go on; getpeername then shows where they really go. End the agent first.
    #[command(after_help = DETACH_EXAMPLES)]
    Detach(Detach),
}

/// Where things are in the kernel, in place of the configuration's section `agent`.
#[derive(Debug, Default, Args)]
pub(crate) struct Places {
    /// Configuration file (YAML), the same that `portolan` has [default: /etc/portolan/portolan.yaml]
    #[arg(long, short, value_name = "FILE", env = "PORTOLAN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of a BPF file system where programs stay [default: /sys/fs/bpf/portolan]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
}

/// `portolan-agent run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub places: Places,
    /// Processes of this cgroup, and of those below it, are redirected [default: the root of cgroup2]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// The Node that this is [default: $NODE_NAME, then the host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Folder of manifests, each subfolder a cluster: in place of the configuration's clusters
    #[arg(long, short, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// The cluster that this node is in, where no API server says it
    #[arg(long, value_name = "ID", value_parser = cluster)]
    pub home: Option<ClusterId>,
    /// Run for the cluster of this Pod, by its service account; needs no configuration file
    #[arg(long, conflicts_with_all = ["kubeconfig", "manifests"])]
    pub in_cluster: bool,
    /// Run for the cluster of this kubeconfig; needs no configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Print what would be written into the maps, and end; needs no rights
    #[arg(long)]
    pub dry_run: bool,
    /// How to print that
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write the bound admin address here as JSON once connections are redirected
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Admin address of the agent: ADDRESS:PORT or http://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9154")]
    pub admin: String,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan-agent status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show the backends of services with this in their NAMESPACE/NAME; `/` shows all
    #[arg(value_name = "NAME")]
    pub service: Option<String>,
    #[command(flatten)]
    pub places: Places,
    #[command(flatten)]
    pub asked: Asked,
}

/// `portolan-agent trace`
#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub asked: Asked,
    /// Show one decision of so many, by chance
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// End after so many [default: go on until Ctrl-C]
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
}

/// `portolan-agent detach`
#[derive(Debug, Args)]
pub(crate) struct Detach {
    #[command(flatten)]
    pub places: Places,
}

fn cluster(text: &str) -> Result<ClusterId, String> {
    ClusterId::new(text).map_err(|error| error.to_string())
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

const RUN_EXAMPLES: &str = "\
Examples:
  portolan-agent run --in-cluster
  portolan-agent run --kubeconfig ~/.kube/config --node worker-1
  portolan-agent run --manifests clusters/ --home paris --dry-run
  portolan-agent run --manifests clusters/ --home paris --cgroup /sys/fs/cgroup/trial";

const STATUS_EXAMPLES: &str = "\
Examples:
  portolan-agent status
  portolan-agent status shop/cart
  portolan-agent status / --format json";

const TRACE_EXAMPLES: &str = "\
Examples:
  portolan-agent trace
  portolan-agent trace --sample 100 --format json
  portolan-agent trace -n 10";

const DETACH_EXAMPLES: &str = "\
Examples:
  portolan-agent detach
  portolan-agent detach --pins /sys/fs/bpf/trial";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Exit status 2 is a wrong command line.
    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "portolan-agent",
            "portolan-agent sail",
            "portolan-agent run --in-cluster --manifests m",
            "portolan-agent run --context c",
            "portolan-agent run --home .",
            "portolan-agent trace --sample 0",
        ] {
            let error = Cli::try_parse_from(line.split_whitespace()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    /// What it says to apply is there.
    #[test]
    fn files_that_help_names_exist() {
        let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut named = EXAMPLES.split_whitespace().filter(|word| word.starts_with("deploy/")).peekable();
        assert!(named.peek().is_some());
        named.for_each(|file| assert!(std::path::Path::new(top).join(file).exists(), "{file}"));
    }

    #[test]
    fn help_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("portolan-agent {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }
}
