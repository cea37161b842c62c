//! Answers that are to be signed, and refusals, which nobody signs (RFC 6960 §2.3, §4.2).

use super::request::encode_nonce;
use super::{CertificateStatus, SingleAnswer};
use crate::algorithm::SignatureAlgorithm;
use crate::der::{Writer, tag};
use crate::{oid, signed};

/// The fields of an answer that is to be signed, beside the certificates that it is about.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTemplate<'a> {
    /// SHA-1 of the key of whom signs: the responder's identifier (RFC 6960 §4.2.1, byKey).
    pub responder_key_id: &'a [u8],
    /// When it was made, in seconds since the epoch.
    pub produced_at: i64,
    /// The nonce of the request.
    pub nonce: Option<&'a [u8]>,
}

/// Why there is no answer (RFC 6960 §2.3): sent without a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspRefusal {
    /// The request does not read.
    MalformedRequest,
    /// The server failed.
    InternalError,
    /// The server cannot answer now.
    TryLater,
    /// It is about certificates of which this server does not speak (RFC 5019 §2.2.3).
    Unauthorized,
}

impl AnswerTemplate<'_> {
    /// The ResponseData about these certificates.
    pub fn to_be_signed(&self, answers: &[SingleAnswer<'_>]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(128 + 192 * answers.len());
        writer.sequence(|writer| {
            writer.context(2, |writer| writer.octet_string(self.responder_key_id));
            writer.generalized_time(self.produced_at);
            writer.sequence(|writer| answers.iter().for_each(|answer| answer.encode(writer)));
            if let Some(nonce) = self.nonce {
                writer.context(1, |writer| encode_nonce(nonce, writer));
            }
        });
        writer.into_bytes()
    }
}

impl SingleAnswer<'_> {
    fn encode(&self, writer: &mut Writer) {
        writer.sequence(|writer| {
            writer.raw(self.id_der);
            match self.status {
                CertificateStatus::Good => writer.primitive(tag::context(0), &[]),
                CertificateStatus::Revoked { at, reason } => writer.context(1, |writer| {
                    writer.generalized_time(at);
                    if let Some(reason) = reason {
                        writer.context(0, |writer| writer.primitive(tag::ENUMERATED, &[reason.code()]));
                    }
                }),
                CertificateStatus::Unknown => writer.primitive(tag::context(2), &[]),
            }
            writer.generalized_time(self.this_update);
            if let Some(next_update) = self.next_update {
                writer.context(0, |writer| writer.generalized_time(next_update));
            }
        });
    }
}

/// Puts a ResponseData, its signature and the responder's certificate together: a whole OCSPResponse.
pub fn assemble_answer(
    tbs: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
    responder_certificate: &[u8],
) -> Vec<u8> {
    let mut writer = Writer::with_capacity(tbs.len() + signature.len() + responder_certificate.len() + 96);
    writer.sequence(|writer| {
        writer.primitive(tag::ENUMERATED, &[0]);
        writer.context(0, |writer| {
            writer.sequence(|writer| {
                writer.oid(oid::OCSP_BASIC);
                writer.nested(tag::OCTET_STRING, |writer| {
                    writer.sequence(|writer| {
                        writer.raw(tbs);
                        signed::encode_algorithm(algorithm, writer);
                        writer.bit_string(signature);
                        writer.context(0, |writer| writer.sequence(|writer| writer.raw(responder_certificate)));
                    });
                });
            });
        });
    });
    writer.into_bytes()
}

impl OcspRefusal {
    /// The OCSPResponse that says so.
    pub const fn to_der(self) -> [u8; 5] {
        let code = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        [tag::SEQUENCE, 3, tag::ENUMERATED, 1, code]
    }

    /// The refusal that an OCSPResponse is; nothing when it is none of these.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let all = [Self::MalformedRequest, Self::InternalError, Self::TryLater, Self::Unauthorized];
        all.into_iter().find(|refusal| refusal.to_der() == der)
    }

    /// What RFC 6960 calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformedRequest",
            Self::InternalError => "internalError",
            Self::TryLater => "tryLater",
            Self::Unauthorized => "unauthorized",
        }
    }
}
