//! The end of a restore (invariant I17): a database that is an older copy of itself becomes the server's database
//! again.
//!
//! What was published after the copy was made is not in it. So every revocation list jumps to a number that none can
//! have had, what later lists say is read back, and nothing of the old life counts as under way. Serial numbers need no
//! such jump: they are drawn from 2^120 and more.

use crate::audit::{self, Object};
use crate::certificates::Record;
use crate::context::{Context, failed};
use crate::revoke::Occasion;
use async_recursion::async_recursion as compiled_here;
use domain::authority::AuthorityKey;
use domain::caller::Caller;
use domain::revocation::RevocationStep;
use domain::{AuthorityKeyId, CrlId, Error, OrganizationId, Result, Time};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use store::Changes;
use store::authority::CrlRecord;
use store::restore::UnknownRevoked;
use x509::{Crl, CrlEntry, RevocationReason, SerialNumber, Uri, pem};

/// What is known of a restore beside the database itself.
pub struct RestoreOrder {
    /// Revocation lists that were published after the copy was made, in PEM or DER, each with what it is called.
    pub lists: Vec<(String, Vec<u8>)>,
    /// What becomes of the access tokens.
    pub tokens: OldTokens,
    /// Where the copy came from, for the audit.
    pub source: serde_json::Value,
}

/// What becomes of the access tokens of the old life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTokens {
    /// They are revoked: one of them may have been revoked after the copy was made.
    End,
    /// They go on.
    Keep,
}

/// What a restore did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// Revocation lists that were published anew.
    pub lists: usize,
    /// The lowest number among them.
    pub lists_from_number: u64,
    /// Certificates that were revoked, or are revoked for a graver reason, because a later list says so.
    pub revoked: Vec<String>,
    /// Certificates that a later list names and of which nothing else is known.
    pub unknown: Vec<String>,
    /// Access tokens that were ended.
    pub tokens_ended: u64,
}

/// A list that was handed in and is one of ours.
struct LaterList {
    crl: Crl,
    number: u64,
    key: AuthorityKey,
    /// Its record, which is not there when it was opened after the copy was made.
    record: CrlId,
}

/// How often a revocation is tried when somebody changes the certificate meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// How many certificates that are not known are kept at once.
const AT_ONCE: usize = 200;

impl Context {
    /// Ends a restore. Nobody else may work on the database. When it fails in the middle it is to be run again.
    #[compiled_here]
    pub async fn finish_restore(&self, order: &RestoreOrder) -> Result<RestoreReport> {
        let organization = store::project::first_organization(&self.db).await.map_err(failed)?;
        let organization = organization.ok_or_else(|| Error::wrong_state("the database is empty"))?.id;
        // Everything is looked at before anything is changed.
        let now = self.clock.now_to_sign()?;
        let mut later = Vec::new();
        for (name, octets) in &order.lists {
            let in_file = |error: Error| Error::invalid(format!("{name}: {error}"));
            for der in lists_in(octets).map_err(in_file)? {
                later.push(self.later_list(der, now).await.map_err(in_file)?);
            }
        }
        // Of several lists of one record the newest says what holds: an earlier one may name a hold that was ended.
        later.sort_by_key(|list| (list.record, std::cmp::Reverse(list.number)));
        later.dedup_by_key(|list| list.record);
        let mut report = RestoreReport {
            lists: 0,
            lists_from_number: epoch_of(now),
            revoked: Vec::new(),
            unknown: Vec::new(),
            tokens_ended: self.end_old_life(organization, order, now).await?,
        };
        for list in &later {
            self.read_back(list, &mut report).await?;
        }
        self.publish_lists_of_new_life(&later, &mut report).await?;
        let detail = json!({
            "lists": report.lists, "listsFromNumber": report.lists_from_number, "revoked": report.revoked.len(),
            "unknownRevoked": report.unknown.len(),
        });
        let object = Object::new("organization", organization);
        let caller = Caller::node(organization);
        let record = audit::record(&caller, None, "restore-finished", object, &detail, self.now());
        self.commit(Changes::new().audit(record)).await?;
        Ok(report)
    }

    /// Nothing that was under way counts any more. Gives the number of tokens that it ended.
    async fn end_old_life(&self, organization: OrganizationId, order: &RestoreOrder, now: Time) -> Result<u64> {
        let mut changes = store::restore::end_old_life();
        let ended = match order.tokens {
            OldTokens::Keep => 0,
            OldTokens::End => {
                changes = changes.statement(store::restore::end_access_tokens());
                store::restore::count_access_tokens(&self.db).await.map_err(failed)?
            }
        };
        let detail = json!({ "source": order.source, "laterLists": order.lists.len(), "tokensEnded": ended });
        let object = Object::new("organization", organization);
        let caller = Caller::node(organization);
        let changes = changes.audit(audit::record(&caller, None, "database-restored", object, &detail, now));
        self.commit(changes).await?;
        Ok(ended)
    }

    /// Which of our lists this is.
    async fn later_list(&self, der: Vec<u8>, now: Time) -> Result<LaterList> {
        let crl = Crl::from_der(der).map_err(unread)?;
        if crl.base_number().map_err(unread)?.is_some() {
            return Err(Error::invalid("it says changes only: hand in a complete list"));
        }
        if crl.this_update() > now.seconds() {
            return Err(Error::wrong_state(
                "it was made later than this machine's clock says it is: set the clock right",
            ));
        }
        let number = crl.number().map_err(unread)?.ok_or_else(|| Error::invalid("it has no number"))?;
        let number = number.iter().try_fold(0_u64, |sum, octet| sum.checked_mul(256)?.checked_add((*octet).into()));
        // Room for lists that follow, in a column that holds 63 bits.
        let number = number.filter(|number| *number < u64::from(u32::MAX) << 30);
        let number = number.ok_or_else(|| Error::invalid("its number is none of this server"))?;
        let key = self.signer_of(&crl).await?;
        let record = self.record_of(&crl, key.id).await?;
        Ok(LaterList { crl, number, key, record })
    }

    /// The key of ours that signed a list.
    async fn signer_of(&self, crl: &Crl) -> Result<AuthorityKey> {
        for authority in store::authority::all(&self.db).await.map_err(failed)? {
            for id in store::check::authority_keys(&self.db, authority.id).await.map_err(failed)? {
                let Some(key) = store::authority::key(&self.db, id).await.map_err(failed)? else { continue };
                let verifying = x509::VerifyingKey::from_spki_der(&key.spki);
                if verifying.is_ok_and(|verifying| crl.verify_signature(&verifying)) {
                    return Ok(key);
                }
            }
        }
        Err(Error::invalid(format!("no key of an authority in this database signed it ({})", crl.issuer())))
    }

    /// The record of a list, by the addresses that it is for; a list without one is the only one of its key.
    async fn record_of(&self, crl: &Crl, key: AuthorityKeyId) -> Result<CrlId> {
        let point = crl.issuing_distribution_point();
        let point = point.map_err(|error| Error::invalid(format!("its distribution point: {error}")))?;
        let urls: Vec<Uri> = point.map(|point| point.urls().cloned().collect()).unwrap_or_default();
        let mut named = None;
        for url in &urls {
            if let Some(id) = store::restore::list_at(&self.db, key, url.as_str()).await.map_err(failed)? {
                return Ok(id);
            }
            named = named.or_else(|| url.as_str().split('/').find_map(CrlId::parse));
        }
        match named {
            Some(id) => {
                let known = store::authority::crl(&self.db, id).await.map_err(failed)?;
                if known.as_ref().is_some_and(|record| record.key != key) {
                    return Err(Error::invalid("it has the address of a list of another key"));
                }
                Ok(id)
            }
            None if !urls.is_empty() => Err(Error::invalid("its addresses are none of this server")),
            None => {
                let first = store::restore::first_list(&self.db, key).await.map_err(failed)?;
                first.ok_or_else(|| Error::failed("a key without a list"))
            }
        }
    }

    /// Revokes what a later list names, for the reason that stands there.
    async fn read_back(&self, list: &LaterList, report: &mut RestoreReport) -> Result<()> {
        let record = self.record_for(list).await?;
        let organization = store::project::organization_of(&self.db, list.key.project).await.map_err(failed)?;
        let organization = organization.ok_or_else(|| Error::failed("a project without its organization"))?;
        let caller = Caller::node(organization);
        let issuer = store::authority::newest_certificate_of(&self.db, list.key.id).await.map_err(failed)?;
        let not_after_max = match issuer {
            None => self.now().plus_seconds(100 * 366 * 24 * 60 * 60),
            Some(issuer) => {
                let read = x509::Certificate::from_der(issuer.der);
                let read = read.map_err(|error| Error::failed_because("an authority's certificate", error))?;
                Time::from_seconds(read.not_after())
            }
        };
        let mut unknown = Vec::new();
        for entry in list.crl.entries() {
            let reason = entry.reason_code.map_or(Some(RevocationReason::Unspecified), RevocationReason::from_code);
            let reason = reason.ok_or_else(|| Error::invalid("a later list names a reason that there is not"))?;
            match self.certificate_on(&caller, list.key.id, &entry).await? {
                Some(certificate) => {
                    if self.revoke_again(&caller, certificate, list, &entry, reason).await? {
                        report.revoked.push(hex_of(entry.serial_content));
                    }
                }
                None => {
                    let serial = entry.serial_content;
                    let present = store::restore::reason_of(&self.db, list.key.id, serial).await.map_err(failed)?;
                    if RevocationStep::of(present, reason).is_ok() {
                        unknown.push(UnknownRevoked {
                            key: list.key.id,
                            serial: serial.to_vec(),
                            project: list.key.project,
                            shard: record.shard,
                            not_after: not_after_max,
                            reason,
                            revoked_at: Time::from_seconds(entry.revoked_at),
                        });
                    }
                }
            }
        }
        self.keep_unknown(&caller, list, &unknown).await?;
        report.unknown.extend(unknown.iter().map(|unknown| hex_of(&unknown.serial)));
        Ok(())
    }

    /// The record of a list; one that was opened after the copy was made is opened once more, where certificates name
    /// it.
    async fn record_for(&self, list: &LaterList) -> Result<CrlRecord> {
        if let Some(record) = store::authority::crl(&self.db, list.record).await.map_err(failed)? {
            return Ok(record);
        }
        let record = CrlRecord {
            id: list.record,
            project: list.key.project,
            authority: list.key.authority,
            key: list.key.id,
            shard: store::restore::last_shard(&self.db, list.key.id).await.map_err(failed)? + 1,
            number: list.number,
            der: Some(list.crl.as_der().to_vec()),
            this_update: Some(Time::from_seconds(list.crl.this_update())),
            next_update: list.crl.next_update().map(Time::from_seconds),
            delta: None,
        };
        let mut changes = Changes::new().statement(store::authority::insert_crl(&record)).configuration();
        if let Ok(Some(point)) = list.crl.issuing_distribution_point() {
            for url in point.urls() {
                changes = changes.statement(store::authority::note_crl_url(record.id, url.as_str()));
            }
        }
        self.commit(changes).await?;
        Ok(record)
    }

    /// The certificate of the inventory that an entry names.
    async fn certificate_on(
        &self,
        caller: &Caller,
        key: AuthorityKeyId,
        entry: &CrlEntry<'_>,
    ) -> Result<Option<Record>> {
        let rows = store::certificate::by_serial(&self.db, caller.organization, entry.serial_content).await;
        let row = rows.map_err(failed)?.into_iter().find(|row| row.issued.issuer.is_some_and(|by| by.key == key));
        row.map(|row| self.read(row)).transpose()
    }

    /// Whether it was not revoked so before.
    async fn revoke_again(
        &self,
        caller: &Caller,
        mut certificate: Record,
        list: &LaterList,
        entry: &CrlEntry<'_>,
        reason: RevocationReason,
    ) -> Result<bool> {
        let revoked_at = Time::from_seconds(entry.revoked_at);
        let occasion = Occasion::ReadBack { revoked_at, list_number: list.number };
        for _ in 0..ATTEMPTS_MAX {
            if RevocationStep::of(certificate.row.revocation_reason, reason).is_err() {
                return Ok(false);
            }
            let ended = store::revocation::ended(&self.db, list.key.id, entry.serial_content).await.map_err(failed)?;
            let released_at = ended.and_then(|ended| ended.released_at);
            if released_at.is_some_and(|at| at.seconds() > list.crl.this_update()) {
                return Ok(false);
            }
            if self.try_to_revoke(caller, &certificate, reason, occasion).await?.is_some() {
                return Ok(true);
            }
            let again = self.certificate_on(caller, list.key.id, entry).await?;
            certificate = again.ok_or_else(|| Error::failed("a certificate went away during a restore"))?;
        }
        Err(Error::unavailable("somebody works on the database: stop every server first", 1))
    }

    async fn keep_unknown(&self, caller: &Caller, list: &LaterList, unknown: &[UnknownRevoked]) -> Result<()> {
        let now = self.now();
        for some in unknown.chunks(AT_ONCE) {
            let mut changes = Changes::new();
            for one in some {
                changes = store::restore::keep_revoked(one, now).into_iter().fold(changes, Changes::statement);
                let detail = json!({
                    "serialNumber": hex_of(&one.serial), "reason": one.reason.as_str(),
                    "readBackFromListNumber": list.number,
                });
                let object = Object::new("certificate-authority", list.key.authority);
                let project = Some(list.key.project);
                changes =
                    changes.audit(audit::record(caller, project, "unknown-certificate-revoked", object, &detail, now));
            }
            self.commit(changes).await?;
        }
        Ok(())
    }

    /// Every list once more, with a number that none can have had.
    async fn publish_lists_of_new_life(&self, later: &[LaterList], report: &mut RestoreReport) -> Result<()> {
        let after: HashMap<CrlId, u64> = later.iter().map(|list| (list.record, list.number)).collect();
        let mut lowest = u64::MAX;
        for id in store::restore::lists(&self.db).await.map_err(failed)? {
            let number_min = epoch_of(self.now()).max(after.get(&id).map_or(0, |number| number + 1));
            lowest = lowest.min(self.publish_list_from(id, number_min).await?);
            report.lists += 1;
        }
        if report.lists > 0 {
            report.lists_from_number = lowest;
        }
        Ok(())
    }
}

/// The lists of a file: one in DER, or any number in PEM.
fn lists_in(octets: &[u8]) -> Result<Vec<Vec<u8>>> {
    match std::str::from_utf8(octets) {
        Ok(text) if text.contains("-----BEGIN") => match pem::decode_all(text, pem::CRL).map_err(unread)? {
            none if none.is_empty() => Err(Error::invalid("there is no revocation list in it")),
            lists => Ok(lists),
        },
        Ok(_) | Err(_) => Ok(vec![octets.to_vec()]),
    }
}

fn unread(error: x509::ParseError) -> Error {
    Error::invalid(format!("it is not a revocation list: {error}"))
}

/// The first number of lists after a restore at this time: microseconds since 1970. A list counts up by one from there,
/// and no authority signs a million lists a second.
fn epoch_of(now: Time) -> u64 {
    u64::try_from(now.millis()).unwrap_or(0).saturating_mul(1000)
}

fn hex_of(serial_content: &[u8]) -> String {
    SerialNumber::from_integer(serial_content).map_or_else(|| crate::context::hex(serial_content), |one| one.to_hex())
}
