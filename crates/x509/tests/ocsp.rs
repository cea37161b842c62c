//! Which answers about certificates are believed (RFC 6960 §3.2, §4.2.2.2): those of the issuer, and those of a responder that
//! the issuer certified for that, about this certificate, at this time.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

// Not every test uses all of it.
#[allow(dead_code)]
#[path = "../../testkit/src/chains.rs"]
mod chains;

use chains::{Draft, TestKey, common_name};
use x509::ocsp::{AnswerProblem, AnswerTemplate, assemble_answer};
use x509::{
    Certificate, CertificateId, CertificateStatus, ExtendedKeyUsage, IdentifierHash, OcspAnswer, SignatureAlgorithm,
    SingleAnswer,
};

const NOW: i64 = 1_750_000_000;
const SERIAL: &[u8] = &[0x40, 1];

/// An authority and a responder that it certified.
struct World {
    authority: TestKey,
    certificate: Certificate,
    responder: TestKey,
}

impl World {
    fn new(name: &str) -> Self {
        let (authority, responder) = (TestKey::generate(), TestKey::generate());
        let subject = common_name(name);
        let der = Draft::authority(&subject, authority.spki(), &subject, NOW).sign(&authority);
        Self { certificate: Certificate::from_der(der).unwrap(), authority, responder }
    }

    fn id(&self, hash: IdentifierHash, serial: &[u8]) -> Vec<u8> {
        let key = self.certificate.verifying_key().unwrap();
        let subject = self.certificate.subject().as_der();
        CertificateId::encode(hash, &hash.of(subject), &hash.of(key.key_octets()), serial)
    }

    /// A certificate of the responder, changed.
    fn delegation(&self, change: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let subject = common_name("Responder");
        let mut draft = Draft::end_entity(&subject, self.responder.spki(), self.certificate.subject(), NOW);
        draft.set_purposes(&[ExtendedKeyUsage::OcspSigning]);
        change(&mut draft);
        draft.sign(&self.authority)
    }
}

/// An answer about an identifier, signed by a key of this identifier, with a certificate beside it.
fn answer(id: &[u8], (from, until): (i64, Option<i64>), key_id: &[u8], signer: &TestKey, beside: &[u8]) -> OcspAnswer {
    let template = AnswerTemplate { responder_key_id: key_id, produced_at: from, nonce: None };
    let single = SingleAnswer { id_der: id, status: CertificateStatus::Good, this_update: from, next_update: until };
    let tbs = template.to_be_signed(&[single]);
    let signature = signer.sign(&tbs);
    OcspAnswer::from_der(&assemble_answer(&tbs, SignatureAlgorithm::EcdsaSha256, &signature, beside)).unwrap()
}

#[test]
fn the_issuer_and_its_responder_are_believed_by_either_hash() {
    let world = World::new("Issuer");
    let delegation = world.delegation(|_| ());
    for hash in [IdentifierHash::Sha1, IdentifierHash::Sha256] {
        let id = world.id(hash, SERIAL);
        for (signer, beside) in [(&world.responder, &delegation[..]), (&world.authority, world.certificate.as_der())] {
            let answer = answer(&id, (NOW, Some(NOW + 60)), &signer.key_id(), signer, beside);
            assert_eq!(answer.verified(&world.certificate, &id, NOW).unwrap().status, CertificateStatus::Good);
        }
    }
}

#[test]
fn an_answer_about_something_else_or_of_another_time_is_not_believed() {
    let (world, other) = (World::new("Issuer"), World::new("Other"));
    let id = world.id(IdentifierHash::Sha256, SERIAL);
    let delegation = world.delegation(|_| ());
    let made = |id: &[u8], period| answer(id, period, &world.responder.key_id(), &world.responder, &delegation);
    let now = (NOW, Some(NOW + 60));
    let check = |answer: OcspAnswer, at, problem| {
        assert_eq!(answer.verified(&world.certificate, &id, at).unwrap_err(), problem);
    };
    check(made(&world.id(IdentifierHash::Sha256, &[0x40, 2]), now), NOW, AnswerProblem::OtherCertificate);
    check(made(&world.id(IdentifierHash::Sha1, SERIAL), now), NOW, AnswerProblem::OtherCertificate);
    check(made(&other.id(IdentifierHash::Sha256, SERIAL), now), NOW, AnswerProblem::OtherCertificate);
    check(made(&id, now), NOW + 61, AnswerProblem::Late);
    check(made(&id, (NOW, None)), NOW, AnswerProblem::Late);
    check(made(&id, now), NOW - 301, AnswerProblem::Early);
    assert!(made(&id, now).verified(&world.certificate, &id, NOW - 299).is_ok());
    // Of an issuer that the identifier does not name, whatever stands in the answer.
    assert_eq!(made(&id, now).verified(&other.certificate, &id, NOW).unwrap_err(), AnswerProblem::OtherCertificate);
}

#[test]
fn whoever_was_not_let_speak_by_the_issuer_is_not_believed() {
    let (world, other) = (World::new("Issuer"), World::new("Issuer"));
    let id = world.id(IdentifierHash::Sha256, SERIAL);
    let check = |beside: Vec<u8>, signer: &TestKey, key_id: &TestKey, problem| {
        let answer = answer(&id, (NOW, Some(NOW + 60)), &key_id.key_id(), signer, &beside);
        assert_eq!(answer.verified(&world.certificate, &id, NOW).unwrap_err(), problem);
    };
    let responder = &world.responder;
    let purposes = |purposes: &'static [ExtendedKeyUsage]| world.delegation(move |draft| draft.set_purposes(purposes));
    check(
        world.delegation(|draft| {
            draft.remove(x509::oid::EXTENDED_KEY_USAGE);
            draft.set_key_ids(&world.responder.key_id(), &world.authority.key_id());
        }),
        responder,
        responder,
        AnswerProblem::NoAuthority,
    );
    check(purposes(&[ExtendedKeyUsage::ServerAuth]), responder, responder, AnswerProblem::NoAuthority);
    // An authority of the same name that is another one.
    check(other.delegation(|_| ()), &other.responder, &other.responder, AnswerProblem::NoAuthority);
    check(world.delegation(|draft| draft.bad_signature = true), responder, responder, AnswerProblem::NoAuthority);
    let of_another = common_name("Another");
    check(
        world.delegation(|draft| draft.issuer = of_another.as_der().to_vec()),
        responder,
        responder,
        AnswerProblem::NoAuthority,
    );
    check(world.delegation(|_| ()), &other.responder, &other.responder, AnswerProblem::NoAuthority);
    check(world.delegation(|_| ()), &other.responder, responder, AnswerProblem::Signature);
    check(world.delegation(|_| ()), &other.responder, &world.authority, AnswerProblem::Signature);
    let ended = chains::written(|writer| writer.time(NOW - 1));
    check(world.delegation(|draft| draft.not_after = ended), responder, responder, AnswerProblem::ResponderNotValid);
    let begins = chains::written(|writer| writer.time(NOW + 301));
    check(world.delegation(|draft| draft.not_before = begins), responder, responder, AnswerProblem::ResponderNotValid);
}

#[test]
fn no_octet_that_is_changed_or_missing_does_harm() {
    let world = World::new("Issuer");
    let id = world.id(IdentifierHash::Sha256, SERIAL);
    let request = x509::OcspRequest::encode(&[&id, &id], Some(&[7; 32]));
    let delegation = world.delegation(|_| ());
    let template =
        AnswerTemplate { responder_key_id: &world.responder.key_id(), produced_at: NOW, nonce: Some(&[7; 32]) };
    let single =
        SingleAnswer { id_der: &id, status: CertificateStatus::Good, this_update: NOW, next_update: Some(NOW + 60) };
    let tbs = template.to_be_signed(&[single]);
    let signature = world.responder.sign(&tbs);
    let whole = assemble_answer(&tbs, SignatureAlgorithm::EcdsaSha256, &signature, &delegation);
    let believed = |der: &[u8]| {
        let answer = OcspAnswer::from_der(der).ok()?;
        answer.verified(&world.certificate, &id, NOW).ok().map(|single| single.status)
    };
    assert_eq!(believed(&whole), Some(CertificateStatus::Good));
    for at in 0..whole.len().max(request.len()) {
        for bit in 0..8 {
            let (mut asked, mut answered) = (request.clone(), whole.clone());
            if let Some(octet) = asked.get_mut(at) {
                *octet ^= 1 << bit;
                if let Ok(read) = x509::OcspRequest::from_der(asked) {
                    assert_eq!(read.certificates().count(), 2);
                }
            }
            if let Some(octet) = answered.get_mut(at) {
                *octet ^= 1 << bit;
                // A bit of what nobody signed may differ: the same is said.
                assert!(believed(&answered).is_none_or(|status| status == CertificateStatus::Good));
            }
        }
    }
}
