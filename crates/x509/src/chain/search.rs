//! The search for a path from a certificate to a trusted one.
//!
//! Depth first, from the certificate upwards. Every step upwards costs a signature check, of which there is a fixed
//! number: whatever the certificates are, the search ends.

use std::cell::OnceCell;

use super::constraints::Comparisons;
use super::facts::{Facts, Strictness, check_identifiers, quoted, quoted_name};
use super::path::{self, BreachAt, FirstCounts};
use super::rule::{Breach, Rule};
use super::{DEPTH_MAX, Options, Place, Purpose, Refused, SIGNATURES_MAX, Verdict, revocation, web};
use crate::certificate::Certificate;
use crate::extension::KeyUsage;

/// Finds a path, or why there is none.
pub(super) fn run(leaf: &Certificate, options: &Options<'_>) -> Verdict {
    let facts = match check_leaf(leaf, options) {
        Ok(facts) => facts,
        Err(breach) => return refused(vec![breach.of(Place::Leaf)]),
    };
    let candidates = Candidates::new(options);
    // A certificate that is itself trusted needs no other.
    if let Some(index) = options.anchors.iter().position(|anchor| anchor == leaf) {
        return match candidates.anchor(index) {
            Ok(_) => Verdict { valid: true, path: vec![Place::Anchor(index)], refused: Vec::new() },
            Err(breach) => refused(vec![breach.clone().of(Place::Anchor(index))]),
        };
    }
    let mut search = Search {
        options,
        candidates: &candidates,
        signatures_left: SIGNATURES_MAX,
        comparisons: Comparisons::new(),
        refused: Vec::new(),
    };
    let mut steps = vec![Step { place: Place::Leaf, facts: &facts }];
    match search.climb(&mut steps) {
        Outcome::Found => {
            let path = steps.iter().map(|step| step.place).collect();
            Verdict { valid: true, path, refused: search.refused }
        }
        Outcome::NotFound | Outcome::Exhausted => refused(search.refused),
    }
}

fn refused(refused: Vec<Refused>) -> Verdict {
    Verdict { valid: false, path: Vec::new(), refused }
}

/// The certificates that a path may be made of, each looked at when it is first tried.
struct Candidates<'a> {
    options: &'a Options<'a>,
    anchors: Vec<OnceCell<Result<Facts<'a>, Breach>>>,
    intermediates: Vec<OnceCell<Result<Facts<'a>, Breach>>>,
}

struct Search<'s, 'a> {
    options: &'a Options<'a>,
    candidates: &'s Candidates<'a>,
    signatures_left: u32,
    comparisons: Comparisons,
    refused: Vec<Refused>,
}

/// A certificate on the path that is being tried.
#[derive(Clone, Copy)]
struct Step<'s, 'a> {
    place: Place,
    facts: &'s Facts<'a>,
}

/// A certificate that a path may go on with.
#[derive(Clone, Copy)]
enum Candidate {
    Anchor(usize),
    Intermediate(usize),
}

enum Outcome {
    Found,
    NotFound,
    /// No more work is allowed.
    Exhausted,
}

impl Candidate {
    fn place(self) -> Place {
        match self {
            Self::Anchor(index) => Place::Anchor(index),
            Self::Intermediate(index) => Place::Intermediate(index),
        }
    }
}

impl<'a> Candidates<'a> {
    fn new(options: &'a Options<'a>) -> Self {
        let cells = |count: usize| (0..count).map(|_| OnceCell::new()).collect();
        Self { options, anchors: cells(options.anchors.len()), intermediates: cells(options.intermediates.len()) }
    }

    fn anchor(&self, index: usize) -> &Result<Facts<'a>, Breach> {
        self.anchors[index].get_or_init(|| {
            let facts = Facts::read(&self.options.anchors[index])?;
            self.check_authority(&facts)?;
            if self.options.purpose == Purpose::WebPki {
                web::check_anchor(&facts)?;
            }
            Ok(facts)
        })
    }

    fn intermediate(&self, index: usize) -> &Result<Facts<'a>, Breach> {
        self.intermediates[index].get_or_init(|| {
            let facts = Facts::read(&self.options.intermediates[index])?;
            facts.check_signed()?;
            facts.check_serial()?;
            self.check_authority(&facts)?;
            check_authority_key_id(&facts)?;
            Ok(facts)
        })
    }

    fn check_authority(&self, facts: &Facts<'_>) -> Result<(), Breach> {
        facts.check_authority(strictness(self.options.purpose))?;
        facts.check_time(self.options.time)?;
        // RFC 5280 §4.2.1.1: only what is self-signed may be without it.
        if !facts.is_self_issued() && facts.authority_key_id.is_none() {
            return Err(Breach::new(Rule::AkiMissing, "it has no authority key identifier and is not self-signed"));
        }
        Ok(())
    }

    fn facts(&self, candidate: Candidate) -> &Result<Facts<'a>, Breach> {
        match candidate {
            Candidate::Anchor(index) => self.anchor(index),
            Candidate::Intermediate(index) => self.intermediate(index),
        }
    }

    /// The certificates that the path may go on with: the trusted ones with the name of the last one's issuer, then the
    /// others. A path does not lead twice over the same name with the same key: what the second could add, the first had
    /// as well.
    fn above(&self, steps: &[Step<'_, '_>]) -> Vec<Candidate> {
        let Some(child) = steps.last() else { return Vec::new() };
        let issuer = child.facts.certificate.issuer();
        let is_repeated = |certificate: &Certificate| {
            steps
                .iter()
                .map(|step| step.facts.certificate)
                .any(|known| known.subject() == certificate.subject() && known.spki_der() == certificate.spki_der())
        };
        let anchors = self.options.anchors.iter().enumerate();
        let intermediates = self.options.intermediates.iter().enumerate();
        anchors
            .filter(|(_, certificate)| certificate.subject() == issuer)
            .map(|(index, _)| Candidate::Anchor(index))
            .chain(
                intermediates
                    .filter(|(_, certificate)| certificate.subject() == issuer && !is_repeated(certificate))
                    .map(|(index, _)| Candidate::Intermediate(index)),
            )
            .collect()
    }
}

impl<'s, 'a> Search<'s, 'a> {
    /// Goes on from the last certificate of the path to one that signed it.
    fn climb(&mut self, steps: &mut Vec<Step<'s, 'a>>) -> Outcome {
        let Some(child) = steps.last().copied() else { return Outcome::NotFound };
        let candidates = self.candidates.above(steps);
        if candidates.is_empty() {
            let words = format!(
                "no further certificate of its issuer {} is given",
                quoted_name(child.facts.certificate.issuer())
            );
            self.refuse(child.place, Breach::new(Rule::Untrusted, words));
        }
        for candidate in candidates {
            let facts = match self.candidates.facts(candidate) {
                Ok(facts) => facts,
                Err(breach) => {
                    self.refuse(candidate.place(), breach.clone());
                    continue;
                }
            };
            match self.step(steps, candidate, facts) {
                Outcome::NotFound => {}
                end => return end,
            }
        }
        Outcome::NotFound
    }

    /// Puts a candidate on the path if it signed the last certificate, and goes on from there.
    fn step(&mut self, steps: &mut Vec<Step<'s, 'a>>, candidate: Candidate, facts: &'s Facts<'a>) -> Outcome {
        let Some(child) = steps.last().copied() else { return Outcome::NotFound };
        let place = candidate.place();
        if let Err(breach) = self.check_depth(steps, candidate, facts) {
            self.refuse(place, breach);
            return Outcome::NotFound;
        }
        if let Err(breach) = check_identifiers(child.facts, facts) {
            self.refuse(child.place, breach);
            return Outcome::NotFound;
        }
        if let Err(breach) = self.spend_signature() {
            self.refuse(Place::Leaf, breach);
            return Outcome::Exhausted;
        }
        if !child.facts.certificate.verify_signature(&facts.key) {
            let words = format!("its signature was not made by the key of {}", quoted(facts.certificate));
            self.refuse(child.place, Breach::new(Rule::SignatureInvalid, words));
            return Outcome::NotFound;
        }
        steps.push(Step { place, facts });
        let outcome = match candidate {
            Candidate::Anchor(_) => self.finish(steps),
            Candidate::Intermediate(_) => self.climb(steps),
        };
        if !matches!(outcome, Outcome::Found) {
            steps.pop();
        }
        outcome
    }

    /// How many intermediate certificates, not counting the self-issued, a path with this candidate has.
    fn check_depth(&self, steps: &[Step<'s, 'a>], candidate: Candidate, facts: &Facts<'_>) -> Result<(), Breach> {
        let intermediates = steps.iter().skip(1).filter(|step| !step.facts.is_self_issued()).count();
        let new = matches!(candidate, Candidate::Intermediate(_)) && !facts.is_self_issued();
        let depth_max = self.options.depth_max.unwrap_or(DEPTH_MAX);
        if u32::try_from(intermediates + usize::from(new)).is_ok_and(|depth| depth <= depth_max) {
            return Ok(());
        }
        let words = format!("a path with it has more than {depth_max} intermediate certificates");
        Err(Breach::new(Rule::DepthExceeded, words))
    }

    /// Holds a whole path to the rules of paths.
    fn finish(&mut self, steps: &[Step<'s, 'a>]) -> Outcome {
        let facts: Vec<&Facts<'_>> = steps.iter().map(|step| step.facts).collect();
        let checked = path::check(&facts, FirstCounts::No, &mut self.comparisons)
            .and_then(|()| match self.options.purpose.extended_key_usage() {
                Some(purpose) => path::check_purpose(&facts, &purpose),
                None => Ok(()),
            })
            .and_then(|()| self.check_revocation(&facts));
        let Err((index, breach)) = checked else { return Outcome::Found };
        let is_end = breach.rule == Rule::BudgetExhausted;
        if let Some(step) = steps.get(index) {
            self.refuse(step.place, breach);
        }
        if is_end { Outcome::Exhausted } else { Outcome::NotFound }
    }

    fn check_revocation(&mut self, facts: &[&Facts<'_>]) -> Result<(), BreachAt> {
        for (index, pair) in facts.windows(2).enumerate() {
            let [child, issuer] = pair else { continue };
            for crl in self.options.crls {
                let at = |breach| (index, breach);
                if !revocation::concerns(crl, child, issuer).map_err(at)? {
                    continue;
                }
                self.spend_signature().map_err(at)?;
                revocation::check(crl, child, issuer, self.options.time).map_err(at)?;
            }
        }
        Ok(())
    }

    /// Whether one more signature may be checked.
    fn spend_signature(&mut self) -> Result<(), Breach> {
        let left = self.signatures_left.checked_sub(1);
        self.signatures_left = left.ok_or_else(|| Breach::new(Rule::BudgetExhausted, TOO_MANY_SIGNATURES))?;
        Ok(())
    }

    fn refuse(&mut self, certificate: Place, breach: Breach) {
        if !self.refused.iter().any(|known| known.certificate == certificate && known.rule == breach.rule) {
            self.refused.push(breach.of(certificate));
        }
    }
}

const TOO_MANY_SIGNATURES: &str = "too many signatures would have to be checked to find a path";

/// RFC 5280 §4.2.1.1: every certificate that is not self-signed names the key that signed it.
fn check_authority_key_id(facts: &Facts<'_>) -> Result<(), Breach> {
    if facts.authority_key_id.is_some() || (facts.is_self_issued() && facts.certificate.verify_signature(&facts.key)) {
        return Ok(());
    }
    Err(Breach::new(Rule::AkiMissing, "it has no authority key identifier and is not self-signed"))
}

/// The rules that the certificate that is validated keeps or breaks on its own.
fn check_leaf<'a>(leaf: &'a Certificate, options: &Options<'_>) -> Result<Facts<'a>, Breach> {
    let facts = Facts::read(leaf)?;
    if !options.anchors.contains(leaf) {
        facts.check_signed()?;
        check_authority_key_id(&facts)?;
    }
    facts.check_serial()?;
    facts.check_end(strictness(options.purpose))?;
    facts.check_time(options.time)?;
    check_use(&facts, options)?;
    Ok(facts)
}

fn strictness(purpose: Purpose) -> Strictness {
    Strictness { key_ids_required: true, name_constraints_critical: purpose != Purpose::WebPki }
}

/// Purpose, key usage and names of the certificate that is validated.
fn check_use(facts: &Facts<'_>, options: &Options<'_>) -> Result<(), Breach> {
    if let Some(purpose) = options.purpose.extended_key_usage() {
        path::check_purpose(&[facts], &purpose).map_err(|(_, breach)| breach)?;
    }
    if let Some(usages) = facts.key_usages {
        let missing =
            KeyUsage::ALL.into_iter().find(|usage| options.key_usages.contains(*usage) && !usages.contains(*usage));
        if let Some(missing) = missing {
            let words = format!("its key usage does not hold {}", missing.camel_name());
            return Err(Breach::new(Rule::KeyUsageMismatch, words));
        }
    }
    let unmet = options.names.iter().find(|name| !facts.alt_names.iter().any(|found| name.is_met_by(found)));
    if let Some(name) = unmet {
        return Err(Breach::new(Rule::NameMismatch, format!("it is not valid for \"{name}\"")));
    }
    if options.purpose == Purpose::WebPki { web::check_leaf(facts) } else { Ok(()) }
}
