//! The validator against the public x509-limbo suite, which lies beside the repository and is not a part of it.
//!
//! Every case runs. Those where we differ are listed with the reason; a case that is listed and agrees, or that differs
//! and is not listed, is an error. `LIMBO_VERBOSE=1` prints the verdict of each case.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use x509::chain::{self, ExpectedName, Options, Purpose};
use x509::der::tag;
use x509::{Certificate, Crl, DnsName, EmailAddress, IpAddress, KeyUsage, KeyUsages, time};

/// 2025-06-15T00:00:00Z, for the cases that do not say when.
const USUAL_TIME: i64 = 1_749_945_600;

/// The cases where we differ from what the suite expects, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "cve::cve-2024-0567",
        "the trusted certificate is issued by another and has no authority key identifier, for which \
         rfc5280::aki::cross-signed-root-missing-aki asks to refuse it",
    ),
    ("webpki::nc::nc-permits-dns-san-pattern", COMMON_NAME_IS_NO_COPY),
    ("webpki::san::exact-localhost-ip-san", COMMON_NAME_IS_NO_COPY),
    ("webpki::san::leftmost-wildcard-san", COMMON_NAME_IS_NO_COPY),
];

const COMMON_NAME_IS_NO_COPY: &str = "the common name is none of the alternative names, for which webpki::cn::not-in-san \
                                      and the Baseline Requirements (section 7.1.4.3) ask to refuse it";

#[derive(Deserialize)]
struct Suite {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    validation_kind: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    key_usage: Vec<String>,
    extended_key_usage: Vec<String>,
    expected_result: String,
    expected_peer_name: Option<PeerName>,
    expected_peer_names: Vec<PeerName>,
    max_chain_depth: Option<u32>,
    #[serde(default)]
    crls: Vec<String>,
}

#[derive(Deserialize)]
struct PeerName {
    kind: String,
    value: String,
}

/// Whether a case is accepted, and for a refusal why.
struct Outcome {
    accepted: bool,
    reason: String,
}

#[test]
fn the_verdicts_are_those_of_the_suite_but_for_the_listed_ones() {
    let Some(suite) = suite() else { return };
    let reasons: BTreeMap<&str, &str> = DIFFERENCES.iter().copied().collect();
    let mut slowest = (Duration::ZERO, "");
    let mut wrong = Vec::new();
    for case in &suite.testcases {
        let start = Instant::now();
        let outcome = run(case, Names::Expected);
        slowest = slowest.max((start.elapsed(), &case.id));
        let agrees = outcome.accepted == (case.expected_result == "SUCCESS");
        let listed = reasons.contains_key(&*case.id);
        if std::env::var_os("LIMBO_VERBOSE").is_some() {
            println!(
                "{} {} accepted={} {}",
                if agrees { "same" } else { "DIFF" },
                case.id,
                outcome.accepted,
                outcome.reason
            );
        }
        match (agrees, listed) {
            (true, false) | (false, true) => {}
            (true, true) => wrong.push(format!("{} is listed as a difference and agrees", case.id)),
            (false, false) => {
                wrong.push(format!("{} differs: expected {}, {}", case.id, case.expected_result, outcome.reason))
            }
        }
        // Only what is special about the public web may be accepted where it must fail.
        let too_lenient = !agrees && outcome.accepted && !is_of_the_web(case);
        assert!(!too_lenient, "{} must fail and is accepted", case.id);
    }
    println!(
        "{} cases, {} listed differences, slowest {} ({:?})",
        suite.testcases.len(),
        reasons.len(),
        slowest.1,
        slowest.0
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known = |id: &&str| suite.testcases.iter().any(|case| case.id == *id);
    assert!(reasons.keys().all(known), "a listed case is not in the suite");
}

#[test]
fn name_constraints_alone_refuse_what_breaks_them() {
    let Some(suite) = suite() else { return };
    let constrained: Vec<&Case> = suite.testcases.iter().filter(|case| case.id.starts_with("rfc5280::nc::")).collect();
    assert!(constrained.len() >= 40, "the suite has only {} cases of name constraints", constrained.len());
    for case in constrained {
        let outcome = run(case, Names::Ignored);
        assert_eq!(outcome.accepted, case.expected_result == "SUCCESS", "{}: {}", case.id, outcome.reason);
        let rules = ["[name-constraint", "[malformed-san]"];
        let is_named = rules.iter().any(|rule| outcome.reason.contains(rule));
        assert!(outcome.accepted || is_named, "{}: {}", case.id, outcome.reason);
    }
}

fn is_of_the_web(case: &Case) -> bool {
    case.id.starts_with("webpki::") || case.id.starts_with("online::")
}

/// The suite, if it is there.
fn suite() -> Option<Suite> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/x509-limbo.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: the x509-limbo suite is not at {}", path.display());
        return None;
    };
    let suite: Suite = serde_json::from_str(&text).unwrap();
    assert!(suite.testcases.len() >= 208, "the suite has only {} cases", suite.testcases.len());
    Some(suite)
}

/// Whether the certificate must be valid for the names that a case expects.
#[derive(PartialEq)]
enum Names {
    Expected,
    Ignored,
}

fn run(case: &Case, which: Names) -> Outcome {
    let refused = |reason: String| Outcome { accepted: false, reason };
    let leaf = match Certificate::from_pem(&case.peer_certificate) {
        Ok(leaf) => leaf,
        Err(error) => return refused(format!("unreadable: {error}")),
    };
    let readable =
        |texts: &[String]| texts.iter().filter_map(|text| Certificate::from_pem(text).ok()).collect::<Vec<_>>();
    let (anchors, intermediates) = (readable(&case.trusted_certs), readable(&case.untrusted_intermediates));
    let crls: Vec<Crl> = match case.crls.iter().map(|text| Crl::from_pem(text)).collect() {
        Ok(crls) => crls,
        Err(error) => return refused(format!("unreadable revocation list: {error}")),
    };
    let names: Result<Vec<ExpectedName>, _> =
        case.expected_peer_name.iter().chain(&case.expected_peer_names).map(expected_name).collect();
    let names = match names {
        Ok(names) => names,
        Err(error) => return refused(format!("the expected name is none: {error}")),
    };
    let mut options = Options::new(&anchors, case.validation_time.as_deref().map_or(USUAL_TIME, seconds));
    options.intermediates = &intermediates;
    options.crls = &crls;
    options.purpose = purpose(case);
    options.key_usages =
        case.key_usage.iter().filter_map(|name| KeyUsage::from_camel_name(name)).collect::<KeyUsages>();
    if which == Names::Expected {
        options.names = &names;
    }
    options.depth_max = case.max_chain_depth;
    let verdict = chain::verify(&leaf, &options);
    assert_eq!(verdict.valid, !verdict.path.is_empty(), "{}", case.id);
    assert!(verdict.valid || !verdict.refused.is_empty(), "{} is refused without a reason", case.id);
    let reasons: Vec<String> = verdict.refused.iter().map(|refused| refused.to_string()).collect();
    Outcome { accepted: verdict.valid, reason: reasons.join("; ") }
}

fn purpose(case: &Case) -> Purpose {
    if is_of_the_web(case) {
        return Purpose::WebPki;
    }
    match case.extended_key_usage.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Purpose::Any,
        ["serverAuth"] if case.validation_kind == "SERVER" => Purpose::ServerAuth,
        ["clientAuth"] if case.validation_kind == "CLIENT" => Purpose::ClientAuth,
        ref other => panic!("{} asks for {other:?}", case.id),
    }
}

fn expected_name(name: &PeerName) -> Result<ExpectedName, x509::NameError> {
    match &*name.kind {
        "DNS" => DnsName::parse_host(&name.value).map(ExpectedName::Dns),
        "IP" => IpAddress::parse(&name.value).map(ExpectedName::Ip),
        "RFC822" => EmailAddress::parse(&name.value).map(ExpectedName::Email),
        other => panic!("a name of the kind {other}"),
    }
}

/// RFC 3339 in UTC; a fraction of a second is cut off.
fn seconds(text: &str) -> i64 {
    let moment = text.strip_suffix("+00:00").unwrap_or(text);
    let digits: String = moment.split('.').next().unwrap().chars().filter(char::is_ascii_digit).collect();
    time::decode_tolerant(tag::GENERALIZED_TIME, format!("{digits}Z").as_bytes()).unwrap().seconds
}
