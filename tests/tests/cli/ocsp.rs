//! `chancery ocsp`.

use crate::live::on_both_engines;

#[test]
fn a_certificate_is_asked_about_by_its_name_or_by_its_file_and_the_answer_is_checked() {
    on_both_engines(|live| {
        live.says("cert issue --profile web-server --common-name www.example.com --out www", &["issued"]);
        let serial = live.json("cert list")["certificates"][0]["serialNumber"].as_str().unwrap().to_owned();
        let shown = live.says(&format!("ocsp {serial}"), &["good", "OCSP Responder", "www.example.com", "until"]);
        assert!(!shown.contains("revoked"), "{shown}");
        let answer = live.json(&format!("ocsp {serial} --hash sha1 --no-nonce"));
        assert_eq!((answer["status"].as_str(), answer["hasNonce"].as_bool()), (Some("good"), Some(false)));
        live.says("ca show issuing-ca --pem", &["BEGIN"]);
        live.write("issuing.pem", &live.says("ca show issuing-ca --pem", &[]));
        live.write("root.pem", &live.says("ca show root-ca --pem", &[]));
        live.says("ocsp --certificate www.crt --issuer issuing.pem", &["good"]);
        live.says("ocsp --certificate www.fullchain.pem", &["good"]);
        live.says("ocsp --certificate issuing.pem --issuer root.pem", &["good", "Issuing CA"]);
        live.fails("ocsp --certificate www.crt", 1, "--issuer");
        live.fails("ocsp --certificate www.crt --issuer root.pem", 1, "issuer");
        live.fails("ocsp", 2, "ID|SERIAL");

        live.says(&format!("cert revoke {serial} --reason key-compromise"), &["revoked"]);
        let ran = live.run(&format!("ocsp {serial}"));
        assert_eq!(ran.code, Some(1));
        for words in ["revoked", "KEY_COMPROMISE", "signed by"] {
            assert!(ran.out.contains(words), "{words}\n{}", ran.out);
        }
        // Whose authority was made without.
        live.says("ca create quiet --type root --common-name Quiet --no-ocsp", &["answers (OCSP)"]);
        live.write("quiet.pem", &live.says("ca show quiet --pem", &[]));
        live.fails("ocsp --certificate quiet.pem --issuer quiet.pem", 1, "unauthorized");
    });
}
