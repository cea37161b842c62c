//! `chancery cert`.

use crate::live::{Live, on_both_engines, openssl};

const UNKNOWN: &str = "0198c5a0-0000-7000-8000-000000000001";

fn root(live: &Live) {
    live.write("root.pem", &live.says("ca show root-ca --pem", &[]));
}

#[test]
fn a_name_and_a_profile_are_enough_for_a_certificate_in_files() {
    on_both_engines(|live| {
        root(live);
        let line = "cert issue --profile web-server --common-name www.example.com";
        live.says(line, &["issued", "www.example.com.key", "expires"]);
        assert_eq!(live.mode("www.example.com.key"), 0o600);
        let folder = live.path("");
        openssl(&folder, "verify -CAfile root.pem -untrusted www.example.com.chain.pem www.example.com.crt");
        let printed = openssl(&folder, "x509 -in www.example.com.fullchain.pem -noout -text");
        for part in ["DNS:www.example.com", "TLS Web Server Authentication", "Digital Signature"] {
            assert!(printed.contains(part), "{part}\n{printed}");
        }
        let public = openssl(&folder, "pkey -in www.example.com.key -pubout");
        assert_eq!(public, openssl(&folder, "x509 -in www.example.com.crt -noout -pubkey"));

        let before = live.read("www.example.com.key");
        let issued = live.json("cert list --limit 100")["totalCount"].clone();
        live.fails(line, 1, "--force");
        assert_eq!(live.read("www.example.com.key"), before);
        assert_eq!(live.json("cert list --limit 100")["totalCount"], issued, "nothing is issued for files that stay");
        live.says(&format!("{line} --force"), &["issued"]);
        assert_ne!(live.read("www.example.com.key"), before);
        assert_eq!(live.mode("www.example.com.key"), 0o600);
    });
}

#[test]
fn a_certificate_is_issued_as_it_was_asked_for() {
    on_both_engines(|live| {
        root(live);
        let made = live.json(
            "cert issue --profile web-server --common-name a.example.com --san dns:b.example.com --san ip:10.0.0.1 --san \
             2001:db8::1 --ttl 3d --key-algorithm RSA_2048 --signature-algorithm ECDSA-SHA384 --without-root --out tls/",
        );
        assert!(made.get("privateKey").is_none() && made["files"]["privateKey"] == "tls/a.example.com.key", "{made}");
        assert_eq!(made["certificateChain"].as_str().unwrap().matches("BEGIN").count(), 1);
        let printed = openssl(&live.path("tls"), "x509 -in a.example.com.crt -noout -text");
        for part in ["DNS:b.example.com", "IP Address:10.0.0.1", "2001:DB8", "2048 bit", "Key Encipherment", "SHA384"] {
            assert!(printed.contains(part), "{part}\n{printed}");
        }

        live.says(
            "cert issue --profile client --common-name agent-7 --usage digital_signature --out agents/7",
            &["agents/7.key"],
        );
        let printed = openssl(&live.path("agents"), "x509 -in 7.crt -noout -ext extendedKeyUsage");
        assert!(printed.contains("TLS Web Client Authentication"), "{printed}");

        let all = live.json("cert issue --profile client --common-name c --idempotency-key once");
        assert!(all["privateKey"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        let again = live.json("cert issue --profile client --common-name c --idempotency-key once");
        assert_eq!((&again["certificate"], &again["privateKey"]), (&all["certificate"], &all["privateKey"]));

        for (line, code, expected) in [
            ("cert issue --profile web-server --common-name a.b --ttl 1y --out x/", 1, "90 days"),
            ("cert issue --profile web-server --common-name a.b --eku code_signing --out x/", 1, "code_signing"),
            ("cert issue --profile nothing --common-name a.b --out x/", 1, "chancery profile list"),
            ("cert issue --profile web-server --common-name a.b --san ip:300.1.1.1", 2, "300.1.1.1"),
            ("cert issue --profile web-server", 2, "--common-name"),
        ] {
            live.fails(line, code, expected);
        }
        assert!(!live.path("x").exists());
    });
}

#[test]
fn a_request_of_ones_own_is_signed() {
    on_both_engines(|live| {
        root(live);
        let folder = live.path("");
        openssl(
            &folder,
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr -subj /CN=own.example.com",
        );
        live.says(
            "cert sign --profile web-server --csr own.csr --ttl 30d",
            &["issued", "own.crt", "own.fullchain.pem"],
        );
        openssl(&folder, "verify -CAfile root.pem -untrusted own.chain.pem own.crt");
        live.fails("cert sign --profile web-server --csr own.csr", 1, "own.crt");
        let csr = live.read("own.csr");
        let signed = live.run_with(&["cert", "sign", "--profile", "web-server", "--csr", "-", "--json"], &[], &csr);
        assert!(signed.succeeded("sign").contains("\"certificateId\""));
        live.fails("cert sign --profile web-server --csr missing.csr", 1, "missing.csr");
        live.fails("cert sign --profile web-server --csr own.key --out x/", 1, "request id: req-");
    });
}

#[test]
fn certificates_are_listed_shown_and_exported() {
    on_both_engines(|live| {
        for name in ["one", "two", "three"] {
            live.json(&format!("cert issue --profile client --common-name {name}.example.com"));
        }
        let text = live.says("cert list --profile client --limit 2", &["COMMON NAME", "three.example.com", "2 of 3"]);
        assert!(!text.contains("one.example.com"), "{text}");
        let found = live.json("cert list --search two.example.com --status active");
        assert_eq!(found["totalCount"], 1);
        assert_eq!(live.json("cert list --status revoked")["certificates"].as_array().unwrap().len(), 0);
        live.fails("cert list --profile nothing", 1, "chancery profile list");

        let certificate = &found["certificates"][0];
        let (id, serial) = (certificate["id"].as_str().unwrap(), certificate["serialNumber"].as_str().unwrap());
        live.says(&format!("cert show {id}"), &["two.example.com", serial, "issuing-ca", "client"]);
        assert_eq!(live.json(&format!("cert show {}", serial.to_uppercase()))["certificate"]["id"], id);
        live.fails(&format!("cert show {UNKNOWN}"), 1, "request id: req-");
        live.fails("cert show two.example.com", 2, "serial number");

        export(live, id, serial);
    });
}

fn export(live: &Live, id: &str, serial: &str) {
    let count = |text: &str| (text.matches("PRIVATE KEY-----").count() / 2, text.matches("BEGIN CERTIFICATE").count());
    for (options, expected) in [
        ("", (0, 1)),
        ("--key", (1, 1)),
        ("--format fullchain", (0, 3)),
        ("--format fullchain --key", (1, 3)),
        ("--format bundle", (1, 3)),
        ("--format bundle --key", (1, 3)),
    ] {
        for name in [id, serial] {
            let text = live.says(&format!("cert export {name} {options}"), &[]);
            assert_eq!(count(&text), expected, "{options}\n{text}");
        }
    }
    assert_eq!(live.json(&format!("cert export {id}"))["serialNumber"], serial);
    live.says(&format!("cert export {id} --key --format fullchain --out out/"), &["out/two.example.com.key"]);
    assert_eq!(live.mode("out/two.example.com.key"), 0o600);
    assert_eq!(count(&live.read("out/two.example.com.fullchain.pem")), (0, 3));
    let written = live.json(&format!("cert export {id} --format bundle --out out/all"));
    assert_eq!(written["files"][0], "out/all.bundle.pem");
    assert_eq!(live.mode("out/all.bundle.pem"), 0o600);
    live.fails(&format!("cert export {id} --format bundle --out out/all"), 1, "--force");
    live.says(&format!("cert export {id} --format bundle --out out/all --force"), &["out/all.bundle.pem"]);
    live.fails(&format!("cert export {UNKNOWN}"), 1, "request id: req-");

    openssl(
        &live.path(""),
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c.csr -subj /CN=c.example.com",
    );
    let signed = live.json("cert sign --profile client --csr c.csr")["certificateId"].clone();
    live.fails(&format!("cert export {} --key", signed.as_str().unwrap()), 1, "no private key");
}

#[test]
fn certificates_leave_in_every_format_and_keys_for_their_owner_only() {
    on_both_engines(|live| {
        let issued = live.json("cert issue --profile client --common-name www.example.com");
        let (id, serial) = (issued["certificateId"].as_str().unwrap(), issued["serialNumber"].as_str().unwrap());
        live.write("secret.txt", "größer als 6\n");
        let folder = live.path("");
        live.says(&format!("cert export {serial} --format der --out out/"), &["wrote out/www.example.com.der"]);
        openssl(&folder, "x509 -inform DER -in out/www.example.com.der -noout");
        for (options, name, more) in
            [("--format pkcs12", "out/new", ""), ("--format pkcs12 --legacy --alias two", "out/old", "-legacy")]
        {
            let line = format!("cert export {id} {options} --password-file secret.txt --out {name}");
            live.says(&line, &[&format!("wrote {name}.p12")]);
            assert_eq!(live.mode(&format!("{name}.p12")), 0o600);
            let open = format!("pkcs12 {more} -in {name}.p12 -noenc -passin file:secret.txt");
            let opened = openssl(&folder, &open);
            assert_eq!((opened.matches("BEGIN CERTIFICATE").count(), opened.matches("PRIVATE KEY").count()), (3, 2));
            let alias = if more.is_empty() { "www.example.com" } else { "two" };
            assert!(opened.contains(&format!("friendlyName: {alias}")), "{opened}");
            let before = std::fs::read(live.path(&format!("{name}.p12"))).unwrap();
            live.fails(&line, 1, "--force");
            assert_eq!(std::fs::read(live.path(&format!("{name}.p12"))).unwrap(), before);
            live.says(&format!("{line} --force"), &["wrote"]);
            assert_ne!(std::fs::read(live.path(&format!("{name}.p12"))).unwrap(), before);
        }
        let line = ["cert", "export", id, "--format", "jks", "--password-env", "STORE_PASSWORD", "--out", "out/java"];
        live.run_with(&line, &[("STORE_PASSWORD", "secret")], "").succeeded("jks");
        assert_eq!(live.mode("out/java.jks"), 0o600);
        assert_eq!(std::fs::read(live.path("out/java.jks")).unwrap()[..4], [0xfe, 0xed, 0xfe, 0xed]);
        for (options, code, expected) in [
            ("--format pkcs12 --out x", 2, "--password-file"),
            ("--format pkcs12 --password-file secret.txt", 2, "--out"),
            ("--format der", 2, "--out"),
            ("--format pem --alias a", 2, "pkcs12"),
            ("--format jks --legacy --password-file secret.txt --out x", 2, "--legacy"),
            ("--format jks --key --password-file secret.txt --out x", 2, "--key"),
            ("--format jks --password-env NOT_THERE_AT_ALL --out x", 2, "NOT_THERE_AT_ALL"),
            ("--format jks --password-file missing.txt --out x", 1, "missing.txt"),
        ] {
            live.fails(&format!("cert export {id} {options}"), code, expected);
        }
        live.write("short.txt", "12345");
        live.fails(&format!("cert export {id} --format jks --password-file short.txt --out x"), 1, "request id: req-");
        assert!(!live.path("x.jks").exists() && !live.path("x.p12").exists());
    });
}

#[test]
fn a_certificate_of_somebody_else_joins_the_inventory() {
    on_both_engines(|live| {
        let folder = live.path("");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
        openssl(&folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=Elsewhere -days 90"));
        openssl(&folder, &format!("req -new {key} -keyout leaf.key -out leaf.csr -subj /CN=leaf.example.net"));
        let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out leaf.pem";
        openssl(&folder, sign);
        live.write("full.pem", &format!("{}{}", live.read("leaf.pem"), live.read("ca.pem")));
        live.fails("cert import --certificate leaf.pem --chain leaf.pem --key leaf.key", 1, "no-chain");
        live.fails("cert import --certificate leaf.pem --chain ca.pem --key ca.key", 1, "key-mismatch");
        live.fails("cert import --certificate missing.pem", 1, "missing.pem");
        live.fails("cert import --certificate leaf.csr", 1, "no-certificate");
        let imported = live.json("cert import --certificate full.pem --key leaf.key --friendly-name Shop");
        assert!(imported.get("privateKey").is_none(), "{imported}");
        let id = imported["certificateId"].as_str().unwrap();
        live.says(&format!("cert show {}", imported["serialNumber"].as_str().unwrap()), &["leaf.example.net", id]);
        live.says(&format!("cert export {id} --format bundle --out back"), &["wrote back.bundle.pem"]);
        let public = openssl(&folder, "pkey -in back.bundle.pem -pubout");
        assert_eq!(public, openssl(&folder, "pkey -in leaf.key -pubout"));
        assert_eq!(live.read("back.bundle.pem").matches("BEGIN CERTIFICATE").count(), 2);
        live.fails("cert import --certificate leaf.pem --chain ca.pem", 1, "duplicate-serial");
        live.says("cert import --certificate ca.pem", &["imported"]);
        live.fails(&format!("cert revoke {id}"), 1, "imported");
        live.stop();
        live.says("fsck", &["clean"]);
        live.start();
    });
}

#[test]
fn certificates_are_renewed_revoked_and_released_and_lists_tell_of_it() {
    on_both_engines(|live| {
        root(live);
        let issue = "cert issue --profile web-server --common-name www.example.com --ttl 3d";
        let first = live.json(issue);
        let (id, serial) = (first["certificateId"].as_str().unwrap(), first["serialNumber"].as_str().unwrap());
        live.says(&format!("cert renew {serial} --out tls/"), &["issued", "tls/www.example.com.key"]);
        assert_eq!(live.mode("tls/www.example.com.key"), 0o600);
        let folder = live.path("");
        openssl(&folder, "verify -CAfile root.pem -untrusted tls/www.example.com.chain.pem tls/www.example.com.crt");
        live.fails(&format!("cert renew {id} --out tls/"), 1, "--force");
        live.fails(&format!("cert renew {id} --out tls/ --force"), 1, "renewed already");
        live.says(&format!("cert show {id}"), &["renewed by"]);

        live.says(&format!("cert revoke {id} --reason certificate-hold"), &["revoked", serial]);
        live.says("crl publish issuing-ca", &["revoked", "number", "runs out"]);
        live.says("crl show issuing-ca --pem --out issuing.crl", &["wrote issuing.crl"]);
        let printed = openssl(&folder, "crl -in issuing.crl -noout -text");
        for part in ["Certificate Hold", &serial.to_uppercase(), "X509v3 CRL Number", "X509v3 Authority Key Identifier"]
        {
            assert!(printed.contains(part), "{part}\n{printed}");
        }
        live.fails("crl show issuing-ca --pem --out issuing.crl", 1, "--force");
        live.says(&format!("cert release {serial}"), &["valid again"]);
        live.fails(&format!("cert release {serial}"), 1, "not on hold");
        live.says(&format!("cert revoke {id} --reason key-compromise"), &["revoked"]);
        live.fails(&format!("cert revoke {id}"), 1, "already");
        live.fails(&format!("cert revoke {id} --reason boredom"), 2, "boredom");
        live.fails(&format!("cert revoke {UNKNOWN}"), 1, "request id: req-");
        live.fails("crl show nothing", 1, "chancery ca list");
        live.fails("crl publish nothing", 1, "chancery ca list");
        live.says("crl config issuing-ca --delta on --delay 60", &["lists of changes", "on", "60 s"]);
        live.says("crl config issuing-ca --delta off --delay 0", &["off", "0 s"]);
        live.fails("crl hand-in issuing-ca --crl issuing.crl", 1, "no authority outside");

        // The list that certificates name tells of it by itself, soon.
        let shown = live.json("crl show issuing-ca");
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
        let jobs = live.json("job list");
        assert!(jobs["jobs"].is_array(), "{jobs}");
        live.fails(&format!("job show {UNKNOWN}"), 1, "there is no job");
        live.fails(&format!("job retry {UNKNOWN}"), 1, "there is no job");
        live.fails("job list --status done", 2, "parked");
    });
}
