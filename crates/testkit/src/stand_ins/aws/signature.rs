//! Signature Version 4, from the side of the service: the canonical request is put together from what came in, and signed
//! again with the secret that belongs to the key.

use super::REGION;
use aws_lc_rs::hmac;
use axum::http::{HeaderMap, Method, Uri};
use std::fmt;

/// How far the clock of a caller may be off, in seconds.
const SKEW_SECONDS_MAX: i64 = 15 * 60;

/// A request whose signature is looked at.
pub struct SignedRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path and the query.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
    /// The service that it came to, as signatures name it.
    pub service: &'a str,
}

/// A key that requests are signed with.
#[derive(Clone, Debug)]
pub struct KnownKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// What has to come with it when it is only lent.
    pub token: Option<String>,
    /// Whose it is, as an ARN.
    pub owner: String,
}

/// Who knows the keys.
pub trait Keys {
    /// The key of that id.
    fn key(&self, id: &str) -> Option<&KnownKey>;
}

/// Why a signature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is none.
    NoSignature,
    /// It does not say what it has to.
    Malformed(&'static str),
    /// Nobody has the key.
    UnknownKey,
    /// The token is not that of the key.
    WrongToken,
    /// The caller's clock is off.
    OutOfTime,
    /// It was not made with the key's secret, or over another request.
    WrongSignature,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoSignature => "The request has no signature.",
            Self::Malformed(what) => what,
            Self::UnknownKey | Self::WrongToken => "The security token included in the request is invalid.",
            Self::OutOfTime => "Signature expired: the time of the request is too far from now.",
            Self::WrongSignature => {
                "The request signature we calculated does not match the signature you provided.\n\n\
                 The Canonical String for this request should have been …"
            }
        })
    }
}

/// Checks the signature of a request, and says whose the key is.
pub fn verify(request: &SignedRequest<'_>, keys: &impl Keys, now: jiff::Timestamp) -> Result<String, Problem> {
    verify_in(request, keys, now, REGION)
}

fn verify_in(
    request: &SignedRequest<'_>,
    keys: &impl Keys,
    now: jiff::Timestamp,
    region: &str,
) -> Result<String, Problem> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = header("authorization").ok_or(Problem::NoSignature)?;
    let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(Problem::Malformed("Unknown algorithm."))?;
    let part = |name: &str| {
        let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or(Problem::Malformed("Authorization lacks a part."))
    };
    let (credential, names, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [id, day, in_region, service, "aws4_request"] = scope[..] else {
        return Err(Problem::Malformed("Credential is not a key and a scope."));
    };
    let key = keys.key(id).ok_or(Problem::UnknownKey)?;
    if key.token.as_deref() != header("x-amz-security-token") {
        return Err(Problem::WrongToken);
    }
    let time = header("x-amz-date").ok_or(Problem::Malformed("X-Amz-Date is missing."))?;
    must_be_about_now(time, day, now)?;
    // STS has one place for all regions, which is where a client asks that knows no region.
    let region_fits = in_region == region || (service == "sts" && in_region == "us-east-1");
    if !region_fits || service != request.service {
        return Err(Problem::Malformed("Credential should be scoped to the region and the service it is used in."));
    }
    let signed: Vec<&str> = names.split(';').collect();
    must_sign_enough(&signed, request.headers)?;
    let canonical = canonical_request(request, &signed)?;
    let scope = format!("{day}/{in_region}/{service}/aws4_request");
    let message = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&x509::digest::sha256(canonical.as_bytes())));
    if hex(&signed_with(&key.secret, &[day, in_region, service, "aws4_request"], &message)) != signature {
        return Err(Problem::WrongSignature);
    }
    Ok(key.owner.clone())
}

fn must_be_about_now(time: &str, day: &str, now: jiff::Timestamp) -> Result<(), Problem> {
    let malformed = Problem::Malformed("X-Amz-Date is not a time.");
    let then = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).map_err(|_| malformed)?;
    let then = jiff::tz::TimeZone::UTC.to_timestamp(then).map_err(|_| malformed)?;
    if !time.starts_with(day) {
        return Err(Problem::Malformed("The day of Credential is not that of X-Amz-Date."));
    }
    if (then.as_second() - now.as_second()).abs() > SKEW_SECONDS_MAX {
        return Err(Problem::OutOfTime);
    }
    Ok(())
}

/// The host, the media type and everything of Amazon's own has to be signed.
fn must_sign_enough(signed: &[&str], headers: &HeaderMap) -> Result<(), Problem> {
    if !signed.is_sorted() {
        return Err(Problem::Malformed("SignedHeaders are not in order."));
    }
    let needed = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| *name == "host" || *name == "content-type" || name.starts_with("x-amz-"));
    for name in needed {
        if !signed.contains(&name) {
            return Err(Problem::Malformed("A header that has to be signed is not."));
        }
    }
    Ok(())
}

fn canonical_request(request: &SignedRequest<'_>, signed: &[&str]) -> Result<String, Problem> {
    let path = match request.service {
        "s3" => request.uri.path().to_owned(),
        _ => request.uri.path().split('/').map(percent_encoded).collect::<Vec<String>>().join("/"),
    };
    let mut query: Vec<String> = request
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", percent_encoded(&percent_decoded(name)), percent_encoded(&percent_decoded(value)))
        })
        .collect();
    query.sort();
    let mut lines = String::new();
    for name in signed {
        let values: Vec<String> = request
            .headers
            .get_all(*name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(|value| value.split_whitespace().collect::<Vec<&str>>().join(" "))
            .collect();
        if values.is_empty() {
            return Err(Problem::Malformed("A header is signed that is not there."));
        }
        lines.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let digest = hex(&x509::digest::sha256(request.body));
    if request.service == "s3" {
        let stated = request.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
        if stated != Some(&digest) {
            return Err(Problem::Malformed("x-amz-content-sha256 is not the digest of the body."));
        }
    }
    let (method, query, names) = (request.method, query.join("&"), signed.join(";"));
    Ok(format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"))
}

fn signed_with(secret: &str, scope: &[&str], message: &str) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.iter().chain([&message]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    key
}

/// Text of a URL with its escapes read.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        octets.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[3..] } else { tail };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(octet)),
            _ => encoded.push_str(&format!("%{octet:02X}")),
        }
    }
    encoded
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(KnownKey);

    impl Keys for One {
        fn key(&self, id: &str) -> Option<&KnownKey> {
            (id == self.0.id).then_some(&self.0)
        }
    }

    /// "get-vanilla" of the test suite that Amazon publishes for Signature Version 4.
    const VANILLA: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                           SignedHeaders=host;x-amz-date, \
                           Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

    fn vanilla_key() -> KnownKey {
        KnownKey {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
            owner: "arn:aws:iam::1:user/vanilla".into(),
        }
    }

    fn check(authorization: &str, change: impl FnOnce(&mut Sent)) -> Result<String, Problem> {
        let mut sent = Sent {
            path: "/",
            service: "service",
            body: b"",
            now: "2015-08-30T12:40:00Z",
            headers: HeaderMap::new(),
            key: vanilla_key(),
        };
        sent.headers.insert("host", "example.amazonaws.com".parse().unwrap());
        sent.headers.insert("x-amz-date", "20150830T123600Z".parse().unwrap());
        if !authorization.is_empty() {
            sent.headers.insert("authorization", authorization.parse().unwrap());
        }
        change(&mut sent);
        let Sent { path, service, body, now, headers, key } = sent;
        let uri = path.parse().unwrap();
        let request = SignedRequest { method: &Method::GET, uri: &uri, headers: &headers, body, service };
        verify_in(&request, &One(key), now.parse().unwrap(), "us-east-1")
    }

    struct Sent {
        path: &'static str,
        service: &'static str,
        body: &'static [u8],
        now: &'static str,
        headers: HeaderMap,
        key: KnownKey,
    }

    type Change = fn(&mut Sent);

    #[test]
    fn the_published_example_is_believed_and_nothing_beside_it() {
        assert_eq!(check(VANILLA, |_| {}).unwrap(), "arn:aws:iam::1:user/vanilla");
        let nothing: Change = |_| {};
        let cases: [(&str, Change, Problem); 14] = [
            ("", nothing, Problem::NoSignature),
            ("Bearer x", nothing, Problem::Malformed("Unknown algorithm.")),
            (&VANILLA.replace("5fa0", "5fa1"), nothing, Problem::WrongSignature),
            (VANILLA, |sent| sent.path = "/other", Problem::WrongSignature),
            (VANILLA, |sent| sent.path = "/?other=1", Problem::WrongSignature),
            (VANILLA, |sent| sent.body = b"other", Problem::WrongSignature),
            (VANILLA, |sent| sent.key.secret = "other".into(), Problem::WrongSignature),
            (&VANILLA.replace("AKIDEXAMPLE", "AKIDANOTHER"), nothing, Problem::UnknownKey),
            (VANILLA, |sent| sent.key.token = Some("token".into()), Problem::WrongToken),
            (VANILLA, |sent| sent.now = "2015-08-30T13:00:00Z", Problem::OutOfTime),
            (VANILLA, |sent| sent.service = "other", Problem::Malformed(OTHER_SCOPE)),
            (&VANILLA.replace("us-east-1", "us-east-2"), nothing, Problem::Malformed(OTHER_SCOPE)),
            (&VANILLA.replace("host;x-amz-date", "x-amz-date"), nothing, Problem::Malformed(NOT_SIGNED)),
            (
                VANILLA,
                |sent| _ = sent.headers.insert("x-amz-target", "acm.Delete".parse().unwrap()),
                Problem::Malformed(NOT_SIGNED),
            ),
        ];
        for (authorization, change, problem) in cases {
            assert_eq!(check(authorization, change), Err(problem), "{authorization}");
        }
    }

    const OTHER_SCOPE: &str = "Credential should be scoped to the region and the service it is used in.";
    const NOT_SIGNED: &str = "A header that has to be signed is not.";
}
