//! Command lines, right and wrong, and their help.

use hickory_proto::rr::RecordType;

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

    let Command::Zone(zone) = parse("portolan zone --state-directory /var/lib/a:/b").unwrap().command else {
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
    for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "completions") {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("portolan {}", command.get_name())), "{}", command.get_name());
    }
}
