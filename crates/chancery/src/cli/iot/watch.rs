//! `chancery iot watch`: shows messages as they come, over MQTT.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    mqtt::{Login, Message, Session},
    password,
};
use crate::cli::{
    connection::{self, RemoteArguments},
    environment::Environment,
    failure::Failure,
    output::{Output, printable},
};

/// Show messages as they come, over MQTT with the rights of a registry, a device or a broker.
///
/// Credentials are those of the registry, the device or the broker: its id and a password, or a certificate and its key.
/// The password is read from --password-file or from CHANCERY_MQTT_PASSWORD. Beside a server on this machine its address
/// and authority are known from bootstrap.json.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery iot watch '$devices/+/events/#' --certificate backend.pem --key backend.key
  chancery iot watch '$me/device/commands' --user are0123456789abcdefg --password-file secret.txt
  chancery iot watch '#' --mqtt iot.example.com:8883 --mqtt-ca ca.pem --user arebroker --count 1")]
pub(crate) struct WatchArguments {
    /// Filters of topics, $me and aliases among them.
    #[arg(value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// The server's MQTT address [default: from bootstrap.json].
    #[arg(long, value_name = "HOST:PORT")]
    mqtt: Option<String>,
    /// Trust the certificates in this PEM file [default: from bootstrap.json].
    #[arg(long, value_name = "FILE")]
    mqtt_ca: Option<PathBuf>,
    /// The id of the registry, the device or the broker that the password is of.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Its password; - reads standard input [env: CHANCERY_MQTT_PASSWORD].
    #[arg(long, value_name = "FILE|-", requires = "user")]
    password_file: Option<PathBuf>,
    /// A certificate of the registry, the device or the broker, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(crate) async fn run(
    arguments: WatchArguments,
    remote: &RemoteArguments,
    environment: &Environment,
    json: bool,
) -> Result<Output, Failure> {
    let login = login(&arguments, remote, environment)?;
    let end = arguments.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    let mut session = Session::open(&login).await?;
    session.subscribe(&arguments.topics).await?;
    let mut left = arguments.count;
    while left != Some(0) {
        let Some(message) = session.next(end).await? else { break };
        if !show(&message, json)? {
            break;
        }
        left = left.map(|left| left - 1);
    }
    session.close().await;
    Ok(Output::printed_before())
}

fn login(arguments: &WatchArguments, remote: &RemoteArguments, environment: &Environment) -> Result<Login, Failure> {
    let password = match (&arguments.password_file, &environment.mqtt_password) {
        (Some(path), _) => Some(password::read(path)?),
        (None, Some(password)) if arguments.user.is_some() => Some(Zeroizing::new(password.clone())),
        (None, _) => None,
    };
    let certificate = arguments.certificate.clone().zip(arguments.key.clone());
    if password.is_none() && certificate.is_none() {
        return Err(Failure::usage("there is neither a password nor a certificate")
            .hint("give --user and --password-file, or --certificate and --key"));
    }
    let known = match (&arguments.mqtt, &arguments.mqtt_ca) {
        (Some(_), Some(_)) => None,
        _ => connection::mqtt(remote, environment)?,
    };
    let (known_address, known_ca) = known.unzip();
    let address = arguments.mqtt.clone().or(known_address);
    let ca_file = arguments.mqtt_ca.clone().or(known_ca);
    match (address, ca_file) {
        (Some(address), Some(ca_file)) => {
            Ok(Login { address, ca_file, user: arguments.user.clone(), password, certificate })
        }
        _ => Err(Failure::usage("the server's MQTT address or authority is not known")
            .hint("give --mqtt and --mqtt-ca, or name the data folder of a server on this machine with --data")),
    }
}

/// Prints a message: a line of text for people, a line of JSON for scripts. Whether somebody still reads.
fn show(message: &Message, json: bool) -> Result<bool, Failure> {
    let text = str::from_utf8(&message.payload);
    let line = match (json, text) {
        (true, Ok(text)) => json!({ "topic": message.topic, "payload": text, "stored": message.is_stored }).to_string(),
        (true, Err(_)) => {
            let payload = STANDARD.encode(&message.payload);
            json!({ "topic": message.topic, "payloadBase64": payload, "stored": message.is_stored }).to_string()
        }
        (false, Ok(text)) => format!("{} {}", printable(&message.topic), printable(text)),
        (false, Err(_)) => format!("{} base64:{}", printable(&message.topic), STANDARD.encode(&message.payload)),
    };
    let mut output = io::stdout().lock();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot write the message: {error}"))),
    }
}
