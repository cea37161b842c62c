//! `chancery verify`.

use crate::live::on_both_engines;

#[test]
fn a_certificate_is_verified_against_an_authority_or_against_files() {
    on_both_engines(|live| {
        live.says("cert issue --profile web-server --common-name www.example.com --out www", &["issued"]);
        live.write("issuing.pem", &live.says("ca show issuing-ca --pem", &[]));
        live.write("root.pem", &live.says("ca show root-ca --pem", &[]));
        live.says("verify www.crt --ca issuing-ca", &["valid: www.example.com < "]);
        let by_files = "verify www.crt --trust root.pem --intermediates issuing.pem";
        live.says(&format!("{by_files} --name www.example.com --purpose server_auth"), &["valid"]);
        assert_eq!(live.json(by_files)["path"].as_array().map(Vec::len), Some(3));
        let ran = live.run("verify www.crt --trust root.pem");
        assert_eq!(ran.code, Some(1));
        for words in ["not valid", "www.example.com", "untrusted"] {
            assert!(ran.out.contains(words), "{words}\n{}", ran.out);
        }
        live.fails("verify www.crt", 2, "--trust");
        live.fails("verify www.key --ca issuing-ca", 1, "leaf");
        live.fails("verify www.crt --ca nothing", 1, "ca list");
    });
}
