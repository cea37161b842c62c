//! Answers that were read, and what has to hold before one is believed (RFC 6960 §3.2, §4.2.2.2).

use std::fmt;

use super::request::{read_extensions, read_nonce, read_version};
use super::{CertificateId, CertificateStatus, SingleAnswer};
use crate::certificate::Certificate;
use crate::der::{Reader, Span, tag};
use crate::error::ParseError;
use crate::extension::{ExtendedKeyUsage, Extensions};
use crate::key::VerifyingKey;
use crate::oid;
use crate::revocation::RevocationReason;
use crate::signed::Signed;

/// How far ahead of ours the clock of a responder may be.
const CLOCK_DIFFERENCE_SECONDS: i64 = 300;
/// The most certificates that an answer is to carry.
const CERTIFICATES_MAX: usize = 8;

/// An answer that was read: the status of certificates, said by a responder.
pub struct OcspAnswer {
    /// The BasicOCSPResponse.
    der: Vec<u8>,
    signed: Signed,
    responder: Responder,
    produced_at: i64,
    answers: Vec<ReadAnswer>,
    nonce: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
}

/// Who says that it signed.
enum Responder {
    /// The one of this name, in DER.
    Name(Vec<u8>),
    /// The one whose key has this SHA-1.
    Key(Vec<u8>),
}

struct ReadAnswer {
    id: Span,
    status: CertificateStatus,
    this_update: i64,
    next_update: Option<i64>,
}

/// Why an answer is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerProblem {
    /// It says nothing about this certificate.
    OtherCertificate,
    /// Nobody signed it whom the issuer of the certificate lets speak of it: neither itself nor a responder with a
    /// certificate of its own for signing such answers.
    NoAuthority,
    /// The certificate of the responder is not valid at this time.
    ResponderNotValid,
    /// Its signature does not hold.
    Signature,
    /// It is from the future.
    Early,
    /// It has run out.
    Late,
}

impl OcspAnswer {
    /// Reads a successful OCSPResponse that fills the input.
    pub fn from_der(der: &[u8]) -> Result<Self, ParseError> {
        const FIELD: &str = "ocspResponse";
        let mut outer = Reader::new(der);
        let mut response = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        if response.tagged(tag::ENUMERATED, "responseStatus")?.content != [0] {
            return Err(ParseError::invalid("responseStatus", "it is not successful"));
        }
        let mut explicit = response.nested(tag::context_constructed(0), "responseBytes")?;
        response.finish(FIELD)?;
        let mut bytes = explicit.sequence("responseBytes")?;
        explicit.finish("responseBytes")?;
        if bytes.oid("responseType")? != oid::OCSP_BASIC {
            return Err(ParseError::invalid("responseType", "it is not id-pkix-ocsp-basic"));
        }
        let basic = bytes.octet_string("response")?;
        bytes.finish("responseBytes")?;
        Self::read_basic(basic.to_vec())
    }

    fn read_basic(der: Vec<u8>) -> Result<Self, ParseError> {
        const FIELD: &str = "basicOCSPResponse";
        let mut outer = Reader::new(&der);
        let mut basic = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let contents = basic.tagged(tag::SEQUENCE, "tbsResponseData")?;
        let algorithm = basic.tagged(tag::SEQUENCE, "signatureAlgorithm")?.span();
        let signature = basic.tagged(tag::BIT_STRING, "signature")?;
        let [0, octets @ ..] = signature.content else {
            return Err(ParseError::invalid("signature", "a bit string of whole octets is expected"));
        };
        let signed =
            Signed { contents: contents.span(), algorithm, signature: signature.content_span().last(octets.len()) };
        let mut certificates = Vec::new();
        if let Some(list) = basic.optional(tag::context_constructed(0), "certs")? {
            let mut list = list.open("certs")?.sequence("certs")?;
            while !list.is_empty() {
                if certificates.len() == CERTIFICATES_MAX {
                    return Err(ParseError::invalid("certs", "there are too many"));
                }
                certificates.push(Certificate::from_der(list.tagged(tag::SEQUENCE, "certs")?.whole.to_vec())?);
            }
        }
        basic.finish(FIELD)?;
        let mut tbs = contents.open("tbsResponseData")?;
        read_version(&mut tbs)?;
        let responder = Responder::read(&mut tbs)?;
        let produced_at = tbs.generalized_time("producedAt")?;
        let mut list = tbs.sequence("responses")?;
        let mut answers = Vec::new();
        while !list.is_empty() {
            answers.push(ReadAnswer::read(list.sequence("responses")?)?);
        }
        let extensions = read_extensions(&mut tbs, 1, &der)?;
        tbs.finish("tbsResponseData")?;
        let nonce = Extensions::new(&der, &extensions).value(oid::OCSP_NONCE, read_nonce)?.map(<[u8]>::to_vec);
        Ok(Self { signed, responder, produced_at, answers, nonce, certificates, der })
    }

    /// When it was made, in seconds since the epoch.
    pub fn produced_at(&self) -> i64 {
        self.produced_at
    }

    /// What it says, in its order. Nothing of it is checked yet: see [`OcspAnswer::verified`].
    pub fn answers(&self) -> impl ExactSizeIterator<Item = SingleAnswer<'_>> {
        self.answers.iter().map(|answer| SingleAnswer {
            id_der: answer.id.of(&self.der),
            status: answer.status,
            this_update: answer.this_update,
            next_update: answer.next_update,
        })
    }

    /// The nonce that it repeats.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The certificates that came with it.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What it says of a certificate, when that is to be believed at this time, in seconds since the epoch: whoever
    /// signed it is the issuer or was let by the issuer speak of its certificates (RFC 6960 §4.2.2.2), the signature
    /// holds, and it has not run out.
    pub fn verified(&self, issuer: &Certificate, id_der: &[u8], now: i64) -> Result<SingleAnswer<'_>, AnswerProblem> {
        let answer = self.answers().find(|answer| answer.id_der == id_der).ok_or(AnswerProblem::OtherCertificate)?;
        let id = CertificateId::read(id_der).map_err(|_| AnswerProblem::OtherCertificate)?;
        let issuer_key = issuer.verifying_key().map_err(|_| AnswerProblem::NoAuthority)?;
        let names_issuer = id.hash.is_some_and(|hash| {
            id.issuer_name_hash == hash.of(issuer.subject().as_der())
                && id.issuer_key_hash == hash.of(issuer_key.key_octets())
        });
        if !names_issuer {
            return Err(AnswerProblem::OtherCertificate);
        }
        if self.responder.is(issuer, &issuer_key) {
            self.must_be_signed_by(&issuer_key)?;
        } else {
            self.must_be_signed_by(&self.delegate(issuer, &issuer_key, now)?)?;
        }
        if answer.this_update > now + CLOCK_DIFFERENCE_SECONDS {
            return Err(AnswerProblem::Early);
        }
        if answer.next_update.is_none_or(|end| end < now) {
            return Err(AnswerProblem::Late);
        }
        Ok(answer)
    }

    /// The key of the responder, by a certificate for this purpose that the issuer itself signed.
    fn delegate(
        &self,
        issuer: &Certificate,
        issuer_key: &VerifyingKey,
        now: i64,
    ) -> Result<VerifyingKey, AnswerProblem> {
        for certificate in &self.certificates {
            let Ok(key) = certificate.verifying_key() else { continue };
            let usages = certificate.extensions().extended_key_usages().ok().flatten().unwrap_or_default();
            let may_speak = self.responder.is(certificate, &key)
                && usages.contains(&ExtendedKeyUsage::OcspSigning)
                && certificate.issuer().as_der() == issuer.subject().as_der()
                && certificate.verify_signature(issuer_key);
            if may_speak {
                let is_valid =
                    certificate.not_before() <= now + CLOCK_DIFFERENCE_SECONDS && now <= certificate.not_after();
                return if is_valid { Ok(key) } else { Err(AnswerProblem::ResponderNotValid) };
            }
        }
        Err(AnswerProblem::NoAuthority)
    }

    fn must_be_signed_by(&self, key: &VerifyingKey) -> Result<(), AnswerProblem> {
        if self.signed.verify(&self.der, key) { Ok(()) } else { Err(AnswerProblem::Signature) }
    }
}

impl Responder {
    fn read(tbs: &mut Reader<'_>) -> Result<Self, ParseError> {
        const FIELD: &str = "responderID";
        let element = tbs.any(FIELD)?;
        let mut inner = element.open(FIELD)?;
        let responder = if element.tag == tag::context_constructed(1) {
            Self::Name(inner.tagged(tag::SEQUENCE, FIELD)?.whole.to_vec())
        } else if element.tag == tag::context_constructed(2) {
            Self::Key(inner.octet_string(FIELD)?.to_vec())
        } else {
            return Err(ParseError::invalid(FIELD, "it is neither a name nor a key"));
        };
        inner.finish(FIELD)?;
        Ok(responder)
    }

    fn is(&self, certificate: &Certificate, key: &VerifyingKey) -> bool {
        match self {
            Self::Name(name) => certificate.subject().as_der() == name,
            Self::Key(key_id) => key.key_id_sha1() == key_id[..],
        }
    }
}

impl ReadAnswer {
    fn read(mut single: Reader<'_>) -> Result<Self, ParseError> {
        let id = single.tagged(tag::SEQUENCE, "certID")?.span();
        let status = single.any("certStatus")?;
        let status = match status.tag {
            tag if tag == tag::context(0) => CertificateStatus::Good,
            tag if tag == tag::context(2) => CertificateStatus::Unknown,
            tag if tag == tag::context_constructed(1) => {
                let mut revoked = status.open("revoked")?;
                let at = revoked.generalized_time("revocationTime")?;
                let reason = match revoked.optional(tag::context_constructed(0), "revocationReason")? {
                    Some(reason) => match reason.content {
                        [tag::ENUMERATED, 1, code] => RevocationReason::from_code(*code),
                        _ => return Err(ParseError::invalid("revocationReason", "it is not a CRLReason")),
                    },
                    None => None,
                };
                revoked.finish("revoked")?;
                CertificateStatus::Revoked { at, reason }
            }
            _ => return Err(ParseError::invalid("certStatus", "it is neither good, revoked nor unknown")),
        };
        let this_update = single.generalized_time("thisUpdate")?;
        let next_update = match single.optional(tag::context_constructed(0), "nextUpdate")? {
            Some(time) => Some(time.open("nextUpdate")?.generalized_time("nextUpdate")?),
            None => None,
        };
        single.optional(tag::context_constructed(1), "singleExtensions")?;
        single.finish("responses")?;
        Ok(Self { id, status, this_update, next_update })
    }
}

impl fmt::Display for AnswerProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OtherCertificate => "it says nothing about this certificate of this issuer",
            Self::NoAuthority => "nobody signed it whom the issuer lets speak of its certificates",
            Self::ResponderNotValid => "the certificate of its responder is not valid now",
            Self::Signature => "its signature does not hold",
            Self::Early => "it is from the future: compare the clocks",
            Self::Late => "it has run out",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::SignatureAlgorithm;
    use crate::ocsp::{AnswerTemplate, IdentifierHash, OcspRefusal, assemble_answer};

    #[test]
    fn an_answer_is_read_back() {
        let id = CertificateId::encode(IdentifierHash::Sha1, &[1; 20], &[2; 20], &[7]);
        let other = CertificateId::encode(IdentifierHash::Sha256, &[3; 32], &[4; 32], &[9]);
        let revoked = CertificateStatus::Revoked { at: 1_600_000_000, reason: Some(RevocationReason::KeyCompromise) };
        let answers = [
            SingleAnswer { id_der: &id, status: CertificateStatus::Good, this_update: 1, next_update: Some(2) },
            SingleAnswer { id_der: &other, status: revoked, this_update: 3, next_update: None },
            SingleAnswer { id_der: &id, status: CertificateStatus::Unknown, this_update: 3, next_update: Some(4) },
        ];
        let template = AnswerTemplate { responder_key_id: &[2; 20], produced_at: 5, nonce: Some(&[6, 7]) };
        let tbs = template.to_be_signed(&answers);
        let leaf = crate::pem::decode_all(include_str!("../../testdata/leaf.pem"), crate::pem::CERTIFICATE).unwrap();
        let whole = assemble_answer(&tbs, SignatureAlgorithm::Ed25519, &[0; 64], &leaf[0]);
        let read = OcspAnswer::from_der(&whole).unwrap();
        assert_eq!((read.produced_at(), read.nonce()), (5, Some(&[6, 7][..])));
        assert_eq!(read.certificates()[0].as_der(), leaf[0]);
        assert!(matches!(&read.responder, Responder::Key(key) if *key == [2; 20]));
        assert_eq!(read.answers().len(), answers.len());
        for (read, written) in read.answers().zip(answers) {
            assert_eq!((read.id_der, read.status), (written.id_der, written.status));
            assert_eq!((read.this_update, read.next_update), (written.this_update, written.next_update));
        }
        for length in 0..whole.len() {
            assert!(OcspAnswer::from_der(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_refusal_is_no_answer_and_is_known_again() {
        for refusal in [
            OcspRefusal::MalformedRequest,
            OcspRefusal::InternalError,
            OcspRefusal::TryLater,
            OcspRefusal::Unauthorized,
        ] {
            assert!(OcspAnswer::from_der(&refusal.to_der()).is_err());
            assert_eq!(OcspRefusal::from_der(&refusal.to_der()), Some(refusal));
        }
        assert_eq!(OcspRefusal::from_der(&[0x30, 3, 10, 1, 5]), None);
    }
}
