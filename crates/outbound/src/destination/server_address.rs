//! The address of a server that a connection names: credentials go there only enciphered, or to this very host.

use crate::DeliveryError;
use reqwest::Url;
use std::net::IpAddr;

/// The address without a slash at its end.
pub(crate) fn server_address(text: &str) -> Result<String, DeliveryError> {
    let refused = |why: &str| DeliveryError::Refused(format!("the address of the server {why}"));
    let url = Url::parse(text.trim()).map_err(|error| refused(&format!("is not a URL: {error}")))?;
    let Some(host) = url.host_str() else { return Err(refused("names no host")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("must not hold credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("must end with its path"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_this_host(host) => {}
        _ => return Err(refused("must begin with https:// (http:// only to a loopback address)")),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether a host of a URL is a loopback address, or the name that stands for one.
pub(crate) fn is_this_host(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    literal.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A segment of a path, percent-encoded unless its characters need no encoding (RFC 3986 §2.3).
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(octet)),
            _ => encoded.push_str(&format!("%{octet:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_host_only_enciphered() {
        for (text, kept) in [
            ("https://vault.example.com:8200/", Some("https://vault.example.com:8200")),
            ("https://example.com/base/", Some("https://example.com/base")),
            ("http://127.0.0.1:8200", Some("http://127.0.0.1:8200")),
            ("http://[::1]:8200", Some("http://[::1]:8200")),
            ("http://vault.example.com", None),
            ("http://10.0.0.1", None),
            ("https://user:secret@example.com", None),
            ("https://example.com/?token=x", None),
            ("ftp://example.com", None),
            ("example.com", None),
        ] {
            assert_eq!(server_address(text).ok().as_deref(), kept, "{text}");
        }
        assert_eq!(segment("a/b c~"), "a%2Fb%20c~");
    }
}
