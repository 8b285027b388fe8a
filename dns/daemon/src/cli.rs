//! The command line: what can be asked of the binary, and its help.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use portolan_sync::gateway::PortRange;
use portolan_zones::name::check_label;

/// Where the configuration is when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/portolan/portolan.yaml";

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

/// Where exports are written.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The Service
    #[arg(value_name = "NAMESPACE/SERVICE", value_parser = service)]
    pub service: (String, String),
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the service account of this Pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// `portolan export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub target: Target,
    /// Label that the imports in all clusters shall have; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// `portolan unexport`
#[derive(Debug, Args)]
pub(crate) struct Unexport {
    #[command(flatten)]
    pub target: Target,
}

/// `portolan check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub source: Source,
    /// Print the whole default configuration with comments, and check nothing
    #[arg(long)]
    pub print_defaults: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan lookup`
#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// Domain name; absolute, with or without the final dot
    pub name: Name,
    /// Record type, for example A, AAAA, SRV, PTR, TXT, SOA, NS, ANY
    #[arg(value_name = "TYPE", default_value = "A", value_parser = record_type)]
    pub record_type: RecordType,
    /// Address of the client that asks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub from: IpAddr,
    /// Ask as over TCP: nothing is truncated
    #[arg(long)]
    pub tcp: bool,
    #[command(flatten)]
    pub source: Source,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan explain`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("clients").required(true).args(["from", "everywhere"])))]
pub(crate) struct Explain {
    /// A service's domain name
    pub name: Name,
    /// A, AAAA or SRV: only what has such an address counts [default: any]
    #[arg(value_name = "TYPE", value_parser = explained_type)]
    pub record_type: Option<RecordType>,
    /// Address of the client that asks
    #[arg(long, value_name = "ADDRESS", value_parser = client)]
    pub from: Option<IpAddr>,
    /// Show the shares of all clients: a row for each place, a column for each cluster
    #[arg(long)]
    pub everywhere: bool,
    /// Suppose that a cluster is down, drained or up, or has another weight; may be repeated
    #[arg(long = "if", value_name = "CLUSTER=down|drain|up|WEIGHT")]
    pub supposed: Vec<String>,
    /// Suppose that this TrafficPolicy holds (YAML)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Admin address of the server: ADDRESS:PORT or http://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9153", value_parser = admin_address)]
    pub admin: String,
    #[command(flatten)]
    pub source: Source,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan zone`
#[derive(Debug, Args)]
pub(crate) struct Zone {
    /// Origin of the zone [default: the first one]
    pub origin: Option<String>,
    #[command(flatten)]
    pub source: Source,
}

/// `portolan gateway`
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub own: Own,
    /// The cluster, where there are manifests of several
    #[arg(long, value_name = "ID")]
    pub cluster: Option<String>,
    /// The program: haproxy has no UDP
    #[arg(long, value_enum, default_value_t)]
    pub format: Proxy,
    /// Only ports of this protocol: tcp for haproxy and udp for nginx beside it, which is well at port 8406
    #[arg(long, value_enum)]
    pub protocol: Option<Transport>,
    /// What it leads to [default: services in a cluster, endpoints with manifests]
    #[arg(long, value_enum)]
    pub to: Option<Upstream>,
    /// Who may connect; may be repeated [default: as configured, else everybody]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<IpNet>,
    /// The address that it listens at [default: as configured, else all that the gateway's Service has]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Ports to choose from [default: as configured, else 20000-29999]
    #[arg(long, value_name = "FIRST-LAST")]
    pub ports: Option<PortRange>,
    /// Domain of cluster DNS, for names of Services [default: as configured, else cluster.local]
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pub cluster_domain: Option<portolan_zones::Name>,
}

/// For which program a gateway's configuration is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// haproxy.cfg: TCP
    #[default]
    Haproxy,
    /// nginx.conf: TCP and UDP, by its stream module
    Nginx,
}

/// What a gateway carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What a gateway leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Upstream {
    /// The Services of the cluster that it runs in
    Services,
    /// Pods, which it reaches from where it is
    Endpoints,
}

fn domain(text: &str) -> Result<portolan_zones::Name, String> {
    portolan_zones::Name::parse(text).map_err(|error| error.to_string())
}

/// Types whose shares differ: of all others, what is said of all holds.
pub(crate) fn explained_type(text: &str) -> Result<RecordType, String> {
    match text.to_ascii_uppercase().as_str() {
        "A" => Ok(RecordType::A),
        "AAAA" => Ok(RecordType::AAAA),
        "SRV" => Ok(RecordType::SRV),
        _ => Err("expected A, AAAA or SRV".to_owned()),
    }
}

fn client(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address, such as 10.1.2.3; or --everywhere".to_owned())
}

/// systemd separates several folders by colons (systemd.exec(5)); the first one is ours.
fn state_folder(text: &str) -> Result<PathBuf, String> {
    let first = text.split(':').next().filter(|first| !first.is_empty());
    first.map(PathBuf::from).ok_or_else(|| "no folder is named".to_owned())
}

/// HOST:PORT, with or without the scheme in front and a path behind.
fn admin_address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.split('/').next().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').ok_or("expected ADDRESS:PORT or http://HOST:PORT")?;
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() => Ok(address.to_owned()),
        _ => Err("expected ADDRESS:PORT or http://HOST:PORT".to_owned()),
    }
}

/// Two DNS labels, as the names of namespaces and Services are.
fn service(text: &str) -> Result<(String, String), String> {
    let (namespace, name) = text.split_once('/').ok_or("expected NAMESPACE/SERVICE, such as shop/cart")?;
    for label in [namespace, name] {
        check_label(label).map_err(|error| error.to_string())?;
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Mnemonics in either case, and `TYPE<number>` (RFC 3597 §5).
fn record_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    let by_number =
        upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok()).map(RecordType::from);
    by_number
        .or_else(|| upper.parse().ok())
        .ok_or_else(|| "no such record type; TYPE<number> is always one".to_owned())
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

const SERVE_EXAMPLES: &str = "\
Examples:
  portolan serve
  portolan serve --in-cluster
  portolan serve --kubeconfig ~/.kube/config --context fra1 --listen 127.0.0.1:5300
  portolan serve --manifests clusters/ --listen 127.0.0.1:5300
  curl http://127.0.0.1:9153/status";

const CONTROLLER_EXAMPLES: &str = "\
Examples:
  portolan controller --in-cluster
  portolan controller --kubeconfig ~/.kube/config --context fra1
  portolan controller --config portolan.yaml   # with `kubernetes`, and peers as `clusters`
  curl http://127.0.0.1:9153/status";

const STATUS_EXAMPLES: &str = "\
Examples:
  portolan status
  portolan status --admin 10.1.2.3:9153 --format json
  kubectl exec -n portolan-system deploy/portolan-controller -- portolan status";

const EXPORT_EXAMPLES: &str = "\
Examples:
  portolan export shop/cart
  portolan export shop/cart --context fra1 --label team=checkout
  kubectl portolan export shop/cart   # the same, where the binary is in the PATH as kubectl-portolan";

const UNEXPORT_EXAMPLES: &str = "\
Examples:
  portolan unexport shop/cart
  portolan unexport shop/cart --kubeconfig fra1.yaml";

const CRDS_EXAMPLES: &str = "\
Examples:
  portolan crds | kubectl apply -f -";

const CHECK_EXAMPLES: &str = "\
Examples:
  portolan check --config portolan.yaml
  portolan check --manifests clusters/ --format json
  portolan check --print-defaults > portolan.yaml";

const LOOKUP_EXAMPLES: &str = "\
Examples:
  portolan lookup cart.shop.svc.clusterset.local
  portolan lookup _http._tcp.cart.shop.svc.clusterset.local SRV --manifests clusters/
  portolan lookup cart.shop.svc.clusterset.local AAAA --from 10.1.2.3 --format json";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3
  portolan explain cart.shop.svc.clusterset.local AAAA --from 10.1.2.3 --format json
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --if fra1=down
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --if fra1=drain --if ber1=3
  portolan explain cart.shop.svc.clusterset.local --everywhere --if fra1=down
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --policy near.yaml --manifests clusters/";

const GATEWAY_EXAMPLES: &str = "\
Examples:
  portolan gateway --manifests clusters/ --cluster tokyo > haproxy.cfg
  portolan gateway --manifests clusters/ --cluster tokyo --allow 10.0.0.0/8 --allow 2001:db8::/32
  portolan gateway --format nginx --to endpoints --kubeconfig ~/.kube/config > nginx.conf";

const ZONE_EXAMPLES: &str = "\
Examples:
  portolan zone
  portolan zone 241.in-addr.arpa --manifests clusters/";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_take_their_arguments() {
        let Command::Serve(serve) =
            parse("portolan serve -m clusters --listen 127.0.0.1:5300 -l [::1]:5300 --ready-file r")
                .unwrap()
                .command
        else {
            panic!("no serve")
        };
        assert_eq!(serve.source.manifests, Some("clusters".into()));
        assert_eq!(serve.listen.len(), 2);
        assert_eq!(serve.ready_file, Some("r".into()));

        let Command::Lookup(lookup) =
            parse("portolan lookup a.example srv --from 10.0.0.1 --tcp --config c.yaml").unwrap().command
        else {
            panic!("no lookup")
        };
        assert_eq!((lookup.name.to_string().as_str(), lookup.record_type), ("a.example", RecordType::SRV));
        assert_eq!((lookup.from, lookup.tcp), ("10.0.0.1".parse().unwrap(), true));
        assert_eq!((lookup.source.config, lookup.format), (Some("c.yaml".into()), Format::Human));

        let Command::Zone(zone) = parse("portolan zone --state-directory /var/lib/a:/b").unwrap().command
        else {
            panic!("no zone")
        };
        assert_eq!(zone.source.state_directory, Some("/var/lib/a".into()));

        let Command::Check(check) = parse("portolan check --format json").unwrap().command else {
            panic!("no check")
        };
        assert_eq!((check.format, check.print_defaults), (Format::Json, false));
    }

    /// Exit status 2 is a wrong command line.
    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "portolan",
            "portolan sail",
            "portolan serve --listen nowhere",
            "portolan serve --state-directory :",
            "portolan lookup",
            "portolan lookup a..b",
            "portolan lookup a SVR",
            "portolan lookup a --from x",
            "portolan explain a",
            "portolan explain a MX --from 10.0.0.1",
            "portolan explain a --from here",
            "portolan explain a --from 10.0.0.1 --everywhere",
            "portolan completions cmd.exe",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_teaches_by_example() {
        for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "completions")
        {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("portolan {}", command.get_name())), "{}", command.get_name());
        }
    }
}
