//! What certificates point to: the certificates of authorities, their revocation lists, and what became of one certificate
//! (OCSP), for anybody, over plain HTTP.
//!
//! The enrolment protocols (ACME, EST, SCEP, CMP) will stand beside this; they are not here yet.

mod ocsp;
pub mod publication;
