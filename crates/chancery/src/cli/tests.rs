//! Whether what the help teaches can be typed, and what cannot be typed is said so.

use super::{local::TlsMode, *};
use clap::ArgMatches;

/// Splits a line as a shell does, as far as examples go: blanks and quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (String::new(), None);
    for character in line.chars() {
        match character {
            '\'' | '"' if quote == Some(character) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            ' ' if quote.is_none() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn parse(line: &str) -> Result<ArgMatches, clap::Error> {
    let without_redirection = line.split(" > ").next().unwrap();
    Cli::command().try_get_matches_from(words(without_redirection))
}

fn each_leaf(command: &clap::Command, path: &str, visit: &mut dyn FnMut(&str, &clap::Command)) {
    let mut children = command.get_subcommands().filter(|child| child.get_name() != "help").peekable();
    if children.peek().is_none() {
        visit(path, command);
    }
    for child in children {
        each_leaf(child, &format!("{path} {}", child.get_name()), visit);
    }
}

#[test]
fn the_definitions_agree_with_themselves() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_shows_an_example_that_can_be_typed() {
    let mut examples = 0;
    each_leaf(&Cli::command(), "chancery", &mut |path, command| {
        assert!(command.get_about().is_some(), "{path} says nothing about itself");
        let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // A line that the terminal breaks cannot be copied.
        for line in shown.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace(" \\\n", " ");
        let own: Vec<&str> = help.lines().map(str::trim).filter(|line| line.starts_with("chancery ")).collect();
        assert!(own.iter().any(|line| line.starts_with(path)), "{path} has no example of itself");
        for line in own {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
            examples += 1;
        }
    });
    assert!(examples > 40, "only {examples} examples");
}

/// The commands of this program in the blocks of a document, each on one line and without its comment.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("\n```").skip(1).step_by(2).collect::<Vec<_>>().join("\n").replace(" \\\n", " ");
    let own = |line: &str| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let line = line.strip_prefix("sudo -u chancery ").unwrap_or(line);
        line.strip_prefix("target/release/").unwrap_or(line).to_owned()
    };
    blocks.lines().map(own).filter(|line| line.starts_with("chancery ")).collect()
}

#[test]
fn what_the_documents_show_can_be_typed() {
    let mut typed = 0;
    for document in [
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/backup.md"),
        include_str!("../../../../docs/doctor.md"),
        include_str!("../../../../docs/moving-from-yandex-iot-core.md"),
        include_str!("../../../../docs/operations.md"),
        include_str!("../../../../docs/postgresql.md"),
        include_str!("../../../../docs/upgrades.md"),
    ] {
        for line in commands(document) {
            if let Err(error) = parse(&line) {
                panic!("{line}\n{error}");
            }
            let is_binary = ["der", "pkcs12", "jks"].iter().any(|format| line.contains(&format!("--format {format}")));
            assert!(!is_binary || line.contains("--out "), "{line}: that is no text, so it needs --out");
            typed += 1;
        }
    }
    assert!(typed > 25, "only {typed} commands");
}

#[test]
fn the_help_of_serve_says_where_limits_are_set() {
    let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
    for words in ["[limits]", "issuances_at_once", "docs/operations.md"] {
        assert!(help.contains(words), "{words} is not in {help}");
    }
}

#[test]
fn every_option_says_what_it_is_for() {
    each_leaf(&Cli::command(), "chancery", &mut |path, command| {
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
        }
    });
}

#[test]
fn what_cannot_be_meant_is_refused_when_it_is_typed() {
    for line in [
        "chancery",
        "chancery frobnicate",
        "chancery ca",
        "chancery ca create",
        "chancery ca create x --ttl 1y --not-after 2030-01-01",
        "chancery ca create x --permit example.com",
        "chancery ca create x --max-path-length -1",
        "chancery ca renew x",
        "chancery ca import x --certificate a.pem",
        "chancery cert issue --common-name a",
        "chancery cert issue --profile p",
        "chancery cert issue --profile p --common-name a --ttl soon",
        "chancery cert issue --profile p --common-name a --san ip:a",
        "chancery cert issue --profile p --common-name a --usage sign_everything",
        "chancery cert issue --profile p --common-name a --key-algorithm DSA",
        "chancery cert sign --profile p",
        "chancery cert list --limit 0",
        "chancery cert list --status pending",
        "chancery cert export x --force",
        "chancery cert export x --format p7b",
        "chancery cert export x --format pkcs12 --out x --password secret",
        "chancery cert export x --format jks --out x --password-file a --password-env B",
        "chancery cert import --key k.pem",
        "chancery policy create x --max-ttl 90",
        "chancery profile create x --policy p",
        "chancery profile create x --policy p --issuer ca",
        "chancery identity grant x",
        "chancery iot certificate add a.pem",
        "chancery iot certificate add a.pem --registry r --device d",
        "chancery iot device create d",
        "chancery iot password add --registry r --generate --password-file f",
        "chancery iot publish --device d --topic t",
        "chancery iot publish --device d --topic t message --file f",
        "chancery iot registry update r --label a=b --no-labels",
        "chancery iot import",
        "chancery login --token t --client-id i",
        "chancery serve --listen localhost",
        "chancery serve --tls-certificate a.pem",
        "chancery audit list --limit 0",
        "chancery keys",
        "chancery completions ksh",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn json_and_the_connection_can_stand_before_and_after_the_command() {
    for line in [
        "chancery --json ca list",
        "chancery ca --json list",
        "chancery ca list --json",
        "chancery ca --url https://a.example list",
        "chancery ca list --url https://a.example --project p --ca-file c.pem --data d",
        "chancery cert issue --profile p --common-name a --key-algorithm p256",
        "chancery cert issue --profile p --san a --signature-algorithm ecdsa-sha256 --usage none --eku none",
        "chancery iot --folder f registry list",
        "chancery iot registry list --folder f --json",
        "chancery version --json",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}\n{error}"));
    }
}

#[track_caller]
fn local(line: &str) -> LocalCommand {
    match run(words(line).into_iter().map(OsString::from), &Environment::default()) {
        Next::Local(command) => command,
        Next::Done(_) => panic!("{line} ran here"),
    }
}

#[test]
fn local_commands_are_handed_over_as_they_were_typed() {
    let LocalCommand::Serve(arguments) = local("chancery serve --listen 127.0.0.1:0 --data d --tls auto") else {
        panic!("not serve");
    };
    assert_eq!(arguments.listen, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(arguments.database.data.as_deref(), Some(std::path::Path::new("d")));
    assert_eq!(arguments.tls, Some(TlsMode::Auto));
    assert!(matches!(local("chancery fsck --json"), LocalCommand::Fsck { json: true, .. }));
    assert!(matches!(local("chancery audit verify"), LocalCommand::AuditVerify { json: false, .. }));
    assert!(matches!(local("chancery keys rotate-master"), LocalCommand::RotateMaster { json: false, .. }));
    let LocalCommand::AuditList { arguments, json: true } = local("chancery --json audit list --limit 3") else {
        panic!("not audit list");
    };
    assert_eq!(arguments.limit, 3);
}
