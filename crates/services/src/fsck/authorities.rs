//! Authorities against their keys, their certificates and their revocation lists; their OCSP responders are held against them
//! in `responders.rs`.

use super::{Issuers, Report};
use crate::context::{Context, failed};
use domain::authority::{Authority, AuthorityCertificate, AuthorityKey};
use domain::{AuthorityKeyId, Result, Time};
use keys::{Keyring, Place, PrivateKey};
use std::collections::HashMap;
use store::authority::CrlRecord;
use x509::{Certificate, Crl, PublicKey, VerifyingKey, digest, pem};

/// A certificate of an authority, and how it is called in findings.
struct Found {
    name: String,
    stored: AuthorityCertificate,
    certificate: Certificate,
}

impl Context {
    /// Checks every authority, deleted ones too, and gives the keys that the inventory's signatures must hold under.
    pub(super) async fn check_authorities(&self, report: &mut Report) -> Result<Issuers> {
        let mut issuers = Issuers::default();
        let (mut found, mut below) = (Vec::new(), Vec::new());
        for authority in store::authority::all(&self.db).await.map_err(failed)? {
            report.authorities += 1;
            let subject = format!("certificate authority {} ({})", authority.name, authority.id);
            let keys = self.check_keys(&authority, &subject, report).await?;
            let certificates = self.read_certificates(&authority, &subject, &keys, report).await?;
            check_columns(&authority, &subject, &certificates, report);
            self.check_responders(&subject, &keys, report).await?;
            for one in certificates {
                match one.certificate.verifying_key() {
                    Ok(_) => issuers.add(&one.stored),
                    Err(problem) => report.find(&one.name, format!("its key is not usable: {problem}")),
                }
                if Some(one.stored.id) == authority.active_certificate
                    && let Some(by) = one.stored.parent_certificate
                {
                    below.push((subject.clone(), authority.parent, by));
                }
                found.push(one);
            }
            for list in store::authority::crls(&self.db, authority.id).await.map_err(failed)? {
                issuers.lists.insert((list.key, list.shard), list.id);
                if let Some(crl) = check_list(&list, &subject, &keys, report) {
                    self.check_entries(&crl, &list, report).await?;
                }
            }
        }
        for one in &found {
            check_signature(one, &issuers, report);
        }
        for (subject, parent, by) in below {
            if parent.is_none() || issuers.keys.get(&by).map(|issuer| issuer.authority) != parent {
                report.find(&subject, "its stored parent is not the authority that signed its active certificate");
            }
        }
        Ok(issuers)
    }

    async fn check_keys(
        &self,
        authority: &Authority,
        subject: &str,
        report: &mut Report,
    ) -> Result<HashMap<AuthorityKeyId, AuthorityKey>> {
        let mut keys = HashMap::new();
        for id in store::check::authority_keys(&self.db, authority.id).await.map_err(failed)? {
            let name = format!("{subject}, key {id}");
            match store::authority::key(&self.db, id).await.map_err(failed)? {
                None => report.find(&name, "its revocation list is not stored"),
                Some(key) => {
                    self.check_key(&key, &name, report).await?;
                    keys.insert(id, key);
                }
            }
        }
        match keys.get(&authority.active_key) {
            None => report.find(subject, "its active key is not stored"),
            Some(key) if key.algorithm != authority.key_algorithm => {
                report.find(subject, "its stored key algorithm is not that of its key");
            }
            Some(_) => {}
        }
        Ok(keys)
    }

    async fn check_key(&self, key: &AuthorityKey, name: &str, report: &mut Report) -> Result<()> {
        if let Some(sealed) = &key.sealed {
            if Keyring::value_version(sealed).ok() != Some(key.data_key_version) {
                report.find(name, "the stored version of its data key is not the one that sealed it");
            }
            let place = Place { table: "authority_keys", row: key.id.as_bytes(), project: key.project.as_bytes() };
            match self.open(place, sealed).await {
                Err(error) => report.find(name, format!("its private half does not open: {error}")),
                Ok(opened) => match PrivateKey::from_pkcs8(opened.expose()) {
                    Err(error) => report.find(name, format!("its private half does not read: {error}")),
                    Ok(private) if private.public_spki_der() != key.spki => {
                        report.find(name, "its private half is not that of its public half");
                    }
                    Ok(_) => {}
                },
            }
        }
        let public = match PublicKey::from_spki_der(&key.spki) {
            Ok(public) => public,
            Err(problem) => {
                report.find(name, format!("its public half is not usable: {problem}"));
                return Ok(());
            }
        };
        if public.algorithm() != key.algorithm {
            report.find(name, "its stored algorithm is not its own");
        }
        let octets = public.key_octets();
        let same = match store::check::key_columns(&self.db, key.id).await.map_err(failed)? {
            None => false,
            Some((issuer, stored)) => {
                let name_hashes = [digest::sha1(&issuer).to_vec(), digest::sha256(&issuer).to_vec()];
                let key_hashes = [digest::sha1(octets).to_vec(), digest::sha256(octets).to_vec()];
                stored[..2] == name_hashes && stored[2..] == key_hashes
            }
        };
        if !same {
            report.find(name, "its stored hashes are not those of its name and itself");
        }
        Ok(())
    }

    /// The certificates that read, each held against its key and the columns beside it.
    async fn read_certificates(
        &self,
        authority: &Authority,
        subject: &str,
        keys: &HashMap<AuthorityKeyId, AuthorityKey>,
        report: &mut Report,
    ) -> Result<Vec<Found>> {
        let columns = store::check::authority_certificate_columns(&self.db, authority.id).await.map_err(failed)?;
        let mut found = Vec::new();
        for stored in store::authority::certificates(&self.db, authority.id).await.map_err(failed)? {
            let name = format!("{subject}, certificate {}", stored.version);
            let certificate = match Certificate::from_der(stored.der.clone()) {
                Ok(certificate) => certificate,
                Err(error) => {
                    report.find(&name, format!("it does not read: {error}"));
                    continue;
                }
            };
            if keys.get(&stored.key).is_none_or(|key| key.spki != certificate.spki_der()) {
                report.find(&name, "it certifies another key");
            }
            let is_derived = columns.iter().find(|columns| columns.id == stored.id).is_some_and(|columns| {
                columns.issuer_sha256 == digest::sha256(certificate.issuer().as_der())
                    && columns.serial == certificate.serial_content()
                    && columns.not_before == Time::from_seconds(certificate.not_before())
                    && columns.not_after == Time::from_seconds(certificate.not_after())
            });
            if !is_derived {
                report.find(&name, "its stored issuer, serial number or lifetime is not that of the certificate");
            }
            found.push(Found { name, stored, certificate });
        }
        Ok(found)
    }
}

/// What the authority's own row says of its active certificate.
fn check_columns(authority: &Authority, subject: &str, certificates: &[Found], report: &mut Report) {
    let Some(active) = authority.active_certificate else {
        if !certificates.is_empty() {
            report.find(subject, "it has certificates, and none of them is active");
        }
        return;
    };
    let Some(Found { certificate, .. }) = certificates.iter().find(|found| found.stored.id == active) else {
        return report.find(subject, "its active certificate is not stored");
    };
    let is_derived = authority.serial_number.as_deref() == Some(&domain::inventory::serial_hex(certificate))
        && authority.not_before == Some(Time::from_seconds(certificate.not_before()))
        && authority.not_after == Some(Time::from_seconds(certificate.not_after()));
    if !is_derived {
        report.find(subject, "its stored serial number or lifetime is not that of its active certificate");
    }
}

/// The signature under the issuer's key: a certificate of ours, its own, or the first of an imported chain.
fn check_signature(found: &Found, issuers: &Issuers, report: &mut Report) {
    let Found { name, stored, certificate } = found;
    let holds = match (stored.parent_certificate, stored.chain.is_empty()) {
        (Some(parent), _) => issuers.keys.get(&parent).is_some_and(|key| certificate.verify_signature(&key.verifying)),
        (None, true) => certificate.verifying_key().is_ok_and(|key| certificate.verify_signature(&key)),
        (None, false) => {
            let above = pem::decode_all(&stored.chain, pem::CERTIFICATE).unwrap_or_default().into_iter().next();
            let above = above.and_then(|der| Certificate::from_der(der).ok()?.verifying_key().ok());
            above.is_some_and(|key| certificate.verify_signature(&key))
        }
    };
    if !holds {
        report.find(name, "its signature does not hold");
    }
}

/// Checks a list by itself, and gives it back when it reads.
fn check_list(
    list: &CrlRecord,
    subject: &str,
    keys: &HashMap<AuthorityKeyId, AuthorityKey>,
    report: &mut Report,
) -> Option<Crl> {
    let name = format!("{subject}, revocation list {}", list.id);
    let crl = match Crl::from_der(list.der.clone()?) {
        Ok(crl) => crl,
        Err(error) => {
            report.find(&name, format!("it does not read: {error}"));
            return None;
        }
    };
    let key = keys.get(&list.key).and_then(|key| VerifyingKey::from_spki_der(&key.spki).ok());
    if !key.is_some_and(|key| crl.verify_signature(&key)) {
        report.find(&name, "its signature does not hold");
        return None;
    }
    let number = crl
        .number()
        .ok()
        .flatten()
        .map(|octets| octets.iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)));
    let is_derived = number == Some(list.number)
        && list.this_update.map(Time::seconds) == Some(crl.this_update())
        && list.next_update.map(Time::seconds) == crl.next_update();
    if !is_derived {
        report.find(&name, "its stored number or times are not those of the list");
    }
    Some(crl)
}
