//! A path out of exactly the given certificates: what an authority's certificate is imported with.
//!
//! The order in which they are given is free, each must be used once, and the last need not be self-signed. All of them
//! must be authorities that may have the imported one below them.

use std::error::Error;
use std::fmt;

use super::constraints::Comparisons;
use super::facts::{Facts, Strictness, check_identifiers, key_breach, quoted, quoted_name};
use super::name_match::ComparableName;
use super::path::{self, FirstCounts};
use super::rule::{Breach, Rule};
use super::{DEPTH_MAX, Place, SIGNATURES_MAX};
use crate::certificate::Certificate;

/// Why certificates are no path: which rule, which certificate, and how it breaks the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactRefusal {
    /// Which certificate: the imported one, or an index into those given with it.
    pub certificate: Place,
    /// Its subject, as text.
    pub subject: String,
    /// The rule that it breaks.
    pub rule: Rule,
    /// How, in words about the certificate ("it expired at …").
    pub message: String,
}

/// Puts the given certificates in the order of a path upwards from an authority's certificate: the direct issuer first,
/// as indices. Every one of them must be used, be an authority, be valid at the time (seconds since the epoch), and keep
/// the rules of RFC 5280 in its place. Those given count as [`Place::Intermediate`].
pub fn build_exact(leaf: &Certificate, given: &[Certificate], time: i64) -> Result<Vec<usize>, ExactRefusal> {
    let refusal = |place, breach: Breach| {
        let certificate = match place {
            Place::Intermediate(index) | Place::Anchor(index) => given.get(index).unwrap_or(leaf),
            Place::Leaf => leaf,
        };
        let subject = certificate.subject().render();
        ExactRefusal { certificate: place, subject, rule: breach.rule, message: breach.message }
    };
    check_repetitions(leaf, given).map_err(|(place, breach)| refusal(place, breach))?;
    let leaf_facts = check_alone(leaf, time).map_err(|breach| refusal(Place::Leaf, breach))?;
    if leaf_facts.key_usages.is_none() {
        // RFC 5280 §4.2.1.3 wants it of every authority. Older authorities above may lack it; a new one may not.
        let breach =
            Breach::new(Rule::KeyCertSignMissing, "it has no key usage, which an authority's holds keyCertSign");
        return Err(refusal(Place::Leaf, breach));
    }
    check_depth(leaf, given).map_err(|(place, breach)| refusal(place, breach))?;
    let mut facts = Vec::with_capacity(given.len());
    for (index, certificate) in given.iter().enumerate() {
        facts.push(check_alone(certificate, time).map_err(|breach| refusal(Place::Intermediate(index), breach))?);
    }
    let mut search =
        Search { leaf: &leaf_facts, given: &facts, signatures_left: SIGNATURES_MAX, order: Vec::new(), best: None };
    search.climb().map_err(|(place, breach)| refusal(place, breach))?;
    let order = search.order;
    check_path(&leaf_facts, &facts, &order).map_err(|(place, breach)| refusal(place, breach))?;
    Ok(order)
}

type BreachOf = (Place, Breach);

/// RFC 5280 §4.2.1.1 and §4.2.1.2 ask issuers for key identifiers; here they only have to agree where they are.
const STRICTNESS: Strictness = Strictness { key_ids_required: false, name_constraints_critical: true };

fn check_repetitions(leaf: &Certificate, given: &[Certificate]) -> Result<(), BreachOf> {
    for (index, certificate) in given.iter().enumerate() {
        let place = Place::Intermediate(index);
        if certificate == leaf {
            return Err((place, Breach::new(Rule::SubjectInChain, "it is the certificate that the chain belongs to")));
        }
        if given.iter().take(index).any(|earlier| earlier == certificate) {
            return Err((place, Breach::new(Rule::DuplicateCertificate, "it is given more than once")));
        }
    }
    Ok(())
}

/// invariants C14: below the imported authority stand certificates whose paths are validated, with it and those above it as
/// intermediates. All of the given ones are in the path, so they can be counted before any signature is checked.
fn check_depth(leaf: &Certificate, given: &[Certificate]) -> Result<(), BreachOf> {
    let places = std::iter::once(Place::Leaf).chain((0..given.len()).map(Place::Intermediate));
    let mut intermediates =
        places.zip(std::iter::once(leaf).chain(given)).filter(|(_, certificate)| !certificate.is_self_issued());
    match intermediates.nth(DEPTH_MAX as usize) {
        None => Ok(()),
        Some((place, _)) => {
            let words = format!("a path with it has more than {DEPTH_MAX} intermediate certificates");
            Err((place, Breach::new(Rule::DepthExceeded, words)))
        }
    }
}

/// The rules that a certificate keeps or breaks wherever it is in the path.
fn check_alone(certificate: &Certificate, time: i64) -> Result<Facts<'_>, Breach> {
    let facts = Facts::read(certificate)?;
    facts.check_signed()?;
    if !facts.is_self_issued() {
        facts.check_serial()?;
    }
    facts.check_authority(STRICTNESS)?;
    facts.check_constraints_known()?;
    facts.check_time(time)?;
    if facts.key.algorithm().is_some() {
        // A size that we certify ourselves is held to all rules that we have for keys.
        certificate.public_key().map_err(|problem| key_breach(&problem, certificate.spki_der()))?;
    }
    Ok(facts)
}

/// The rules of the whole path.
fn check_path(leaf: &Facts<'_>, given: &[Facts<'_>], order: &[usize]) -> Result<(), BreachOf> {
    let mut path: Vec<&Facts<'_>> = vec![leaf];
    path.extend(order.iter().filter_map(|index| given.get(*index)));
    let place = |index: usize| match index.checked_sub(1).and_then(|above| order.get(above)) {
        Some(given) => Place::Intermediate(*given),
        None => Place::Leaf,
    };
    if let Some(top) = path.last()
        && is_said_to_be_self_signed(top)
        && !top.certificate.verify_signature(&top.key)
    {
        let words = "it is issued by itself, and its signature was not made by its own key";
        return Err((place(path.len() - 1), Breach::new(Rule::SignatureInvalid, words)));
    }
    path::check(&path, FirstCounts::Yes, &mut Comparisons::new()).map_err(|(index, breach)| (place(index), breach))
}

/// Whether its issuer is itself and no other key of the same name.
fn is_said_to_be_self_signed(facts: &Facts<'_>) -> bool {
    let signer = facts.authority_key_id.as_ref().and_then(|identifier| identifier.key_id.as_deref());
    facts.is_self_issued() && (signer.is_none() || facts.subject_key_id.is_none() || signer == facts.subject_key_id)
}

/// A search through orders of the given certificates. Every step costs a signature check, of which there is a fixed
/// number.
struct Search<'s, 'a> {
    leaf: &'s Facts<'a>,
    given: &'s [Facts<'a>],
    signatures_left: u32,
    /// The path that is being tried, from the direct issuer upwards.
    order: Vec<usize>,
    /// Why the longest path so far does not go on, and its length.
    best: Option<(usize, BreachOf)>,
}

impl<'s, 'a> Search<'s, 'a> {
    /// Makes `order` hold all certificates, or says why the longest path does not go on.
    fn climb(&mut self) -> Result<(), BreachOf> {
        if self.climb_on()? {
            return Ok(());
        }
        Err(self.best.take().map_or_else(|| self.unused(), |(_, breach)| breach))
    }

    /// Whether a path through all certificates that are left was found; an error when no more work is allowed.
    fn climb_on(&mut self) -> Result<bool, BreachOf> {
        if self.order.len() == self.given.len() {
            return Ok(true);
        }
        let (child_place, child) = self.top();
        let mut reason = None;
        for (index, issuer) in self.given.iter().enumerate() {
            if self.order.contains(&index) || issuer.certificate.subject() != child.certificate.issuer() {
                continue;
            }
            if let Err(breach) = check_identifiers(child, issuer) {
                reason = Some((child_place, breach));
                continue;
            }
            self.spend_signature()?;
            if !child.certificate.verify_signature(&issuer.key) {
                let words = format!("its signature was not made by the key of {}", quoted(issuer.certificate));
                reason = Some((child_place, Breach::new(Rule::SignatureInvalid, words)));
                continue;
            }
            self.order.push(index);
            if self.climb_on()? {
                return Ok(true);
            }
            self.order.pop();
        }
        let length = self.order.len();
        if self.best.as_ref().is_none_or(|(best, _)| *best < length) {
            let reason = match reason {
                Some(reason) => reason,
                None => self.name_mismatch(child_place, child)?.unwrap_or_else(|| self.unused()),
            };
            self.best = Some((length, reason));
        }
        Ok(false)
    }

    /// The certificate at the top of the path so far.
    fn top(&self) -> (Place, &'s Facts<'a>) {
        let top = self.order.last().and_then(|index| self.given.get(*index).map(|facts| (*index, facts)));
        top.map_or((Place::Leaf, self.leaf), |(index, facts)| (Place::Intermediate(index), facts))
    }

    /// A certificate that is left and must be the issuer, although its subject is not the issuer's name octet for octet.
    fn name_mismatch(&mut self, place: Place, child: &Facts<'_>) -> Result<Option<BreachOf>, BreachOf> {
        let issuer_name = ComparableName::new(child.certificate.issuer());
        for (index, issuer) in self.given.iter().enumerate() {
            if self.order.contains(&index) || issuer.certificate.subject() == child.certificate.issuer() {
                continue;
            }
            let same_text = ComparableName::new(issuer.certificate.subject()) == issuer_name;
            if !same_text {
                self.spend_signature()?;
            }
            if same_text || child.certificate.verify_signature(&issuer.key) {
                let words = format!(
                    "its issuer {} is not octet for octet the subject of {}",
                    quoted_name(child.certificate.issuer()),
                    quoted(issuer.certificate)
                );
                return Ok(Some((place, Breach::new(Rule::IssuerNameMismatch, words))));
            }
        }
        Ok(None)
    }

    /// The first certificate that is not part of the path.
    fn unused(&self) -> BreachOf {
        let (_, top) = self.top();
        let index = (0..self.given.len()).find(|index| !self.order.contains(index)).unwrap_or_default();
        let words = format!(
            "it is not part of the path, which goes up to {}, issued by {}",
            quoted(top.certificate),
            quoted_name(top.certificate.issuer())
        );
        (Place::Intermediate(index), Breach::new(Rule::UnusedCertificate, words))
    }

    fn spend_signature(&mut self) -> Result<(), BreachOf> {
        let exhausted = || {
            let words = "too many signatures would have to be checked to find a path";
            (Place::Leaf, Breach::new(Rule::BudgetExhausted, words))
        };
        self.signatures_left = self.signatures_left.checked_sub(1).ok_or_else(exhausted)?;
        Ok(())
    }
}

impl fmt::Display for ExactRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match self.certificate {
            Place::Leaf => "the certificate",
            Place::Intermediate(_) | Place::Anchor(_) => "the certificate of the chain",
        };
        write!(formatter, "{which} \"{}\": {} [{}]", self.subject, self.message, self.rule)
    }
}

impl Error for ExactRefusal {}
