//! The command line: what can be asked of the binary, and its help.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hickory_proto::rr::{Name, RecordType};

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

const EXAMPLES: &str = "\
Try it without a configuration, a server or root:
  portolan lookup cart.shop.svc.clusterset.local --manifests clusters/
  portolan serve --manifests clusters/ --listen 127.0.0.1:5300
  dig @127.0.0.1 -p 5300 cart.shop.svc.clusterset.local

Set it up:
  portolan check --print-defaults > portolan.yaml
  portolan check --config portolan.yaml
  portolan serve --config portolan.yaml";

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
    /// Say everything that is wrong with the configuration and the manifests
    ///
    /// Exit status: 0 nothing is wrong, 1 something is, 2 the command line is.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show what would be answered, as dig shows it, without a server
    #[command(after_help = LOOKUP_EXAMPLES)]
    Lookup(Lookup),
    /// Print a zone as text (RFC 1035 §5)
    #[command(after_help = ZONE_EXAMPLES)]
    Zone(Zone),
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

/// `portolan serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub source: Source,
    /// Serve UDP and TCP here, in place of the configuration's addresses; may be repeated
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Write the bound addresses here as JSON once every cluster was tried once
    ///
    /// Whether all of them could be read, /ready says. For tests and scripts that listen on port 0.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
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

/// `portolan zone`
#[derive(Debug, Args)]
pub(crate) struct Zone {
    /// Origin of the zone [default: the first one]
    pub origin: Option<String>,
    #[command(flatten)]
    pub source: Source,
}

/// systemd separates several folders by colons (systemd.exec(5)); the first one is ours.
fn state_folder(text: &str) -> Result<PathBuf, String> {
    let first = text.split(':').next().filter(|first| !first.is_empty());
    first.map(PathBuf::from).ok_or_else(|| "no folder is named".to_owned())
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
  portolan serve --manifests clusters/ --listen 127.0.0.1:5300
  curl http://127.0.0.1:9153/status";

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

const ZONE_EXAMPLES: &str = "\
Examples:
  portolan zone
  portolan zone 241.in-addr.arpa --manifests clusters/";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
