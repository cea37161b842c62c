//! Verification for callers: is this certificate good, against trusted ones that are given or against an authority of this
//! server. Nothing is fetched, nothing is stored. The rules are those of `x509::chain`.

use crate::authorities::about;
use crate::context::{Context, failed};
use crate::foreign_lists::is_on;
use async_recursion::async_recursion as compiled_here;
use domain::authority::Authority;
use domain::caller::Caller;
use domain::permission::Action;
use domain::{AuthorityId, CrlId, Error, Result, Time};
use std::collections::BTreeSet;
use x509::chain::{ExpectedName, Options, Place, Purpose, Rule};
use x509::{Certificate, Crl, DnsName, EmailAddress, IpAddress, KeyUsages, pem};

/// How many lists of this server one verification reads.
const OWN_LISTS_MAX: usize = 8;

/// What is to be verified. Certificates and lists are texts in PEM, each with one or more of them.
pub struct Question {
    /// The certificate; what follows it in the text may be part of the path.
    pub leaf: String,
    /// The certificates that are trusted.
    pub anchors: Vec<String>,
    /// Whose certificates are trusted, too. Then the lists of this server are looked at.
    pub authority: Option<AuthorityId>,
    /// Certificates that may be part of the path.
    pub intermediates: Vec<String>,
    /// Revocation lists.
    pub crls: Vec<String>,
    /// When; now if nothing is said.
    pub time: Option<Time>,
    /// What the certificate is used for.
    pub purpose: Purpose,
    /// Hosts, addresses and mailboxes for each of which it must be valid.
    pub names: Vec<String>,
    /// The most intermediate certificates of a path.
    pub depth_max: Option<u32>,
}

/// What was found.
pub struct Verified {
    /// Whether there is a path that keeps all rules.
    pub valid: bool,
    /// That path in PEM, from the certificate to the trusted one.
    pub path: Vec<String>,
    /// The certificates that were tried and could not be part of it.
    pub refused: Vec<RefusedCertificate>,
}

/// A certificate that could not be part of a path.
pub struct RefusedCertificate {
    /// The certificate in PEM.
    pub certificate: String,
    /// The rule that it breaks.
    pub rule: Rule,
    /// How.
    pub message: String,
}

impl Context {
    /// Verifies a certificate.
    #[compiled_here]
    pub async fn verify(&self, caller: &Caller, question: Question) -> Result<Verified> {
        let time = question.time.unwrap_or_else(|| self.now());
        let authority = match question.authority {
            None => None,
            Some(id) => Some(self.find_authority(caller, id).await?),
        };
        if let Some(authority) = &authority {
            caller.may(authority.project, Action::ReadAuthority, &about(&authority.name))?;
        }
        let mut given = certificates("leaf", std::slice::from_ref(&question.leaf))?.into_iter();
        let leaf = given.next().ok_or_else(|| Error::invalid("leaf: there is no certificate in it"))?;
        let mut intermediates: Vec<Certificate> = given.collect();
        intermediates.extend(certificates("intermediates", &question.intermediates)?);
        let mut anchors = certificates("anchors", &question.anchors)?;
        let mut crls = lists(&question.crls)?;
        let names: Vec<ExpectedName> = question.names.iter().map(|name| expected_name(name)).collect::<Result<_>>()?;
        let mut refused = Vec::new();
        if let Some(authority) = authority {
            for own in self.certificates_of(&authority).await? {
                match self.is_withdrawn(&authority, &own).await? {
                    false => anchors.push(own),
                    true => refused.push(RefusedCertificate {
                        certificate: pem::encode(pem::CERTIFICATE, own.as_der()),
                        rule: Rule::Revoked,
                        message: format!("the certificate of {} was revoked by its issuer", authority.name),
                    }),
                }
            }
            crls.extend(self.lists_about(std::iter::once(&leaf).chain(&intermediates), time).await?);
        }
        let (purpose, depth_max) = (question.purpose, question.depth_max);
        // A hundred signatures may be checked.
        let checked = tokio::task::spawn_blocking(move || {
            let options = Options {
                anchors: &anchors,
                intermediates: &intermediates,
                crls: &crls,
                time: time.seconds(),
                purpose,
                key_usages: KeyUsages::NONE,
                names: &names,
                depth_max,
            };
            let verdict = x509::chain::verify(&leaf, &options);
            let shown = |place: Place| {
                let certificate = match place {
                    Place::Leaf => Some(&leaf),
                    Place::Intermediate(index) => intermediates.get(index),
                    Place::Anchor(index) => anchors.get(index),
                };
                certificate.map(|one| pem::encode(pem::CERTIFICATE, one.as_der())).unwrap_or_default()
            };
            refused.extend(verdict.refused.into_iter().map(|refused| RefusedCertificate {
                certificate: shown(refused.certificate),
                rule: refused.rule,
                message: refused.message,
            }));
            Verified { valid: verdict.valid, path: verdict.path.into_iter().map(shown).collect(), refused }
        });
        checked.await.map_err(|error| Error::failed_because("a verification", error))
    }

    async fn certificates_of(&self, authority: &Authority) -> Result<Vec<Certificate>> {
        let stored = store::authority::certificates(&self.db, authority.id).await.map_err(failed)?;
        let certificates: Vec<Certificate> =
            stored.into_iter().map(|one| stored_certificate(one.der)).collect::<Result<_>>()?;
        if certificates.is_empty() {
            return Err(Error::wrong_state(format!(
                "the certificate authority {} has no certificate installed",
                authority.name
            )));
        }
        Ok(certificates)
    }

    /// Whether the certificate of an authority was revoked: by another one of this server, or on a list that was handed in.
    async fn is_withdrawn(&self, authority: &Authority, certificate: &Certificate) -> Result<bool> {
        if self.revocation_in_inventory(authority.project, certificate).await?.is_some() {
            return Ok(true);
        }
        for handed_in in store::foreign_list::of_authority(&self.db, authority.id).await.map_err(failed)? {
            if is_on(&stored_list(handed_in.der)?, certificate) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lists of this server that these certificates name and that are valid at this time.
    async fn lists_about(
        &self,
        certificates: impl Iterator<Item = &Certificate> + Send,
        time: Time,
    ) -> Result<Vec<Crl>> {
        let ids: BTreeSet<CrlId> = certificates.flat_map(named_lists).take(OWN_LISTS_MAX).collect();
        let mut lists = Vec::new();
        for id in ids {
            // One that this server does not have may be anybody's.
            let Some(record) = store::authority::crl(&self.db, id).await.map_err(failed)? else { continue };
            let is_valid = record.this_update.is_some_and(|from| from <= time)
                && record.next_update.is_some_and(|until| time <= until);
            if let (Some(der), true) = (record.der, is_valid) {
                lists.push(stored_list(der)?);
            }
        }
        Ok(lists)
    }
}

/// The lists that a certificate names in the way of this server (contract §4.5), wherever that is.
fn named_lists(certificate: &Certificate) -> Vec<CrlId> {
    let points = certificate.extensions().crl_distribution_points().ok().flatten();
    let id = |url: &str| {
        let path = url.strip_suffix("/der").unwrap_or(url);
        CrlId::parse(path.rsplit_once("/crl/")?.1)
    };
    points.map(|points| points.urls().filter_map(|url| id(url.as_str())).collect()).unwrap_or_default()
}

fn certificates(field: &str, texts: &[String]) -> Result<Vec<Certificate>> {
    read(field, texts, pem::CERTIFICATE, Certificate::from_der)
}

fn lists(texts: &[String]) -> Result<Vec<Crl>> {
    read("crls", texts, pem::CRL, Crl::from_der)
}

fn read<T>(
    field: &str,
    texts: &[String],
    label: &str,
    from_der: impl Fn(Vec<u8>) -> std::result::Result<T, x509::ParseError>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let place = format!("{field}, {} of {}", index + 1, texts.len());
        let wrong = |error| Error::invalid(format!("{place}: {error}"));
        let found = pem::decode_all(text, label).map_err(wrong)?;
        if found.is_empty() {
            return Err(Error::invalid(format!("{place}: there is no {label} in it")));
        }
        for der in found {
            all.push(from_der(der).map_err(wrong)?);
        }
    }
    Ok(all)
}

/// An address, a mailbox or a host, by its form.
fn expected_name(text: &str) -> Result<ExpectedName> {
    let wrong = |error| Error::invalid(format!("names: {text}: {error}"));
    if let Ok(address) = IpAddress::parse(text) {
        return Ok(ExpectedName::Ip(address));
    }
    match text.contains('@') {
        true => EmailAddress::parse(text).map(ExpectedName::Email).map_err(wrong),
        false => DnsName::parse(text).map(ExpectedName::Dns).map_err(wrong),
    }
}

fn stored_certificate(der: Vec<u8>) -> Result<Certificate> {
    Certificate::from_der(der).map_err(|error| Error::failed_because("an authority's certificate does not read", error))
}

fn stored_list(der: Vec<u8>) -> Result<Crl> {
    Crl::from_der(der).map_err(|error| Error::failed_because("a stored revocation list does not read", error))
}
