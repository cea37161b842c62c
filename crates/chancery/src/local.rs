//! The commands that work on this machine's own data: run the server, check it, read its audit, change its master key.

use crate::cli::local::{DatabaseArguments, LocalCommand, LogFormat, ServeArguments};
use crate::config::{Config, DataLocation};
use crate::open::{self, Access};
use crate::owner::Owner;
use crate::service_manager::{self, State};
use crate::{backup, doctor, first_run, restore, server, transfer};
use keys::rotation;
use services::fsck::{Finding, audit_records};
use services::{Addresses, Clock, Context, Outward};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Prints a line. A reader that has seen enough and went away is no error.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}
pub(crate) use say;

/// Runs a command to its end.
pub fn run(command: LocalCommand) -> ExitCode {
    protect_process();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    let outcome = match command {
        LocalCommand::Serve(arguments) => runtime.block_on(serve(&arguments)),
        LocalCommand::Doctor { arguments, json } => runtime.block_on(doctor::run(&arguments, json)),
        LocalCommand::Fsck { database, json } => runtime.block_on(fsck(&database, json)),
        LocalCommand::AuditList { arguments, json } => {
            runtime.block_on(audit_list(&arguments.database, arguments.limit, json))
        }
        LocalCommand::AuditVerify { database, json } => runtime.block_on(audit_verify(&database, json)),
        LocalCommand::RotateMaster { database, json } => runtime.block_on(rotate_master(&database, json)),
        LocalCommand::Backup { arguments, json } => runtime.block_on(backup::backup(&arguments, json)),
        LocalCommand::Restore { arguments, json } => runtime.block_on(restore::restore(&arguments, json)),
        LocalCommand::Export { arguments, json } => runtime.block_on(transfer::export(&arguments, json)),
        LocalCommand::Import { arguments, json } => runtime.block_on(transfer::import(&arguments, json)),
    };
    outcome.unwrap_or_else(|error| complain(&error))
}

fn complain(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// New files are ours alone, and a crash leaves no picture of the memory, which holds keys.
fn protect_process() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Where the limit cannot be set, the system's own stays.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// As many files as this process may have at all: each connection is one.
fn raise_files() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, fewer connections are accepted.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

async fn serve(arguments: &ServeArguments) -> Result<ExitCode, String> {
    raise_files();
    let config = Config::from_arguments(arguments)?;
    start_log(config.log_format);
    // Handlers first: a signal that comes during the start is not lost, and a second one does not cut the end short.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let running = tokio::select! {
        started = server::start(&config, Clock::system()) => started?,
        // What a start has begun, the next one goes on with.
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(url = %running.reachable.url, tls_url = running.reachable.tls_url.as_deref(), "chancery is ready");
    if let Some(secret) = &running.secret {
        let welcome = first_run::welcome(&running.bootstrap, secret, &running.reachable, &config.data.folder);
        // Nobody may be reading; the same stands in bootstrap.json.
        let _ = writeln!(std::io::stdout(), "{welcome}");
    }
    service_manager::tell(State::Ready { url: &running.reachable.url });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what was accepted is finished first");
    service_manager::tell(State::Stopping);
    running.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// For people on a terminal, for machines elsewhere.
fn start_log(format: Option<LogFormat>) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if is_terminal { LogFormat::Human } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that is there already, in tests, stays.
    let _ = match format {
        LogFormat::Human => builder.with_ansi(is_terminal).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// The use cases over the data beside a server that may be running.
async fn read_only(database: &DatabaseArguments) -> Result<Context, String> {
    let location = DataLocation::from_arguments(database);
    let db = open::database(&location, Access::ReadOnly).await?;
    let nowhere = Addresses { public_url: String::new(), publication_url: String::new() };
    let outward = Outward::nowhere().map_err(|error| error.to_string())?;
    open::services(db, &location, Access::ReadOnly, Clock::system(), nowhere, outward).await
}

async fn fsck(database: &DatabaseArguments, json: bool) -> Result<ExitCode, String> {
    let services = read_only(database).await?;
    let is_person = std::io::stderr().is_terminal() && !json;
    let report = services
        .fsck(|checked| {
            if is_person {
                eprint!("\rchecked {checked} certificates");
            }
        })
        .await
        .map_err(|error| error.to_string())?;
    if is_person {
        eprintln!();
    }
    if json {
        say!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
    } else {
        for Finding { subject, problem } in &report.findings {
            say!("{subject}: {problem}");
        }
        say!(
            "{} certificates, {} keys, {} authorities, {} audit records: {}",
            report.certificates,
            report.keys,
            report.authorities,
            report.audit_records,
            match report.findings.len() {
                0 => "clean".to_owned(),
                1 => "1 problem".to_owned(),
                count => format!("{count} problems"),
            },
        );
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn audit_list(database: &DatabaseArguments, limit: u32, json: bool) -> Result<ExitCode, String> {
    let db = open::database(&DataLocation::from_arguments(database), Access::ReadOnly).await?;
    let records = audit_records(&db, limit).await.map_err(|error| error.to_string())?;
    if json {
        say!("{}", serde_json::to_string_pretty(&records).map_err(|error| error.to_string())?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["time", "event", "object", "actor", "detail"]);
    for record in &records {
        let object = format!("{} {}", record.object_kind, record.object_id.as_deref().unwrap_or_default());
        let actor = format!("{} {}", record.actor_kind, record.actor_id.as_deref().unwrap_or_default());
        table.add_row([record.at.clone(), record.event.clone(), object, actor, record.detail.to_string()]);
    }
    say!("{table}");
    Ok(ExitCode::SUCCESS)
}

async fn audit_verify(database: &DatabaseArguments, json: bool) -> Result<ExitCode, String> {
    let services = read_only(database).await?;
    let verdict = services.verify_audit().await.map_err(|error| error.to_string())?;
    let (is_whole, words) = match verdict {
        Ok(records) => (true, format!("{records} audit records: the chain is whole")),
        Err(broken) => (false, broken),
    };
    if json {
        say!("{}", serde_json::json!({ "valid": is_whole, "message": words }));
    } else {
        say!("{words}");
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The order is that of the rotation: a new key beside the old one, data keys sealed anew, the files exchanged, a last
/// look for data keys that were made meanwhile, the old key gone. A kill in between is made good by running it again.
async fn rotate_master(database: &DatabaseArguments, json: bool) -> Result<ExitCode, String> {
    let location = DataLocation::from_arguments(database);
    if std::env::var_os("CHANCERY_MASTER_KEY").is_some_and(|value| !value.is_empty()) {
        return Err(
            "the master key comes from the environment: start the server with the new one in CHANCERY_MASTER_KEY \
                    and the old one in CHANCERY_MASTER_KEY_PREVIOUS; it seals the data keys anew at its start"
                .into(),
        );
    }
    let key = &location.master_key_file;
    if key.is_symlink() {
        return Err(format!(
            "{} is a link, which a rotation would replace and leave the old key where it leads to: put the key itself there",
            key.display()
        ));
    }
    let text = |error: keys::KeyError| error.to_string();
    let db = open::database(&location, Access::Maintenance).await?;
    let nowhere = Addresses { public_url: String::new(), publication_url: String::new() };
    let outward = Outward::nowhere().map_err(|error| error.to_string())?;
    // Before anything is begun: the present key must open what is there.
    let services =
        open::services(db.clone(), &location, Access::Maintenance, Clock::system(), nowhere, outward).await?;
    let owner = Owner::of(&location.master_key_file);
    let rotation = rotation::begin(&location.master_key_file).map_err(text)?;
    // It takes the name of the old one later, and the server that runs reads both meanwhile.
    if let (Some(owner), Some(name)) = (owner, location.master_key_file.file_name()) {
        let mut name = name.to_owned();
        name.push(".next");
        owner.take(&location.master_key_file.with_file_name(name))?;
    }
    let mut resealed = services.reseal_data_keys().await.map_err(|error| error.to_string())?;
    let promoted = rotation.promote().map_err(text)?;
    loop {
        let more = services.reseal_data_keys().await.map_err(|error| error.to_string())?;
        resealed += more;
        if more == 0 {
            break;
        }
    }
    let id = promoted.next().id().to_owned();
    promoted.finish().map_err(text)?;
    db.close().await;
    if json {
        say!("{}", serde_json::json!({ "masterKeyId": id, "dataKeysResealed": resealed }));
    } else {
        say!("master key {id} is in place; {resealed} data keys were sealed anew");
    }
    Ok(ExitCode::SUCCESS)
}
