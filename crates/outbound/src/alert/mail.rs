//! Mail by SMTP (RFC 5321), to the one server that the operator named. The line is enciphered, by STARTTLS (RFC 3207) or from
//! the beginning (RFC 8314), unless the operator says otherwise; a password never goes in clear to another machine.

use super::{day_of, name_of};
use crate::DeliveryError;
use domain::alert::{EventKind, Message, days_until};
use domain::secret::SecretText;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many certificates a mail names; the rest is counted.
const NAMED_MAX: usize = 200;
/// How long each step of a conversation may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a whole conversation may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the operator says about the mail server.
#[derive(Clone, Debug)]
pub struct MailServer {
    /// `smtp://host:port` for STARTTLS, `smtps://host:port` for TLS from the beginning; `smtp://host:port?tls=none` for neither.
    pub url: String,
    /// Who this server is there.
    pub user: Option<String>,
    /// The file of the password. It is read for each mail, so a new one counts at once.
    pub password_file: Option<PathBuf>,
    /// Who mails come from.
    pub from: String,
    /// A file of certificates in PEM that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// How the line is enciphered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    StartTls,
    FromTheBeginning,
    None,
}

/// A mail server that mails are given to. It is not asked before there is one.
#[derive(Clone, Debug)]
pub struct Mailer {
    host: String,
    port: u16,
    cipher: Cipher,
    login: Option<(String, PathBuf)>,
    from: Mailbox,
    ca_file: Option<PathBuf>,
}

impl Mailer {
    /// Reads what the operator says. Nothing is connected to.
    ///
    /// # Errors
    /// What is wrong with it, without the text, which may hold a password.
    pub fn new(server: MailServer) -> Result<Self, String> {
        const FORM: &str = "write smtp://host:587 for STARTTLS, or smtps://host:465";
        let url = Url::parse(&server.url).map_err(|_| format!("smtp_url is not a URL: {FORM}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(format!("smtp_url names no host: {FORM}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("smtp_url must not hold a user or a password: set smtp_user and smtp_password_file".into());
        }
        let (cipher, port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (Cipher::StartTls, 587),
            ("smtp", Some("tls=none")) => (Cipher::None, 25),
            ("smtps", None) => (Cipher::FromTheBeginning, 465),
            _ => return Err(format!("smtp_url is of no kind that is known: {FORM}")),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let login = match (server.user, server.password_file) {
            (Some(_), Some(_)) if cipher == Cipher::None && !is_here => {
                return Err("a password does not go in clear to another machine: take tls=none out of smtp_url".into());
            }
            (Some(user), Some(file)) => Some((user, file)),
            (None, None) => None,
            _ => return Err("smtp_user and smtp_password_file go together".into()),
        };
        let from =
            server.from.parse::<Mailbox>().map_err(|_| "smtp_from is not an address, such as pki@example.com")?;
        Ok(Self { host, port: url.port().unwrap_or(port), cipher, login, from, ca_file: server.ca_file })
    }

    /// Gives a mail to the server. One address that it refuses does not keep the others from theirs.
    pub(super) async fn send(&self, recipients: &[String], message: &Message) -> Result<(), DeliveryError> {
        let whole = self.send_to(recipients, message).await;
        if recipients.len() < 2 || !matches!(whole, Err(DeliveryError::Refused(_))) {
            return whole;
        }
        let mut refused = Vec::new();
        for recipient in recipients {
            match self.send_to(std::slice::from_ref(recipient), message).await {
                Ok(()) => {}
                Err(DeliveryError::Refused(why)) => refused.push(format!("{recipient}: {why}")),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(DeliveryError::Refused(refused.join("; "))) }
    }

    async fn send_to(&self, recipients: &[String], message: &Message) -> Result<(), DeliveryError> {
        let mail = self.mail(recipients, message)?;
        let transport = self.transport()?;
        let sent = tokio::time::timeout(TIMEOUT, transport.send(mail)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => {
                Err(DeliveryError::Refused(format!("the mail server refuses: {}", chain(&error))))
            }
            Ok(Err(error)) => Err(DeliveryError::Unknown(format!("the mail server: {}", chain(&error)))),
            Err(_) => Err(DeliveryError::Unknown("the mail server took too long".into())),
        }
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, DeliveryError> {
        let tls = match self.cipher {
            Cipher::None => Tls::None,
            Cipher::StartTls => Tls::Required(self.tls()?),
            Cipher::FromTheBeginning => Tls::Wrapper(self.tls()?),
        };
        let name = ClientId::Domain(self.from.email.domain().to_owned());
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            .tls(tls)
            .hello_name(name)
            .timeout(Some(STEP_TIMEOUT));
        Ok(match &self.login {
            None => builder.build(),
            Some((user, file)) => {
                let password = read(file)?;
                let password = SecretText::new(password.trim_end_matches(['\r', '\n']));
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned())).build()
            }
        })
    }

    fn tls(&self) -> Result<TlsParameters, DeliveryError> {
        let wrong =
            |error: lettre::transport::smtp::Error| DeliveryError::Connection(format!("TLS: {}", chain(&error)));
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.ca_file
            && file.exists()
        {
            for block in x509::pem::decode_all(&read(file)?, x509::pem::CERTIFICATE).unwrap_or_default() {
                builder = builder.add_root_certificate(Certificate::from_der(block).map_err(wrong)?);
            }
        }
        builder.build_rustls().map_err(wrong)
    }

    fn mail(&self, recipients: &[String], message: &Message) -> Result<Mail, DeliveryError> {
        let refused =
            |why: &dyn std::fmt::Display| DeliveryError::Refused(format!("the mail cannot be written: {why}"));
        // The same at each try, so that who got it twice sees it once.
        let id = format!("<{}@{}>", message.id, self.from.email.domain());
        let mut builder = Mail::builder()
            .message_id(Some(id))
            .from(self.from.clone())
            .subject(format!("{} ({})", message.headline(), message.alert.name))
            .header(ContentType::TEXT_PLAIN);
        for recipient in recipients {
            let address: Address = recipient.parse().map_err(|error| refused(&error))?;
            builder = builder.to(Mailbox::new(None, address));
        }
        builder.body(text(message)).map_err(|error| refused(&error))
    }
}

/// Whether mail can be addressed to that text.
pub fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

fn read(file: &Path) -> Result<String, DeliveryError> {
    std::fs::read_to_string(file)
        .map_err(|error| DeliveryError::Connection(format!("{} cannot be read: {error}", file.display())))
}

fn text(message: &Message) -> String {
    let mut lines = vec![format!("{}.", message.headline()), String::new()];
    for failure in message.subject.failures.iter().take(NAMED_MAX) {
        let line = format!("- {} (profile {}): {}", failure.common_name, failure.profile_name, failure.error);
        lines.push(one_line(&line));
    }
    for one in message.subject.certificates.iter().take(NAMED_MAX) {
        let what = match message.alert.event {
            EventKind::Expiration | EventKind::CaExpiration => {
                format!("ends {}, in {} days", day_of(one.not_after), days_until(one.not_after, message.at))
            }
            EventKind::Revocation => format!("revoked, {}", one.revocation_reason.as_deref().unwrap_or("UNSPECIFIED")),
            EventKind::Renewal | EventKind::Issuance | EventKind::IssuanceFailure => {
                format!("ends {}", day_of(one.not_after))
            }
        };
        let profile = one.profile_name.as_deref().map(|name| format!(", profile {name}")).unwrap_or_default();
        lines.push(one_line(&format!("- {}: {what}{profile}, serial number {}", name_of(one), one.serial_number)));
    }
    let named = message.subject.certificates.len().min(NAMED_MAX) + message.subject.failures.len().min(NAMED_MAX);
    if message.subject.count() > named {
        lines.push(format!("- and {} more", message.subject.count() - named));
    }
    lines.push(String::new());
    lines.push(format!("The alert {}: {}", message.alert.name, message.view_url));
    lines.join("\n")
}

/// A name that holds a line break does not make up lines of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

fn chain(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    fn server(url: &str, login: Option<&str>) -> MailServer {
        MailServer {
            url: url.into(),
            user: login.map(str::to_owned),
            password_file: login.map(|_| "password".into()),
            from: "pki@example.com".into(),
            ca_file: None,
        }
    }

    #[test]
    fn a_password_goes_in_clear_to_this_machine_alone() {
        for (url, login, expected) in [
            ("smtp://mail.example.com", None, Some((Cipher::StartTls, 587))),
            ("smtp://mail.example.com:25", Some("a"), Some((Cipher::StartTls, 25))),
            ("smtps://mail.example.com", Some("a"), Some((Cipher::FromTheBeginning, 465))),
            ("smtp://mail.example.com?tls=none", None, Some((Cipher::None, 25))),
            ("smtp://mail.example.com?tls=none", Some("a"), None),
            ("smtp://127.0.0.1:2525?tls=none", Some("a"), Some((Cipher::None, 2525))),
            ("smtp://[::1]:2525?tls=none", Some("a"), Some((Cipher::None, 2525))),
            ("smtp://user:hunter2@mail.example.com", None, None),
            ("https://mail.example.com", None, None),
            ("mail.example.com", None, None),
            ("smtp://", None, None),
        ] {
            let mailer = Mailer::new(server(url, login));
            assert!(!format!("{mailer:?}").contains("hunter2"));
            assert_eq!(mailer.ok().map(|mailer| (mailer.cipher, mailer.port)), expected, "{url} {login:?}");
        }
        let half = MailServer { password_file: None, ..server("smtp://mail.example.com", Some("a")) };
        assert!(Mailer::new(half).is_err());
    }

    #[test]
    fn a_mail_is_the_same_at_each_try_and_names_what_it_is_about() {
        let mailer = Mailer::new(server("smtp://mail.example.com", None)).unwrap();
        let told = message(EventKind::Expiration, &[3; 201]);
        let mail = mailer.mail(&["a@example.com".into(), "b@example.com".into()], &told).unwrap();
        let written = String::from_utf8(mail.formatted()).unwrap();
        for part in [
            "Message-ID: <00000000-0000-0000-0000-000000000001@example.com>",
            "Subject: 201 certificates run out soon (soon)",
            "a@example.com",
            "b@example.com",
            "- 0.example.com: ends 2027-01-18, in 3 days, profile web, serial number 00",
            "- and 1 more",
        ] {
            assert!(written.contains(part), "{part} is not in {written}");
        }
    }
}
