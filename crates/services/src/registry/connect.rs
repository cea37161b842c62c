//! Opens and closes sessions: who somebody is by certificate or password, and whether they are let in (contract §6.1, §6.2).

use crate::context::{Context, failed};
use crate::registry::hub::{Credential, Opening, Session, Space};
use crate::registry::outbox::Ending;
use async_recursion::async_recursion as compiled_here;
use domain::registry::credential::{CertificateState, hex};
use domain::registry::topic::{AliasTable, Principal};
use domain::registry::{AccessEnd, LogOptions, RegistryId};
use domain::{Error, Result, Time};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use store::registry::access::{self, CertificateAccess, Holder};
use x509::digest;

/// The number of the level under which a line of a connection counts (contract §3.1): INFO.
const LEVEL_INFO: i32 = 3;
/// And WARN.
const LEVEL_WARN: i32 = 4;

/// Somebody who wants a session.
#[derive(Debug)]
pub struct Attempt {
    /// The certificate whose key the client has proven to hold.
    pub certificate: Option<PresentedCertificate>,
    /// The user name, which is the id of a device, registry or broker.
    pub username: Option<String>,
    /// The password, which decides when there is one.
    pub password: Option<Vec<u8>>,
    /// The client's own name for the session.
    pub client_id: String,
    /// Where it comes from.
    pub address: SocketAddr,
    /// The topic of its last will, when it has one.
    pub will_topic: Option<String>,
    /// Whether the time matters to certificates.
    pub validity: Validity,
}

/// A certificate as it came in the handshake.
#[derive(Debug)]
pub struct PresentedCertificate {
    /// The client's own, in DER.
    pub leaf: Vec<u8>,
    /// What came with it, in DER, in the order in which it came.
    pub intermediates: Vec<Vec<u8>>,
}

/// Whether a certificate gives access before its beginning and after its end (contract §11 row 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Validity {
    /// It does not.
    #[default]
    Checked,
    /// It does.
    Ignored,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The user name or the password is wrong (CONNACK 4).
    BadCredentials,
    /// Nobody is known by this, or they are not let in (CONNACK 5).
    NotAuthorized,
    /// It cannot be found out now (CONNACK 3).
    Unavailable,
}

/// How a session ended, for its line in the log.
#[derive(Clone, Debug)]
pub enum Farewell {
    /// The client said goodbye.
    ClientDisconnected,
    /// The connection broke.
    ConnectionLost,
    /// The client was silent for too long.
    KeepAlive,
    /// It did what is not allowed; in words.
    Violation(String),
    /// The server ended it.
    Ended(Ending),
}

impl Context {
    /// Opens a session, or says why not. The refusal is in the log.
    #[compiled_here]
    pub async fn connect(&self, attempt: Attempt) -> Result<Arc<Session>, Refusal> {
        let began = Instant::now();
        let who = match self.who_is(&attempt).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, address = %attempt.address, "somebody cannot be let in");
                Err(Refusal::Unavailable)
            }
        };
        let opened = match who {
            Ok((principal, credential)) => self.open_session(attempt, principal, credential, began).await,
            Err(refusal) => Err(refusal),
        };
        if opened.is_err() {
            self.state.registry.hub.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    async fn who_is(&self, attempt: &Attempt) -> Result<Result<(Principal, Credential), Refusal>> {
        match (&attempt.password, &attempt.certificate) {
            // A password always decides, whatever certificate comes with it (contract §6.2).
            (Some(password), _) => self.by_password(attempt, password).await,
            (None, Some(certificate)) => self.by_certificate(attempt, certificate).await,
            (None, None) => Ok(Err(refuse(attempt, "there is neither a certificate nor a password"))),
        }
    }

    async fn by_password(
        &self,
        attempt: &Attempt,
        password: &[u8],
    ) -> Result<Result<(Principal, Credential), Refusal>> {
        let username = attempt.username.as_deref().filter(|name| !name.contains('\0')).unwrap_or_default();
        let candidates = access::passwords(&self.db, username).await.map_err(failed)?;
        let right = self.right_password(&candidates, password).await?;
        let Some(found) = right.and_then(|right| candidates.into_iter().nth(right)) else {
            tracing::info!(address = %attempt.address, username, "refused: the user name or the password is wrong");
            return Ok(Err(Refusal::BadCredentials));
        };
        Ok(admitted(attempt, found.holder).map(|principal| (principal, Credential::Password(found.password))))
    }

    async fn by_certificate(
        &self,
        attempt: &Attempt,
        certificate: &PresentedCertificate,
    ) -> Result<Result<(Principal, Credential), Refusal>> {
        let sha256 = digest::sha256(&certificate.leaf);
        let found = access::certificate(&self.db, &sha256).await.map_err(failed)?;
        let found = match found {
            Some(found) => Some(found),
            None => match self.take_in(&certificate.leaf, &certificate.intermediates, Some(attempt.address.ip())).await
            {
                Ok(Some(taken)) => access::certificate(&self.db, &taken.fingerprint.sha256).await.map_err(failed)?,
                Ok(None) => None,
                Err(error @ Error::Failed(_)) => return Err(error),
                Err(Error::Refused(refusal)) => return Ok(Err(refuse(attempt, &refusal.message))),
            },
        };
        let Some(found) = found else {
            return Ok(Err(refuse(attempt, &format!("the certificate {} is not registered", hex(&sha256)))));
        };
        if let Err(problem) = gives_access(&found, attempt.validity, self.now()) {
            return Ok(Err(refuse(attempt, &format!("the certificate {} {problem}", hex(&sha256)))));
        }
        let until = (attempt.validity == Validity::Checked).then_some(found.not_after);
        let credential = Credential::Certificate { sha256, until };
        Ok(admitted(attempt, found.holder).map(|principal| (principal, credential)))
    }

    async fn open_session(
        &self,
        attempt: Attempt,
        principal: Principal,
        credential: Credential,
        began: Instant,
    ) -> Result<Arc<Session>, Refusal> {
        let space = match self.space_of(&principal).await {
            Ok(Some(space)) => space,
            Ok(None) => return Err(refuse(&attempt, "the registry or broker is gone")),
            Err(error) => {
                tracing::warn!(%error, address = %attempt.address, "somebody cannot be let in");
                return Err(Refusal::Unavailable);
            }
        };
        if let Some(topic) = &attempt.will_topic
            && !self.may_leave_a_will(&principal, &space, topic).await
        {
            return Err(refuse(&attempt, &format!("the last will may not be published to {topic}")));
        }
        let is_new = Opening {
            principal,
            client_id: attempt.client_id.clone(),
            address: attempt.address,
            credential,
            began,
            now: self.now(),
            random: self.random.octets(),
        };
        let Some(session) = self.state.registry.hub.open(is_new, space) else {
            return Err(refuse(&attempt, "the access ended just now"));
        };
        self.tell_opened(&session);
        session.log(LEVEL_INFO, &connected_line(&session));
        self.note_authentication(&session).await;
        Ok(session)
    }

    /// The space of a principal with what holds for it, read when nobody of it is here yet.
    async fn space_of(&self, principal: &Principal) -> Result<Option<Arc<Space>>> {
        if let Some(space) = self.state.registry.hub.space(principal.space()) {
            return Ok(Some(space));
        }
        let Some(facts) = access::space(&self.db, principal).await.map_err(failed)? else { return Ok(None) };
        let aliases = match principal {
            Principal::Device { registry, .. } | Principal::Registry(registry) => self.aliases_of(registry).await?,
            Principal::Broker(_) => AliasTable::default(),
        };
        Ok(Some(Arc::new(Space::new(principal.space(), facts.version, aliases, facts.log_options))))
    }

    pub(super) async fn aliases_of(&self, registry: &RegistryId) -> Result<AliasTable> {
        let aliases = AliasTable::new(access::aliases(&self.db, registry).await.map_err(failed)?);
        Ok(if self.registry_settings.accepts_plain_prefix { aliases.with_plain_names() } else { aliases })
    }

    async fn may_leave_a_will(&self, principal: &Principal, space: &Arc<Space>, topic: &str) -> bool {
        match principal.target(&space.aliases(), topic) {
            None => false,
            Some(target) => self.is_within_reach(principal, Some(space), &target.topic).await.unwrap_or(false),
        }
    }

    /// Takes a session away after its connection ended.
    #[compiled_here]
    pub async fn disconnect(&self, session: &Arc<Session>, farewell: &Farewell) {
        self.state.registry.hub.close(session);
        self.note_disconnect(session).await;
        let level = if matches!(farewell, Farewell::Violation(_)) { LEVEL_WARN } else { LEVEL_INFO };
        session.log(level, &format!("disconnected, reason: \"{farewell}\", clientID: \"{}\"", session.client_id));
    }

    /// Closes this node's sessions that stand on these at once. Other nodes, and this one once more, see the rows of
    /// `access_ends` that the same change wrote.
    pub fn end_access(&self, ends: &[AccessEnd]) {
        self.state.registry.passwords.forget(ends);
        self.state.registry.hub.end_access(ends);
    }
}

impl Session {
    /// A line of the connection log (contract §6.6), unless the registry or broker does not want it.
    pub(super) fn log(&self, level: i32, line: &str) {
        let LogOptions { is_disabled, min_level, .. } = self.space.log_options();
        if is_disabled || level < min_level {
            return;
        }
        let (kind, id) = (self.principal.owner().kind().as_str(), self.principal.owner().id().to_owned());
        match level {
            LEVEL_WARN.. => tracing::warn!(target: "iot", kind, id, "{line}"),
            _ => tracing::info!(target: "iot", kind, id, "{line}"),
        }
    }

    /// Says in the log which filters were refused.
    pub fn log_refused_filters(&self, filters: &[String]) {
        let list = filters.iter().map(|filter| format!("\"{filter}\"")).collect::<Vec<_>>().join(", ");
        self.log(LEVEL_WARN, &format!("some subscriptions failed: [{list}], clientID: \"{}\"", self.client_id));
    }
}

impl std::fmt::Display for Farewell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::ClientDisconnected => "client disconnected",
            Self::ConnectionLost => "connection lost",
            Self::KeepAlive => "keep-alive timeout",
            Self::Violation(what) => what,
            Self::Ended(Ending::TakenOver) => "another session has the same client id",
            Self::Ended(Ending::AccessEnded) => "the access ended",
            Self::Ended(Ending::Expired) => "the certificate has expired",
            Self::Ended(Ending::ServerStops) => "the server stops",
        })
    }
}

fn connected_line(session: &Session) -> String {
    let by = match &session.credential {
        Credential::Certificate { sha256, .. } => format!("cert: \"{}\", ", hex(sha256)),
        Credential::Password(id) => format!("password: \"{id}\", "),
    };
    format!("connected, {by}address: \"{}\", clientID: \"{}\"", session.address, session.client_id)
}

/// The principal, unless its registry is disabled.
fn admitted(attempt: &Attempt, holder: Holder) -> Result<Principal, Refusal> {
    match holder.is_disabled {
        true => Err(refuse(attempt, &format!("the registry of {} is disabled", holder.principal.owner()))),
        false => Ok(holder.principal),
    }
}

fn gives_access(found: &CertificateAccess, validity: Validity, now: Time) -> Result<(), &'static str> {
    match found.state {
        CertificateState::Active => {}
        CertificateState::Inactive => return Err("is inactive"),
        CertificateState::Revoked => return Err("is revoked"),
    }
    if found.revoked_at.is_some() {
        return Err("is revoked or on hold by the authority that issued it");
    }
    match validity {
        Validity::Checked if now < found.not_before => Err("is not valid yet"),
        Validity::Checked if found.not_after < now => Err("has expired"),
        Validity::Checked | Validity::Ignored => Ok(()),
    }
}

fn refuse(attempt: &Attempt, why: &str) -> Refusal {
    tracing::info!(target: "iot", address = %attempt.address, client_id = attempt.client_id, "refused: {why}");
    Refusal::NotAuthorized
}
