//! Revocation lists of the authorities outside that stand above one of ours: whoever gets them hands them in here, and
//! verification has them. Nothing is fetched.

use crate::audit::{self, Object};
use crate::authorities::about;
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::permission::Action;
use domain::{AuthorityId, Error, ForeignListId, Result, Time};
use serde_json::json;
use store::foreign_list::ForeignListRow;
use store::{Changes, StoreError};
use x509::{Certificate, Crl, digest, pem};

/// A list of an authority outside.
pub struct ForeignList {
    /// Its id.
    pub id: ForeignListId,
    /// Who made it.
    pub issuer: String,
    /// Its number in hex, if it has one.
    pub number: Option<String>,
    /// When it was made.
    pub this_update: Time,
    /// By when the next one is there.
    pub next_update: Option<Time>,
    /// Whether it names a certificate of the authority that it was handed in for.
    pub revokes_authority: bool,
    /// The list in PEM.
    pub crl: String,
}

impl Context {
    /// Keeps a list, when an authority outside that is in this one's chain signed it and no newer one is there.
    #[compiled_here]
    pub async fn hand_in_list(&self, caller: &Caller, id: AuthorityId, text: &str) -> Result<ForeignList> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::EditAuthority, &about(&authority.name))?;
        let list = Crl::from_pem(text).map_err(|error| Error::invalid(format!("the revocation list: {error}")))?;
        let now = self.now();
        if list.this_update() > now.seconds() {
            return Err(Error::invalid("the revocation list begins in the future"));
        }
        if list.base_number().ok().flatten().is_some() {
            return Err(Error::invalid("the revocation list says changes only: hand in a complete one"));
        }
        let (own, above) = self.chain_of(&authority).await?;
        must_be_whole(&list, &own)?;
        let signer = above.iter().find(|issuer| {
            issuer.subject().as_der() == list.issuer().as_der()
                && issuer.public_key().is_ok_and(|key| list.verify_signature(&key))
        });
        let signer = signer.ok_or_else(|| {
            Error::invalid(format!(
                "no authority outside in the chain of {} signed this revocation list of {}",
                authority.name,
                list.issuer()
            ))
        })?;
        let number = list.number().map_err(|error| Error::invalid(format!("the revocation list: {error}")))?;
        for earlier in store::foreign_list::of_authority(&self.db, authority.id).await.map_err(failed)? {
            let is_of_issuer = earlier.issuer_spki_sha256 == digest::sha256(signer.spki_der());
            let earlier = earlier.number.unwrap_or_default();
            let later = number.unwrap_or_default();
            if is_of_issuer && (later.len(), later) < (earlier.len(), earlier.as_slice()) {
                return Err(Error::wrong_state(
                    "a revocation list of that issuer with a higher number is there already",
                ));
            }
        }
        let row = ForeignListRow {
            id: self.new_id(),
            project: authority.project,
            authority: authority.id,
            issuer_spki_sha256: digest::sha256(signer.spki_der()),
            number: number.map(<[u8]>::to_vec),
            this_update: Time::from_seconds(list.this_update()),
            next_update: list.next_update().map(Time::from_seconds),
            der: list.as_der().to_vec(),
            created_at: now,
        };
        let shown = shown(&row, &list, &own);
        let detail = json!({
            "name": authority.name, "issuer": shown.issuer, "number": shown.number, "revokesThisCa": shown.revokes_authority,
        });
        let object = Object::new("certificate-authority", authority.id);
        let changes = Changes::new().statement(store::foreign_list::keep(&row)).audit(audit::record(
            caller,
            Some(authority.project),
            "foreign-list-handed-in",
            object,
            &detail,
            now,
        ));
        match self.db.commit(changes).await {
            Ok(()) => {}
            Err(StoreError::Stale(_)) => {
                return Err(Error::wrong_state(
                    "a revocation list of that issuer that is as new or newer is there already",
                ));
            }
            Err(error) => return Err(failed(error)),
        }
        if shown.revokes_authority {
            tracing::error!(
                authority.id = %authority.id, issuer = shown.issuer,
                "a certificate of an authority of this server is revoked by its issuer"
            );
        }
        Ok(shown)
    }

    /// The lists that were handed in for an authority.
    #[compiled_here]
    pub async fn foreign_lists(&self, caller: &Caller, id: AuthorityId) -> Result<Vec<ForeignList>> {
        let authority = self.find_authority(caller, id).await?;
        caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        let (own, _) = self.chain_of(&authority).await?;
        let rows = store::foreign_list::of_authority(&self.db, authority.id).await.map_err(failed)?;
        rows.iter()
            .map(|row| {
                let list = Crl::from_der(row.der.clone())
                    .map_err(|error| Error::failed_because("a stored revocation list does not read", error))?;
                Ok(shown(row, &list, &own))
            })
            .collect()
    }

    /// The certificates of an authority, and those above it that no authority of this server signed or holds.
    async fn chain_of(&self, authority: &Authority) -> Result<(Vec<Certificate>, Vec<Certificate>)> {
        let unread = |error| Error::failed_because("a stored certificate of an authority does not read", error);
        let (mut own, mut above) = (Vec::new(), Vec::new());
        for record in store::authority::certificates(&self.db, authority.id).await.map_err(failed)? {
            own.push(Certificate::from_der(record.der).map_err(unread)?);
            for der in pem::decode_all(&record.chain, pem::CERTIFICATE).map_err(unread)? {
                let owner = store::authority::owner_of_certificate(&self.db, authority.project, &der).await;
                if owner.map_err(failed)?.is_none() {
                    above.push(Certificate::from_der(der).map_err(unread)?);
                }
            }
        }
        Ok((own, above))
    }
}

/// Refuses a list that is not for all certificates that an authority of ours could have from its issuer.
fn must_be_whole(list: &Crl, own: &[Certificate]) -> Result<()> {
    if list.unknown_critical().is_some() {
        return Err(Error::invalid("the revocation list has a critical extension that is not known"));
    }
    let point = list.issuing_distribution_point();
    let Some(point) = point.map_err(|error| Error::invalid(format!("the revocation list: {error}")))? else {
        return Ok(());
    };
    let is_named = own.iter().any(|one| {
        let points = one.extensions().crl_distribution_points().ok().flatten();
        points.is_some_and(|points| points.urls().any(|url| point.urls().any(|named| named == url)))
    });
    let is_partial = point.only_user_certificates
        || point.only_attribute_certificates
        || point.is_indirect
        || point.only_some_reasons.is_some();
    match is_partial || !(is_named || point.full_name.is_none()) {
        false => Ok(()),
        true => Err(Error::invalid(
            "the revocation list is for a part of its issuer's certificates to which that of this authority does not belong",
        )),
    }
}

fn shown(row: &ForeignListRow, list: &Crl, own: &[Certificate]) -> ForeignList {
    ForeignList {
        id: row.id,
        issuer: list.issuer().to_string(),
        number: row.number.as_ref().map(|number| number.iter().map(|octet| format!("{octet:02x}")).collect()),
        this_update: row.this_update,
        next_update: row.next_update,
        revokes_authority: own.iter().any(|one| is_on(list, one)),
        crl: pem::encode(pem::CRL, &row.der),
    }
}

/// Whether a list of a certificate's issuer names it.
pub(crate) fn is_on(list: &Crl, certificate: &Certificate) -> bool {
    certificate.issuer().as_der() == list.issuer().as_der() && list.find(certificate.serial_content()).is_some()
}
