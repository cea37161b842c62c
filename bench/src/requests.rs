//! The requests of each scenario, made whole before the clock runs: login, issue, sign, and the certification requests
//! (RFC 2986) that sign carries.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::http::{Connection, Target};
use crate::{Outcome, saying};

/// Distinct requests of a workload; its connections take turns through them.
const DISTINCT: usize = 4096;

/// A certification request with a P-256 key of its own for `name`, DER.
pub struct CertificationRequest(pub Vec<u8>);

/// Distinct certification requests, as many as a workload takes.
pub fn certification_requests() -> Outcome<Vec<CertificationRequest>> {
    (0..DISTINCT).map(|number| certification_request(&name(number))).collect()
}

/// A certificate that the server issued, as it answered.
pub async fn issued(target: &Target, bootstrap: &Value) -> Outcome<Value> {
    let caller = Caller::login(target, bootstrap).await?;
    let request = caller.issue(target, "EC_prime256v1")[0].clone();
    let mut connection = Connection::open(target).await.map_err(saying("the server"))?;
    let reply = connection.exchange(&request).await.map_err(saying("a certificate"))?;
    match reply.status {
        200 => serde_json::from_slice(reply.body).map_err(saying("a certificate")),
        status => Err(format!("a certificate: {status} {}", String::from_utf8_lossy(reply.body))),
    }
}

/// Who asks, and by which profile.
pub struct Caller {
    token: String,
    profile_id: String,
}

impl Caller {
    /// Logs in as the identity of bootstrap.json, for its `web-server` profile.
    pub async fn login(target: &Target, bootstrap: &Value) -> Outcome<Self> {
        let body = json!({ "clientId": bootstrap["clientId"], "clientSecret": bootstrap["clientSecret"] });
        let request = target.post("/api/v1/auth/universal-auth/login", None, &body);
        let mut connection = Connection::open(target).await.map_err(saying("login"))?;
        let reply = connection.exchange(&request).await.map_err(saying("login"))?;
        let answer: Value = serde_json::from_slice(reply.body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match (reply.status, text(&answer["accessToken"]), text(&bootstrap["profiles"]["web-server"])) {
            (200, Some(token), Some(profile_id)) => Ok(Self { token, profile_id }),
            (200, Some(_), None) => Err("bootstrap.json has no profile web-server".to_owned()),
            (status, _, _) => Err(format!("login: {status} {answer}")),
        }
    }

    /// The octets of a POST of this caller.
    pub fn post(&self, target: &Target, path: &str, body: &Value) -> Vec<u8> {
        target.post(path, Some(&self.token), body)
    }

    /// The octets of a GET of this caller.
    pub fn get(&self, target: &Target, path: &str) -> Vec<u8> {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n", target.host, self.token);
        head.into_bytes()
    }

    /// Requests for certificates whose keys the server makes.
    pub fn issue(&self, target: &Target, key_algorithm: &str) -> Arc<[Vec<u8>]> {
        (0..DISTINCT)
            .map(|number| {
                let body = json!({
                    "profileId": self.profile_id,
                    "commonName": name(number),
                    "altNames": [{ "type": "dns_name", "value": name(number) }],
                    "ttl": "30d",
                    "keyUsages": ["digital_signature"],
                    "extendedKeyUsages": ["server_auth"],
                    "signatureAlgorithm": "ECDSA-SHA256",
                    "keyAlgorithm": key_algorithm,
                });
                target.post("/api/v3/pki/certificates/issue-certificate", Some(&self.token), &body)
            })
            .collect()
    }

    /// Requests for certificates over the keys of certification requests.
    pub fn sign(&self, target: &Target, requests: &[CertificationRequest]) -> Arc<[Vec<u8>]> {
        requests
            .iter()
            .map(|request| {
                let body = json!({ "profileId": self.profile_id, "csr": request.pem(), "ttl": "30d" });
                target.post("/api/v3/pki/certificates/sign-certificate", Some(&self.token), &body)
            })
            .collect()
    }
}

fn name(number: usize) -> String {
    format!("host-{number}.bench.example.com")
}

impl CertificationRequest {
    fn pem(&self) -> String {
        x509::pem::encode(x509::pem::CERTIFICATE_REQUEST, &self.0)
    }
}

/// Encoded here by hand, not by the product's encoder, which is under test.
pub fn certification_request(name: &str) -> Outcome<CertificationRequest> {
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const OCTET_STRING: u8 = 0x04;
    const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 0x04, 0x03];
    const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x11];
    const EXTENSION_REQUEST: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
    const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(saying("a P-256 key"))?;
    let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(saying("a P-256 key"))?;

    let common_name = tlv(SEQUENCE, &[COMMON_NAME, &tlv(0x0c, &[name.as_bytes()])]);
    let subject = tlv(SEQUENCE, &[&tlv(SET, &[&common_name])]);
    let names = tlv(SEQUENCE, &[&tlv(0x82, &[name.as_bytes()])]);
    let extension = tlv(SEQUENCE, &[SUBJECT_ALT_NAME, &tlv(OCTET_STRING, &[&names])]);
    let extensions = tlv(SET, &[&tlv(SEQUENCE, &[&extension])]);
    let attributes = tlv(0xa0, &[&tlv(SEQUENCE, &[EXTENSION_REQUEST, &extensions])]);
    let information = tlv(SEQUENCE, &[&[0x02, 1, 0], &subject, public_key.as_ref(), &attributes]);

    let signature = pair.sign(&SystemRandom::new(), &information).map_err(saying("a P-256 signature"))?;
    let signature = tlv(0x03, &[&[0], signature.as_ref()]);
    Ok(CertificationRequest(tlv(SEQUENCE, &[&information, &tlv(SEQUENCE, &[ECDSA_WITH_SHA256]), &signature])))
}

/// One DER value; its contents are shorter than 64 KiB (X.690 §8.1.3).
fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let [high, low] = u16::try_from(contents.len()).expect("a certification request is short").to_be_bytes();
    let mut value = match (high, low) {
        (0, ..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    value.extend(contents);
    value
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn openssl_takes_a_certification_request_and_verifies_it() {
        let request = certification_request(&name(7)).unwrap();
        let mut openssl = Command::new("openssl")
            .args(["req", "-verify", "-noout", "-text"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(request.pem().as_bytes()).unwrap();
        let output = openssl.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("CN = host-7.bench.example.com"), "{said}");
        assert!(said.contains("DNS:host-7.bench.example.com"), "{said}");
        assert!(said.contains("prime256v1"), "{said}");
    }

    #[test]
    fn every_request_is_whole_and_names_its_own_host() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let target = Target { address, host: address.to_string(), tls: None };
        let caller = Caller { token: "abc".to_owned(), profile_id: "p".to_owned() };
        let requests = caller.issue(&target, "EC_prime256v1");
        assert_eq!(requests.len(), DISTINCT);
        let text = std::str::from_utf8(&requests[9]).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("POST /api/v3/pki/certificates/issue-certificate HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
        );
        assert!(head.contains("\r\nAuthorization: Bearer abc\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["altNames"][0]["value"], "host-9.bench.example.com");
    }
}
