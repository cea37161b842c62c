//! Every route of the server's REST API in one list.

use crate::app::App;
use crate::route::{Endpoint, Route};
use crate::schema::{required, text};
use crate::{
    accounts, alerts, applications, authorities, certificates, collections, connections, policies, profiles, retention,
    server, subscribers, syncs, templates, verify, work,
};

/// Every route.
pub fn routes() -> Vec<Route<App>> {
    [
        accounts::routes(),
        alerts::routes(),
        applications::routes(),
        authorities::routes(),
        certificates::routes(),
        collections::routes(),
        connections::routes(),
        policies::routes(),
        profiles::routes(),
        retention::routes(),
        server::routes(),
        subscribers::routes(),
        syncs::routes(),
        templates::routes(),
        verify::routes(),
        work::routes(),
    ]
    .concat()
}

/// What others serve beside the routes, for the documentation: the addresses that certificates name.
pub fn beside() -> Vec<Endpoint> {
    const TAG: &str = "Publication";
    vec![
        Endpoint::get("/api/v1/pki/crl/{crlId}/der", TAG, "Get a revocation list")
            .also_at("/api/v1/pki/crl/{crlId}")
            .also_at("/api/v1/cert-manager/crl/{crlId}/der")
            .also_at("/api/v1/cert-manager/crl/{crlId}")
            .describe("For anybody. In DER, with ETag and Last-Modified (RFC 5280 §4.2.1.13).")
            .path([required("crlId", text())])
            .urgent()
            .returns_bytes("application/pkix-crl"),
        Endpoint::get("/api/v1/pki/crl/{crlId}/delta", TAG, "Get the list of what changed since a complete list")
            .also_at("/api/v1/cert-manager/crl/{crlId}/delta")
            .describe("For anybody. In DER; only for authorities that were told to have such lists (RFC 5280 §5.2.4).")
            .path([required("crlId", text())])
            .urgent()
            .returns_bytes("application/pkix-crl"),
        Endpoint::get("/api/v1/pki/ca/{caId}/certificates/{caCertId}/der", TAG, "Get the certificate of an authority")
            .also_at("/api/v1/cert-manager/ca/internal/{caId}/certificates/{caCertId}/der")
            .describe("For anybody. In DER (RFC 5280 §4.2.2.1).")
            .path([required("caId", text()), required("caCertId", text())])
            .urgent()
            .returns_bytes("application/pkix-cert"),
        Endpoint::post("/api/v1/pki/ocsp", TAG, "Ask what became of a certificate (OCSP)")
            .also_at("/api/v1/cert-manager/ocsp")
            .describe(
                "For anybody; certificates name this address. The body is an OCSPRequest (RFC 6960) of at most 8 KiB and 16 \
                 certificates of one issuer, named by SHA-1 or SHA-256; a nonce of up to 32 octets is repeated.",
            )
            .urgent()
            .returns_bytes("application/ocsp-response"),
        Endpoint::get("/api/v1/pki/ocsp/{request}", TAG, "Ask what became of a certificate by GET (OCSP)")
            .also_at("/api/v1/cert-manager/ocsp/{request}")
            .describe(
                "For anybody. The request is base64 in its URL encoding (RFC 6960 Appendix A.1). Answers without a nonce come \
                 with ETag, Last-Modified and Cache-Control (RFC 5019 §6.2).",
            )
            .path([required("request", text())])
            .urgent()
            .returns_bytes("application/ocsp-response"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{parameter_names, router};
    use crate::schema::Kind;

    #[test]
    fn no_two_routes_are_the_same() {
        // The router panics when two routes have the same method and path.
        let _ = router(routes());
    }

    #[test]
    fn path_parameters_are_declared_in_the_order_of_the_path() {
        for route in routes() {
            let Kind::Object(fields) = &route.endpoint.path.kind else { panic!("a path is an object") };
            let declared: Vec<&str> = fields.iter().map(|field| field.name).collect();
            for (at, path) in route.endpoint.paths.iter().enumerate() {
                let named: Vec<&str> = parameter_names(path).collect();
                // An alias takes its parameters by position and may call them otherwise.
                assert!(named == declared || (at > 0 && named.len() == declared.len()), "{path}: {declared:?}");
            }
        }
    }
}
