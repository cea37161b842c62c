//! Who is let in (contract §6.2): exact certificates of every kind, passwords, and what happens when both come.

use domain::registry::{AccessEnd, Owner};

use crate::clients::{Proof, Raw, publish, said, succeeded};
use crate::world::{Pair, World, for_each_engine};

const ACCEPTED: Option<u8> = Some(0);
const BAD_CREDENTIALS: &str = "Connection Refused: bad user name or password.";
const NOT_AUTHORIZED: &str = "not authorised";

/// Kinds of certificates, each by the arguments of `openssl req -x509` that make it odd.
const KINDS: &[(&str, &[&str])] = &[
    ("rsa-2048", &["-newkey", "rsa:2048"]),
    ("rsa-3072", &["-newkey", "rsa:3072"]),
    ("rsa-4096", &["-newkey", "rsa:4096"]),
    ("p-256", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p-384", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p-521", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("ed25519", &["-newkey", "ed25519"]),
    ("unknown-critical-extension", &["-addext", "1.2.3.4.5=critical,DER:0500"]),
    ("no-name", &["-subj", "/"]),
    ("authority", &["-addext", "keyUsage=critical,keyCertSign,cRLSign"]),
    ("no-digital-signature", &["-addext", "keyUsage=critical,keyEncipherment"]),
    ("for-servers-only", &["-addext", "extendedKeyUsage=critical,serverAuth"]),
    ("sha-1", &["-sha1"]),
    ("sha-512", &["-sha512"]),
    ("pss", &["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"]),
    ("serial-zero", &["-set_serial", "0"]),
    ("serial-negative", &["-set_serial", "-5"]),
    ("long-lived", &["-days", "36500"]),
    ("unicode", &["-utf8", "-subj", "/CN=датчик №1/O=Ж"]),
    ("name-constraints", &["-addext", "nameConstraints=critical,permitted;DNS:example.com"]),
    ("policy-constraints", &["-addext", "policyConstraints=critical,requireExplicitPolicy:0"]),
    ("other-names", &["-addext", "subjectAltName=critical,URI:urn:x:1,IP:192.0.2.1,otherName:1.2.3;UTF8:x"]),
];

#[test]
fn every_kind_of_certificate_is_let_in_over_both_versions_of_tls_and_only_with_its_own_key() {
    for_each_engine(|world| async {
        world.add_device("dev1").await;
        let stranger = world.pair("stranger", &[]);
        let mut pairs: Vec<(String, Pair)> =
            KINDS.iter().map(|(name, arguments)| ((*name).to_owned(), world.pair(name, arguments))).collect();
        pairs.push(("version-1".into(), version_1(&world)));
        pairs.push(("signature-that-does-not-hold".into(), broken_signature(&world)));
        for (name, pair) in &pairs {
            world.register(&Owner::Device("dev1".into()), &pair.certificate).await;
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let code = Raw::connect(&world, version, Some(pair)).connack(name);
                assert_eq!(code, ACCEPTED, "{name} over {version:?}");
                let stolen = Pair { certificate: pair.certificate.clone(), key: stranger.key.clone() };
                let code = Raw::connect(&world, version, Some(&stolen)).connack(name);
                assert_eq!(code, None, "{name} with another key over {version:?}");
            }
        }
        world
    });
}

/// X.509 v1: a request that is signed without extensions.
fn version_1(world: &World) -> Pair {
    let pair = world.pair("version-1", &[]);
    let script = format!(
        "openssl req -new -key {key} -subj /CN=v1 -out {request} && openssl x509 -req -in {request} -signkey {key} \
         -days 30 -out {certificate} && openssl x509 -in {certificate} -noout -text | grep -q 'Version: 1 '",
        key = pair.key.display(),
        request = world.path("version-1.csr").display(),
        certificate = pair.certificate.display(),
    );
    let made = std::process::Command::new("bash").args(["-ec", &script]).output().unwrap();
    succeeded(&made);
    pair
}

fn broken_signature(world: &World) -> Pair {
    use x509::pem;
    let pair = world.pair("broken", &[]);
    let text = std::fs::read_to_string(&pair.certificate).unwrap();
    let mut der = pem::decode_all(&text, pem::CERTIFICATE).unwrap().remove(0);
    *der.last_mut().unwrap() ^= 1;
    std::fs::write(&pair.certificate, pem::encode(pem::CERTIFICATE, &der)).unwrap();
    pair
}

#[test]
fn a_password_decides_when_there_is_one() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        world.add_device("dev2").await;
        let unknown = world.pair("unknown", &[]);
        let (right, wrong) = ("Passw0rdForDevice", "Passw0rdForNobody");
        world.add_password(&Owner::Device("dev1".into()), right).await;
        world.add_password(&Owner::Device("dev2".into()), right).await;
        let is_dev1 = "$devices/dev1/events";
        let is_dev2 = "$devices/dev2/events";
        // The rows of the table of §6.2, and what is beside it.
        for (certificate, user, password, topic, expected) in [
            (None, Some("dev1"), Some(wrong), is_dev1, BAD_CREDENTIALS),
            (Some(&unknown), Some("dev1"), Some(wrong), is_dev1, BAD_CREDENTIALS),
            (None, Some("dev1"), Some(right), is_dev1, ""),
            (Some(&unknown), Some("dev1"), Some(right), is_dev1, ""),
            (Some(&pair), Some("dev1"), Some(wrong), is_dev1, BAD_CREDENTIALS),
            (Some(&pair), Some("dev1"), Some(right), is_dev1, ""),
            (Some(&pair), Some("dev2"), Some(right), is_dev2, ""),
            (Some(&pair), None, None, is_dev1, ""),
            (Some(&pair), Some("dev2"), None, is_dev1, ""),
            (None, Some("nobody"), Some(right), is_dev1, BAD_CREDENTIALS),
            (Some(&pair), Some("dev1"), Some(""), is_dev1, BAD_CREDENTIALS),
            (Some(&unknown), None, None, is_dev1, NOT_AUTHORIZED),
            (None, None, None, is_dev1, NOT_AUTHORIZED),
        ] {
            let mut arguments = vec!["-t", topic, "-m", "x", "-q", "1"];
            user.into_iter().for_each(|user| arguments.extend(["-u", user]));
            password.into_iter().for_each(|password| arguments.extend(["-P", password]));
            let files =
                certificate.map(|pair| (pair.certificate.display().to_string(), pair.key.display().to_string()));
            if let Some((certificate, key)) = &files {
                arguments.extend(["--cert", certificate, "--key", key]);
            }
            let output = publish(&world, "mqttv311", &Proof::None, &arguments).await;
            let case = format!("{} {user:?} {password:?}: {}", certificate.is_some(), said(&output));
            assert_eq!(output.status.success(), expected.is_empty(), "{case}");
            assert!(said(&output).contains(expected), "{case}");
        }
        world
    });
}

#[test]
fn a_certificate_gives_access_while_it_is_active_and_valid() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let connack = || Raw::connect(&world, &rustls::version::TLS13, Some(&pair)).connack("c");
        assert_eq!(connack(), ACCEPTED);
        for state in ["INACTIVE", "REVOKED"] {
            world.execute("UPDATE registered_certificates SET state = $1", vec![state.into()]).await;
            assert_eq!(connack(), Some(5), "{state}");
        }
        world.execute("UPDATE registered_certificates SET state = 'ACTIVE'", vec![]).await;
        for days in [-2, 31] {
            world.at(days * 86_400);
            assert_eq!(connack(), Some(5), "after {days} days");
        }
        world.at(0);
        world.execute("UPDATE registries SET is_disabled = 1", vec![]).await;
        assert_eq!(connack(), Some(5), "the registry is disabled");
        world.execute("UPDATE registries SET is_disabled = 0", vec![]).await;
        assert_eq!(connack(), ACCEPTED);
        world
    });
}

#[test]
fn a_session_ends_with_its_access_wherever_that_was_ended() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let of_b = world.pair("b", &[]);
        let sha256 = world.register(&Owner::Device("dev1".into()), &of_b.certificate).await;
        let ends = [
            AccessEnd::Certificate(sha256),
            AccessEnd::Owner(Owner::Device("dev1".into())),
            AccessEnd::Owner(Owner::Registry(world.registry.as_str().into())),
        ];
        for end in &ends {
            for is_here in [true, false] {
                let mut ended = Raw::connect(&world, &rustls::version::TLS13, Some(&of_b));
                assert_eq!(ended.connack("b"), ACCEPTED);
                let mut other = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
                assert_eq!(other.connack("other"), ACCEPTED);
                world.end_access_elsewhere(end).await;
                if is_here {
                    world.services.end_access(std::slice::from_ref(end));
                }
                let read = tokio::task::spawn_blocking(move || ended.read(1)).await.unwrap();
                assert_eq!(read, b"", "{end:?}");
                if matches!(end, AccessEnd::Certificate(_)) {
                    other.send(&[0xc0, 0]);
                    assert_eq!(other.read(2), [0xd0, 0], "who has another certificate stays");
                }
            }
        }
        world
    });
}

#[test]
fn a_session_ends_with_its_password() {
    for_each_engine(|world| async {
        world.add_device("dev1").await;
        let id = world.add_password(&Owner::Device("dev1".into()), "Passw0rdForDevice").await;
        let with_password = || {
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60, 0, 1, b'c'];
            for text in ["dev1", "Passw0rdForDevice"] {
                body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text.as_bytes());
            }
            let mut raw = Raw::connect(&world, &rustls::version::TLS13, None);
            raw.send(&[&[0x10, u8::try_from(body.len()).unwrap()], &*body].concat());
            let code = raw.read(4).get(3).copied();
            (raw, code)
        };
        let (mut raw, code) = with_password();
        assert_eq!(code, ACCEPTED);
        world.execute("DELETE FROM registered_passwords", vec![]).await;
        world.end_access_elsewhere(&AccessEnd::Password(id.as_str().into())).await;
        assert_eq!(tokio::task::spawn_blocking(move || raw.read(1)).await.unwrap(), b"");
        assert_eq!(with_password().1, Some(4), "what was remembered of it is forgotten");
        world
    });
}

#[test]
fn a_session_ends_when_its_certificate_expires() {
    for_each_engine(|world| async {
        let pair = world.device("dev1").await;
        let mut raw = Raw::connect(&world, &rustls::version::TLS13, Some(&pair));
        assert_eq!(raw.connack("c"), ACCEPTED);
        world.at(31 * 86_400);
        let read = tokio::task::spawn_blocking(move || raw.read(1)).await.unwrap();
        assert_eq!(read, b"");
        world
    });
}
