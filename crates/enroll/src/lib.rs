//! What certificates point to: the certificates of authorities and their revocation lists, for anybody, over plain HTTP.
//!
//! The enrolment protocols (ACME, EST, SCEP, CMP) will stand beside this; they are not here yet.

pub mod publication;
