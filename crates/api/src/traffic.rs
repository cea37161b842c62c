//! How long requests took and how they ended, by kind, since the start. Each request costs a few additions; nothing
//! here grows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};

/// What a request is about, as far as an operator tells requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A certificate for a key that may be made here.
    Issue,
    /// A certificate for a CSR.
    Sign,
    /// The successor of a certificate.
    Renew,
    /// The revocation of a certificate, or the end of its hold.
    Revoke,
    /// A revocation list.
    Crl,
    /// What became of a certificate.
    Ocsp,
    /// An access token.
    Login,
    /// Whether the server is up, and its numbers.
    Probe,
    /// The device registry.
    Registry,
    /// All the rest.
    Other,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Issue,
        Self::Sign,
        Self::Renew,
        Self::Revoke,
        Self::Crl,
        Self::Ocsp,
        Self::Login,
        Self::Probe,
        Self::Registry,
        Self::Other,
    ];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Sign => "sign",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Crl => "crl",
            Self::Ocsp => "ocsp",
            Self::Login => "login",
            Self::Probe => "probe",
            Self::Registry => "registry",
            Self::Other => "other",
        }
    }

    /// The kind of a request of the REST API, by its path without slashes at the end.
    pub fn of(method: &Method, path: &str) -> Self {
        let is_post = method == Method::POST;
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let is_about_a_certificate = above.rsplit_once('/').is_some_and(|(list, _)| list.ends_with("/certificates"));
        match last {
            "issue-certificate" | "order-certificate" if is_post => Self::Issue,
            "certificates" if is_post && path == "/api/v1/cert-manager/certificates" => Self::Issue,
            "sign-certificate" if is_post => Self::Sign,
            "renew" if is_post && is_about_a_certificate => Self::Renew,
            "revoke" | "release" if is_post && is_about_a_certificate => Self::Revoke,
            "login" if is_post && path.starts_with("/api/v1/auth/") => Self::Login,
            "status" | "metrics" if matches!(path, "/api/status" | "/metrics") => Self::Probe,
            _ => Self::of_publication(path),
        }
    }

    fn of_publication(path: &str) -> Self {
        let below = ["/api/v1/pki/", "/api/v1/cert-manager/"].into_iter().find_map(|base| path.strip_prefix(base));
        match below.map(|rest| rest.split_once('/').map_or(rest, |(first, _)| first)) {
            Some("ocsp") => Self::Ocsp,
            Some("crl") => Self::Crl,
            Some(_) | None => Self::Other,
        }
    }
}

/// The upper bounds of the classes of durations, in microseconds. What is longer is in a class of its own.
pub const BOUNDS_MICROS: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// The numbers of every kind.
#[derive(Debug, Default)]
pub struct Traffic([KindTraffic; RequestKind::ALL.len()]);

/// The numbers of one kind.
#[derive(Debug, Default)]
pub struct KindTraffic {
    /// How many were answered in each class of durations; the last is without a bound.
    classes: [AtomicU64; BOUNDS_MICROS.len() + 1],
    micros: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Traffic {
    /// The numbers of a kind.
    pub fn of(&self, kind: RequestKind) -> &KindTraffic {
        &self.0[kind as usize]
    }

    /// Notes an answer.
    pub(crate) fn note(&self, kind: RequestKind, took: Duration, status: StatusCode) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let traffic = self.of(kind);
        let class = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        traffic.classes[class].fetch_add(1, Ordering::Relaxed);
        traffic.micros.fetch_add(micros, Ordering::Relaxed);
        if status.is_client_error() {
            traffic.refused.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            traffic.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl KindTraffic {
    /// How many were answered within each bound of [`BOUNDS_MICROS`] and not within the one before, and how many took
    /// longer than the last.
    pub fn classes(&self) -> [u64; BOUNDS_MICROS.len() + 1] {
        std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed))
    }

    /// Microseconds that they took together.
    pub fn micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }

    /// How many were answered with 4xx.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many were answered with 5xx.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_what_they_are_about() {
        for (method, path, kind) in [
            ("POST", "/api/v3/pki/certificates/issue-certificate", RequestKind::Issue),
            ("POST", "/api/v1/pki/ca/7/issue-certificate", RequestKind::Issue),
            ("POST", "/api/v1/cert-manager/certificates", RequestKind::Issue),
            ("GET", "/api/v1/cert-manager/certificates", RequestKind::Other),
            ("POST", "/api/v3/pki/certificates/sign-certificate", RequestKind::Sign),
            ("POST", "/api/v3/pki/certificates/7/renew", RequestKind::Renew),
            ("POST", "/api/v1/pki/ca/7/renew", RequestKind::Other),
            ("POST", "/api/v1/auth/token/renew", RequestKind::Other),
            ("POST", "/api/v1/pki/certificates/7/revoke", RequestKind::Revoke),
            ("POST", "/api/v1/cert-manager/certificates/7/release", RequestKind::Revoke),
            ("POST", "/api/v1/auth/token/revoke", RequestKind::Other),
            ("GET", "/api/v1/pki/crl/7/der", RequestKind::Crl),
            ("GET", "/api/v1/cert-manager/crl/7", RequestKind::Crl),
            ("GET", "/api/v1/pki/ca/7/crls", RequestKind::Other),
            ("POST", "/api/v1/pki/ocsp", RequestKind::Ocsp),
            ("GET", "/api/v1/pki/ocsp/MEIwQDA%2B", RequestKind::Ocsp),
            ("POST", "/api/v1/auth/universal-auth/login", RequestKind::Login),
            ("GET", "/api/status", RequestKind::Probe),
            ("GET", "/metrics", RequestKind::Probe),
            ("GET", "/", RequestKind::Other),
            ("GET", "", RequestKind::Other),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(RequestKind::of(&method, path), kind, "{method} {path}");
        }
    }

    #[test]
    fn every_kind_has_numbers_of_its_own() {
        let traffic = Traffic::default();
        for (index, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            for _ in 0..=index {
                traffic.note(kind, Duration::ZERO, StatusCode::OK);
            }
        }
        for (kind, count) in RequestKind::ALL.into_iter().zip(1..) {
            assert_eq!(traffic.of(kind).classes()[0], count);
        }
    }

    #[test]
    fn a_duration_is_in_the_first_class_that_holds_it() {
        for (micros, class) in [(0, 0), (500, 0), (501, 1), (10_000_000, 12), (10_000_001, 13), (u64::MAX, 13)] {
            let traffic = Traffic::default();
            traffic.note(RequestKind::Crl, Duration::from_micros(micros), StatusCode::NOT_FOUND);
            traffic.note(RequestKind::Crl, Duration::from_micros(micros), StatusCode::BAD_GATEWAY);
            let crl = traffic.of(RequestKind::Crl);
            assert_eq!((crl.classes()[class], crl.refused(), crl.failed()), (2, 1, 1), "{micros}");
        }
    }
}
