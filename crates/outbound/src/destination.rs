//! What every place that certificates are carried to can do: look at an object, create, replace and remove one.
//!
//! A destination here is plain: it does as it is told. What is to be where, what is ours, and what is written down before
//! and after each change is decided in one place above (`services`). To make that possible each implementation keeps to
//! these rules:
//!
//! - "Not there" is said only when the other system says so explicitly; anything else is an error.
//! - [`Destination::create`] never overwrites: another object of that name is [`DeliveryError::Taken`].
//! - [`Destination::replace`] changes the object in place; at no moment is it missing. It changes nothing when the object
//!   is not as it was found, where the other system can hold us to that.
//! - [`Destination::remove`] of what is gone is done.
//! - A change whose answer was lost, timed out or was a 5xx is [`DeliveryError::Unknown`]; one that was surely not made is
//!   `Unavailable` (later), `Refused` (never) or `Connection` (not even believed: 401, 403 of the whole account).
//! - Messages name the cause in the other system's words, and never a secret.

pub mod acm;
pub mod any;
pub mod chef;
pub mod cloudflare;
pub mod f5;
pub mod gcp;
mod item_text;
pub mod key_vault;
pub mod kubernetes;
pub mod linux_server;
pub mod local_directory;
pub mod secrets_manager;
mod server_address;
pub mod vault;
pub(crate) mod verdict;
pub mod webhook;

use crate::{DeliveryError, http::Http};
use domain::CertificateId;
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use std::fmt;
use uuid::Uuid;
use x509::Certificate;

/// What is to be at a destination.
#[derive(Clone)]
pub struct Item {
    /// Whose it is.
    pub certificate: CertificateId,
    /// The mark that an object of ours bears where it can bear one: a tag, a label, a field (`chancery-object`). Unique for
    /// each object, and known before it is made.
    pub mark: Uuid,
    /// The name by the name schema.
    pub name: String,
    /// The certificate.
    pub leaf: Certificate,
    /// What is above it, the issuer first; the self-signed root is not in it unless the sync's options ask for it.
    pub chain: Vec<Certificate>,
    /// The self-signed root, if it is known.
    pub root: Option<Certificate>,
    /// The private key, PKCS#8 in PEM, if there is one here.
    pub key: Option<SecretText>,
    /// The common name.
    pub common_name: String,
    /// The serial number in hex.
    pub serial_number: String,
}

/// What stands at a destination, in digests by part (`leaf=…;key=…`). Two are compared part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The other system's identifier, by which it is looked at, replaced and removed: an ARN, a name, a path.
    pub id: String,
    /// What stands there.
    pub fingerprint: Fingerprint,
    /// The mark that it bears, if it bears one of ours.
    pub mark: Option<Uuid>,
    /// What the other system calls this state of it, for changes that hold it to that: an ETag, a resource version.
    pub version: Option<String>,
    /// Further identifiers, such as all the files.
    pub details: Vec<String>,
}

/// What a run has changed, for [`Destination::finish`].
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Objects that were created or replaced, with the common names of their certificates.
    pub delivered: Vec<(Found, String)>,
    /// Objects that were removed.
    pub removed: Vec<String>,
}

impl Fingerprint {
    /// A fingerprint of named parts; a part is digested here unless it is short and public.
    pub fn of(parts: &[(&str, &[u8])]) -> Self {
        let digests: Vec<String> = parts
            .iter()
            .map(|(name, content)| {
                let digest = x509::digest::sha256(content);
                let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
                format!("{name}={hex}")
            })
            .collect();
        Self(digests.join(";"))
    }

    /// One that was stored, or that is the other system's own.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no part that both have is another, and they have one in common: the object may lack a part, or be looked at by
    /// other parts than it was made with.
    pub fn agrees_with(&self, known: &Self) -> bool {
        let parts = |one: &'_ Self| -> std::collections::BTreeMap<String, String> {
            let part = |part: &str| match part.split_once('=') {
                Some((name, digest)) => (name.to_owned(), digest.to_owned()),
                None => (String::new(), part.to_owned()),
            };
            one.0.split(';').map(part).collect()
        };
        let (ours, theirs) = (parts(self), parts(known));
        let mut common = ours.iter().filter(|(name, _)| theirs.contains_key(*name)).peekable();
        common.peek().is_some() && common.all(|(name, digest)| theirs[name] == *digest)
    }

    /// Whether each part is as it was before a change or as it is after it: what a change that broke off leaves.
    pub fn is_between(&self, before: Option<&Self>, after: Option<&Self>) -> bool {
        let has =
            |whole: Option<&Self>, part: &str| whole.is_some_and(|one| one.0.split(';').any(|other| other == part));
        self.0.split(';').all(|part| has(before, part) || has(after, part))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A place that certificates are carried to, opened for one run.
pub trait Destination {
    /// Says why an item can never be there, before anything is sent: a key that is missing, a kind of key that is not taken.
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError>;

    /// What will stand there once the item does; none when only the other system can say.
    fn expected(&self, item: &Item) -> Option<Fingerprint>;

    /// The object of that identifier; none only when the other system says that there is none.
    fn look(&self, id: &str) -> impl Future<Output = Result<Option<Found>, DeliveryError>> + Send;

    /// What somebody else changed beside the content of an object that was just looked at, such as the mode of a file; none
    /// where nothing of the kind can be. [`Destination::replace`] puts it right.
    fn strayed(
        &self,
        found: &Found,
        item: &Item,
    ) -> impl Future<Output = Result<Option<String>, DeliveryError>> + Send {
        let _ = (found, item);
        std::future::ready(Ok(None))
    }

    /// The objects that stand in the item's place: that bear its mark, or its name where names are unique. `mark` is set to the
    /// item's own where the object surely is the one that an interrupted [`Destination::create`] of this item made.
    fn find(&self, item: &Item) -> impl Future<Output = Result<Vec<Found>, DeliveryError>> + Send;

    /// Makes the object. Called again after an interrupted attempt, it may find a part of its own work there.
    fn create(&self, item: &Item) -> impl Future<Output = Result<Found, DeliveryError>> + Send;

    /// Puts the item into an object that is there.
    fn replace(&self, found: &Found, item: &Item) -> impl Future<Output = Result<Found, DeliveryError>> + Send;

    /// Removes an object.
    fn remove(&self, found: &Found) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// What is done once after all changes of a run, and only when there were some: a command, saving a configuration. A
    /// destination that can undo what it delivered does so before it says that this failed.
    fn finish(&self, changed: &Changed) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// What a destination is opened with.
pub struct Opening<'a> {
    /// The kind.
    pub kind: DestinationKind,
    /// The client.
    pub http: &'a Http,
    /// The connection's credentials; none for a place that needs no connection.
    pub credentials: Option<&'a Credentials>,
    /// The place.
    pub config: &'a DestinationConfig,
    /// The options.
    pub options: &'a SyncOptions,
    /// Secrets of the sync itself.
    pub secrets: &'a SyncCredentials,
}
