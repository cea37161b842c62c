//! `chancery ca`.

use crate::live::{Live, on_both_engines, openssl};

#[test]
fn authorities_are_made_listed_shown_and_prolonged() {
    on_both_engines(|live| {
        live.says("ca list", &["NAME", "root-ca", "issuing-ca", "EC_secp384r1", "active"]);
        let list = live.json("ca list");
        let issuing = list.as_array().unwrap().iter().find(|ca| ca["name"] == "issuing-ca").unwrap();
        assert_eq!(issuing["id"], live.fact("issuingCaId"));
        live.fails("ca list --project no-such-project", 1, "no-such-project");

        live.says("ca show issuing-ca", &["EC_prime256v1", &live.fact("issuingCaId")]);
        assert_eq!(live.json(&format!("ca show {}", live.fact("rootCaId")))["configuration"]["type"], "root");
        let pem = live.says("ca show issuing-ca --pem", &[]);
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
        live.fails("ca show nobody", 1, "chancery ca list");

        live.says(
            "ca create lab-root --common-name Lab --organization Acme --ttl 20y",
            &["root", "active", "O=Acme,CN=Lab"],
        );
        let made = live
            .json("ca create lab-web --parent lab-root --common-name Web --max-path-length 0 --permit dns:lab.example");
        assert_eq!((&made["status"], &made["configuration"]["maxPathLength"]), (&"active".into(), &0.into()));
        assert_eq!(made["configuration"]["nameConstraints"]["permitted"][0]["value"], "lab.example");
        live.write("lab.pem", &live.says("ca show lab-web --pem", &[]));
        live.write("lab-root.pem", &live.says("ca show lab-root --pem", &[]));
        openssl(&live.path(""), "verify -CAfile lab-root.pem lab.pem");
        live.fails("ca create lab-root --common-name Again", 1, "request id: req-");
        live.fails("ca create x --type root --parent lab-root --common-name x", 2, "--parent");

        // An authority that its parent may not certify is not left behind.
        live.fails("ca create too-deep --parent lab-web --common-name Deep", 1, "path length");
        live.fails("ca show too-deep", 1, "there is no CA");

        live.says("ca renew lab-root --ttl 21y", &["renewed lab-root", "serial", "expires"]);
        let renewed = live.json("ca renew lab-root --not-after 2060-01-01");
        assert_eq!(renewed["certificateChain"], "");
        live.fails("ca renew lab-root --not-after 2030-01-01", 1, "notAfter");
        let before = live.says("ca show lab-web --pem", &[]);
        live.says("ca renew lab-web --new-key --ttl 2y", &["renewed lab-web"]);
        live.write("lab.pem", &live.says("ca show lab-web --pem", &[]));
        assert_ne!(live.read("lab.pem"), before);
        live.says("crl show lab-web", &["number", "runs out"]);
        assert_eq!(live.json("crl show lab-web").as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn an_intermediate_is_certified_from_outside() {
    on_both_engines(|live| {
        let next = live.says("ca create partner --type intermediate --common-name Partner", &["pending-certificate"]);
        assert!(next.contains("chancery ca csr partner"), "{next}");
        assert!(live.says("ca csr partner", &[]).starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        assert!(live.json("ca csr partner")["csr"].as_str().unwrap().contains("REQUEST"));
        live.says("ca csr partner --out partner.csr", &["partner.csr"]);
        live.fails("ca csr partner --out partner.csr", 1, "--force");
        live.says("ca csr partner --out partner.csr --force", &["partner.csr"]);
        live.fails("ca csr root-ca", 1, "root");

        sign_outside(live);
        live.fails("ca import partner --certificate outside.pem --chain outside.pem", 1, "request id: req-");
        live.fails("ca import partner --certificate missing.pem --chain outside.pem", 1, "missing.pem");
        assert_eq!(live.json("ca show partner")["status"], "pending-certificate");
        live.says("ca import partner --certificate partner.pem --chain outside.pem", &["partner"]);
        assert_eq!(live.json("ca show partner")["status"], "active");
        // Its renewal is another import.
        let again = live.json("ca import partner --certificate partner.pem --chain outside.pem");
        assert_eq!(again["caId"], live.json("ca show partner")["id"]);
    });
}

fn sign_outside(live: &Live) {
    let folder = live.path("");
    openssl(
        &folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout outside.key -out outside.pem -subj /CN=Outside -days 3650",
    );
    live.write("ca.ext", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    openssl(
        &folder,
        "x509 -req -in partner.csr -CA outside.pem -CAkey outside.key -days 1000 -extfile ca.ext -out partner.pem",
    );
}
