//! The search for a path to a trusted certificate: what it finds, what it refuses and why, and that it ends.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

#[path = "../../testkit/src/chains.rs"]
#[expect(dead_code, reason = "the table of imports is used by other tests")]
mod chains;

use chains::{Draft, TestKey, common_name, written};
use x509::chain::{ExpectedName, Options, Place, Purpose, Rule, Verdict, verify};
use x509::crl::{CrlTemplate, ListedReason, RevokedCertificate, assemble_crl};
use x509::extension::{CertificatePolicies, encode_crl_urls};
use x509::{
    Certificate, Crl, DnsName, EmailAddress, ExtendedKeyUsage, GeneralName, IpAddress, KeyUsage, KeyUsages,
    RevocationReason, SerialNumber, SignatureAlgorithm, Uri, oid,
};

const NOW: i64 = 1_750_000_000;
const DAY: i64 = 86_400;

/// A root, an issuing authority below it and a certificate for `www.example.com`.
struct Hierarchy {
    root_key: TestKey,
    issuing_key: TestKey,
    root: Draft,
    issuing: Draft,
    leaf: Draft,
}

impl Hierarchy {
    fn new() -> Self {
        let (root_key, issuing_key, leaf_key) = (TestKey::generate(), TestKey::generate(), TestKey::generate());
        let (root_name, issuing_name) = (common_name("Root"), common_name("Issuing"));
        let mut root = Draft::authority(&root_name, root_key.spki(), &root_name, NOW);
        root.set_key_ids(&root_key.key_id(), &root_key.key_id());
        let mut issuing = Draft::authority(&issuing_name, issuing_key.spki(), &root_name, NOW);
        issuing.set_key_ids(&issuing_key.key_id(), &root_key.key_id());
        let mut leaf = Draft::end_entity(&common_name("www.example.com"), leaf_key.spki(), &issuing_name, NOW);
        leaf.set_key_ids(&leaf_key.key_id(), &issuing_key.key_id());
        leaf.set_names(&[dns("www.example.com"), dns("*.apps.example.com"), ip("192.0.2.1"), email("jo@example.com")]);
        Self { root_key, issuing_key, root, issuing, leaf }
    }

    fn certificates(&self) -> (Certificate, Certificate, Certificate) {
        let read = |der| Certificate::from_der(der).unwrap();
        let issuing = read(self.issuing.sign(&self.root_key));
        (read(self.root.sign(&self.root_key)), issuing, read(self.leaf.sign(&self.issuing_key)))
    }

    fn verify(&self, adjust: impl FnOnce(&mut Options<'_>)) -> Verdict {
        let (root, issuing, leaf) = self.certificates();
        let (anchors, intermediates) = ([root], [issuing]);
        let mut options = Options::new(&anchors, NOW);
        options.intermediates = &intermediates;
        adjust(&mut options);
        verify(&leaf, &options)
    }
}

fn dns(name: &str) -> GeneralName {
    GeneralName::Dns(DnsName::parse(name).unwrap())
}

fn ip(address: &str) -> GeneralName {
    GeneralName::Ip(IpAddress::parse(address).unwrap())
}

fn email(address: &str) -> GeneralName {
    GeneralName::Email(EmailAddress::parse(address).unwrap())
}

/// The rules that were broken, with the place of each.
fn broken(verdict: &Verdict) -> Vec<(Place, Rule)> {
    assert!(!verdict.valid && verdict.path.is_empty(), "{verdict:?}");
    verdict.refused.iter().map(|refused| (refused.certificate, refused.rule)).collect()
}

#[test]
fn a_path_is_found_and_named() {
    let verdict = Hierarchy::new().verify(|_| {});
    assert_eq!(verdict.path, [Place::Leaf, Place::Intermediate(0), Place::Anchor(0)]);
    assert!(verdict.valid && verdict.refused.is_empty());
}

#[test]
fn a_trusted_certificate_is_its_own_path() {
    let (root, _, leaf) = Hierarchy::new().certificates();
    let anchors = [root.clone(), leaf.clone()];
    assert_eq!(verify(&root, &Options::new(&anchors, NOW)).path, [Place::Anchor(0)]);
    // Trust in a certificate that is no authority is not enough: it does not have the rules of one.
    assert_eq!(
        broken(&verify(&leaf, &Options::new(&anchors, NOW))),
        [(Place::Anchor(1), Rule::BasicConstraintsMissing)]
    );
}

#[test]
fn a_certificate_is_refused_without_a_path_to_trust() {
    let hierarchy = Hierarchy::new();
    assert_eq!(broken(&hierarchy.verify(|options| options.anchors = &[])), [(Place::Intermediate(0), Rule::Untrusted)]);
    assert_eq!(broken(&hierarchy.verify(|options| options.intermediates = &[])), [(Place::Leaf, Rule::Untrusted)]);
    // A pin is the whole certificate: another with the same name and key identifier does not do.
    let mut other = Hierarchy::new();
    other.root.set_key_ids(&hierarchy.root_key.key_id(), &hierarchy.root_key.key_id());
    let (imposter, ..) = other.certificates();
    let anchors = [imposter];
    let verdict = hierarchy.verify(|options| options.anchors = &[]);
    assert!(!verdict.valid);
    let (_, issuing, leaf) = hierarchy.certificates();
    let intermediates = [issuing];
    let options = Options { intermediates: &intermediates, ..Options::new(&anchors, NOW) };
    assert_eq!(broken(&verify(&leaf, &options)), [(Place::Intermediate(0), Rule::SignatureInvalid)]);
}

#[test]
fn names_are_expected_one_by_one() {
    let expect_host = |name| ExpectedName::Dns(DnsName::parse(name).unwrap());
    let cases = [
        (expect_host("www.example.com"), true),
        (expect_host("WWW.example.com"), true),
        (expect_host("a.apps.example.com"), true),
        (expect_host("apps.example.com"), false),
        (expect_host("a.b.apps.example.com"), false),
        (expect_host("*.apps.example.com"), true),
        (expect_host("*.example.com"), false),
        (ExpectedName::Ip(IpAddress::parse("192.0.2.1").unwrap()), true),
        (ExpectedName::Ip(IpAddress::parse("192.0.2.2").unwrap()), false),
        (ExpectedName::Email(EmailAddress::parse("jo@EXAMPLE.com").unwrap()), true),
        (ExpectedName::Email(EmailAddress::parse("Jo@example.com").unwrap()), false),
    ];
    for (name, is_valid) in cases {
        let names = [expect_host("www.example.com"), name.clone()];
        let (root, issuing, leaf) = Hierarchy::new().certificates();
        let (anchors, intermediates) = ([root], [issuing]);
        let options = Options { intermediates: &intermediates, names: &names, ..Options::new(&anchors, NOW) };
        let verdict = verify(&leaf, &options);
        assert_eq!(verdict.valid, is_valid, "{name}");
        assert!(is_valid || broken(&verdict) == [(Place::Leaf, Rule::NameMismatch)]);
    }
}

#[test]
fn every_certificate_limits_the_purposes() {
    let with = |change: fn(&mut Hierarchy), purpose| {
        let mut hierarchy = Hierarchy::new();
        change(&mut hierarchy);
        hierarchy.verify(|options| options.purpose = purpose)
    };
    let any = ExtendedKeyUsage::Other(oid::ANY_EXTENDED_KEY_USAGE.to_vec());
    assert!(any.is_any());
    assert!(with(|_| {}, Purpose::ClientAuth).valid);
    assert!(with(|plan| plan.leaf.set_purposes(&[ExtendedKeyUsage::ClientAuth]), Purpose::ClientAuth).valid);
    assert!(with(|plan| plan.leaf.set_purposes(&[ExtendedKeyUsage::ClientAuth]), Purpose::Any).valid);
    let wrong = with(|plan| plan.leaf.set_purposes(&[ExtendedKeyUsage::ClientAuth]), Purpose::ServerAuth);
    assert_eq!(broken(&wrong), [(Place::Leaf, Rule::EkuMismatch)]);
    let above = with(|plan| plan.issuing.set_purposes(&[ExtendedKeyUsage::ClientAuth]), Purpose::ServerAuth);
    assert_eq!(broken(&above), [(Place::Intermediate(0), Rule::EkuMismatch)]);
    let usages = Hierarchy::new();
    let (root, issuing, _) = usages.certificates();
    let mut leaf = usages.leaf.clone();
    leaf.set_usages(&[KeyUsage::DigitalSignature]);
    let leaf = Certificate::from_der(leaf.sign(&usages.issuing_key)).unwrap();
    let (anchors, intermediates) = ([root], [issuing]);
    for (usage, is_valid) in [(KeyUsage::DigitalSignature, true), (KeyUsage::KeyAgreement, false)] {
        let options = Options {
            intermediates: &intermediates,
            key_usages: KeyUsages::of(&[usage]),
            ..Options::new(&anchors, NOW)
        };
        assert_eq!(verify(&leaf, &options).valid, is_valid);
    }
}

#[test]
fn policies_are_required_where_an_authority_says_so() {
    let policy = |oids: &[&[u8]]| written(|writer| CertificatePolicies::encode_oids(oids, writer));
    let (one, two): (&[u8], &[u8]) = (&[0x2a, 3, 1], &[0x2a, 3, 2]);
    // requireExplicitPolicy of the issuing authority, its policies, those of the leaf, inhibitAnyPolicy, valid or not.
    type Case<'a> = (u8, &'a [&'a [u8]], &'a [&'a [u8]], Option<u8>, bool);
    let cases: [Case<'_>; 9] = [
        (0, &[one], &[one, two], None, true),
        (0, &[one], &[two], None, false),
        (0, &[one], &[], None, false),
        (0, &[], &[one], None, false),
        (0, &[oid::ANY_POLICY], &[one], None, true),
        (0, &[one], &[oid::ANY_POLICY], None, true),
        (0, &[one], &[oid::ANY_POLICY], Some(0), false),
        (1, &[one], &[two], None, false),
        (2, &[one], &[two], None, true),
    ];
    for (skip, issuing, leaf, inhibit, is_valid) in cases {
        let mut hierarchy = Hierarchy::new();
        hierarchy.issuing.set(oid::POLICY_CONSTRAINTS, Some(true), vec![0x30, 3, 0x80, 1, skip]);
        for (draft, policies) in [(&mut hierarchy.issuing, issuing), (&mut hierarchy.leaf, leaf)] {
            if !policies.is_empty() {
                draft.set(oid::CERTIFICATE_POLICIES, None, policy(policies));
            }
        }
        if let Some(skip) = inhibit {
            hierarchy.issuing.set(oid::INHIBIT_ANY_POLICY, Some(true), vec![2, 1, skip]);
        }
        let verdict = hierarchy.verify(|_| {});
        assert_eq!(verdict.valid, is_valid, "{skip} {issuing:?} {leaf:?} {inhibit:?}");
        assert!(is_valid || broken(&verdict) == [(Place::Leaf, Rule::PolicyRequired)]);
    }
}

/// A list of the issuing authority that names the leaf, or nobody.
struct List<'a> {
    hierarchy: &'a Hierarchy,
    names_leaf: bool,
    from: i64,
    to: i64,
    key_id: Vec<u8>,
    places: &'a [Uri],
    signer: &'a TestKey,
}

impl<'a> List<'a> {
    fn new(hierarchy: &'a Hierarchy, names_leaf: bool) -> Self {
        let (key_id, signer) = (hierarchy.issuing_key.key_id(), &hierarchy.issuing_key);
        Self { hierarchy, names_leaf, from: NOW - DAY, to: NOW + DAY, key_id, places: &[], signer }
    }

    fn sign(&self) -> Crl {
        let template = CrlTemplate {
            signature_algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_der: &self.hierarchy.leaf.issuer,
            this_update: self.from,
            next_update: self.to,
            authority_key_id: &self.key_id,
            number: 7,
            distribution_point_urls: self.places,
            base_number: None,
            freshest_urls: &[],
        };
        let serial_number = SerialNumber::from_integer(&self.hierarchy.leaf.serial).unwrap();
        let entry = RevokedCertificate {
            serial_number,
            revoked_at: NOW - DAY,
            reason: ListedReason::Revoked(RevocationReason::KeyCompromise),
        };
        let contents = template.to_be_signed(self.names_leaf.then_some(entry));
        let signature = self.signer.sign(&contents);
        Crl::from_der(assemble_crl(&contents, SignatureAlgorithm::EcdsaSha256, &signature)).unwrap()
    }
}

#[test]
fn lists_of_the_issuer_are_heard() {
    let hierarchy = Hierarchy::new();
    let place = |text| [Uri::parse(text).unwrap()];
    let (here, there) = (place("http://crl.example/1"), place("http://crl.example/2"));
    let stranger = TestKey::generate();
    let mut placed = Hierarchy::new();
    placed.leaf.set(oid::CRL_DISTRIBUTION_POINTS, None, written(|writer| encode_crl_urls(&here, writer)));
    let empty = || List::new(&hierarchy, false);
    let full = || List::new(&hierarchy, true);
    let cases = [
        (empty(), None),
        (full(), Some(Rule::Revoked)),
        (List { to: NOW - 1, ..empty() }, Some(Rule::CrlInvalid)),
        (List { from: NOW + 1, ..empty() }, Some(Rule::CrlInvalid)),
        (List { signer: &stranger, ..empty() }, Some(Rule::CrlInvalid)),
        (List { key_id: vec![9; 20], signer: &stranger, ..full() }, None),
        (List { places: &here, ..List::new(&placed, true) }, Some(Rule::Revoked)),
        (List { places: &there, ..List::new(&placed, true) }, None),
        (List { places: &here, ..full() }, None),
    ];
    let cases = cases.map(|(list, expected)| (list.hierarchy, list.sign(), expected));
    for (index, (hierarchy, crl, expected)) in cases.into_iter().enumerate() {
        let crls = [crl];
        let (root, issuing, leaf) = hierarchy.certificates();
        let (anchors, intermediates) = ([root], [issuing]);
        let options = Options { intermediates: &intermediates, crls: &crls, ..Options::new(&anchors, NOW) };
        let verdict = verify(&leaf, &options);
        assert_eq!(verdict.valid, expected.is_none(), "case {index}: {verdict:?}");
        assert!(expected.is_none_or(|rule| broken(&verdict) == [(Place::Leaf, rule)]), "case {index}: {verdict:?}");
    }
}

/// A hundred authorities whose names and keys are `name(index)` and `key(index)`, each signed by the one before, the
/// first by itself; none of them is trusted.
fn long_chain(name: fn(usize) -> usize, key: fn(usize) -> usize) -> (Certificate, Vec<Certificate>) {
    let keys: Vec<TestKey> = (0..=100).map(|_| TestKey::generate()).collect();
    let of = |index: usize| (common_name(&format!("Authority {}", name(index))), &keys[key(index)]);
    let authorities = (0..100).map(|index| {
        let (subject, own) = of(index);
        let (issuer, signer) = of(index.saturating_sub(1));
        let mut draft = Draft::authority(&subject, own.spki(), &issuer, NOW);
        draft.serial = vec![1, u8::try_from(index).unwrap()];
        draft.set_key_ids(&own.key_id(), &signer.key_id());
        Certificate::from_der(draft.sign(signer)).unwrap()
    });
    let authorities = authorities.collect();
    let (issuer, signer) = of(99);
    let mut leaf = Draft::end_entity(&common_name("www.example.com"), keys[100].spki(), &issuer, NOW);
    leaf.set_key_ids(&keys[100].key_id(), &signer.key_id());
    (Certificate::from_der(leaf.sign(signer)).unwrap(), authorities)
}

#[test]
fn long_and_dense_chains_come_to_an_end() {
    let (root, ..) = Hierarchy::new().certificates();
    let anchors = [root];
    type Choice = fn(usize) -> usize;
    let cases: [(Choice, Choice); 4] =
        [(|index| index, |index| index), (|_| 0, |index| index), (|index| index, |_| 0), (|_| 0, |_| 0)];
    for (name, key) in cases {
        let (leaf, intermediates) = long_chain(name, key);
        for depth_max in [None, Some(u32::MAX)] {
            let options = Options { intermediates: &intermediates, depth_max, ..Options::new(&anchors, NOW) };
            let verdict = verify(&leaf, &options);
            let ends = [Rule::DepthExceeded, Rule::Untrusted, Rule::BudgetExhausted];
            assert!(broken(&verdict).iter().any(|(_, rule)| ends.contains(rule)), "{verdict:?}");
        }
    }
}

#[test]
fn options_raise_the_depth_and_the_work_stays_bounded() {
    let (leaf, intermediates) = long_chain(|index| index, |index| index);
    let anchors = [intermediates[40].clone()];
    let verify_with = |depth_max| {
        let options = Options { intermediates: &intermediates, depth_max, ..Options::new(&anchors, NOW) };
        verify(&leaf, &options)
    };
    assert!(verify_with(Some(59)).valid);
    assert!(verify_with(Some(58)).refused.iter().any(|refused| refused.rule == Rule::DepthExceeded));
    assert!(!verify_with(None).valid);
    // Authorities that have all signed each other: more paths than can be tried.
    let keys: Vec<TestKey> = (0..12).map(|_| TestKey::generate()).collect();
    let name = |index: usize| common_name(&format!("Authority {index}"));
    let mut dense = Vec::new();
    for (subject, own) in keys.iter().enumerate() {
        for (issuer, signer) in keys.iter().enumerate().filter(|(issuer, _)| *issuer != subject) {
            let mut draft = Draft::authority(&name(subject), own.spki(), &name(issuer), NOW);
            draft.set_key_ids(&own.key_id(), &signer.key_id());
            dense.push(Certificate::from_der(draft.sign(signer)).unwrap());
        }
    }
    let mut leaf = Draft::end_entity(&common_name("www.example.com"), keys[0].spki(), &name(1), NOW);
    leaf.set_key_ids(&keys[0].key_id(), &keys[1].key_id());
    let leaf = Certificate::from_der(leaf.sign(&keys[1])).unwrap();
    let (root, ..) = Hierarchy::new().certificates();
    let anchors = [root];
    let options = Options { intermediates: &dense, ..Options::new(&anchors, NOW) };
    assert!(broken(&verify(&leaf, &options)).contains(&(Place::Leaf, Rule::BudgetExhausted)));
}
