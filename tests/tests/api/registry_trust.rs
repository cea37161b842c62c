//! Authorities that a registry trusts, and certificates that are taken in on their word.

use crate::authorities::authority;
use crate::issuing::{first_profile, issue};
use crate::server::{Server, for_each_engine, text};
use domain::caller::Caller;
use domain::registry::credential::{CertificateState, RegisteredCertificate};
use domain::registry::trust::TrustedAuthority;
use domain::registry::{Device, Labels, Owner, Registry};
use domain::{AuthorityId, Error, Reason};
use serde_json::{Value, json};
use services::registry::{
    Asked, DevicesOf, NewCredentials, NewDevice, NewRegistry, NewTemplate, NewTrust, PageRequest,
};
use testkit::chains::{Draft, TestKey, common_name};
use x509::{Certificate, ExtendedKeyUsage, pem};

const DAY: i64 = 24 * 60 * 60;

impl Server {
    /// The caller as the services know it.
    pub async fn known(&self) -> Caller {
        let header = format!("Bearer {}", self.caller.token);
        self.services.authenticate(Some(&header), None).await.unwrap()
    }

    /// A new registry in the caller's project.
    pub async fn registry(&self, name: &str) -> Registry {
        let caller = self.known().await;
        let new = NewRegistry {
            folder: self.project.to_string(),
            name: name.into(),
            description: String::new(),
            labels: Labels::new(),
            log_options: Default::default(),
            credentials: NewCredentials::default(),
        };
        self.services.create_registry(&asked(&caller), new).await.unwrap();
        self.services.registry_named(&caller, &self.project.to_string(), name).await.unwrap()
    }

    /// A new device without credentials.
    pub async fn device_of(&self, registry: &Registry, name: &str) -> Device {
        let caller = self.known().await;
        let new = NewDevice { registry: registry.id.0.clone(), name: name.into(), ..NewDevice::default() };
        self.services.create_device(&asked(&caller), new).await.unwrap();
        self.services.device_named(&caller, &registry.id.0, name).await.unwrap().0
    }

    /// The names of the devices of a registry, oldest first.
    async fn devices_of(&self, registry: &Registry) -> Vec<String> {
        let (caller, of) = (self.known().await, DevicesOf::Registry(registry.id.0.clone()));
        let devices = self.services.devices(&caller, &of, &first_page()).await.unwrap();
        devices.items.into_iter().map(|(device, _)| device.name).collect()
    }

    async fn trust(&self, registry: &Registry, new: NewTrust) -> Result<TrustedAuthority, Error> {
        let caller = self.known().await;
        self.services.trust_authority(&caller, &registry.id.0, &new, NewTemplate::default()).await
    }

    async fn take_in(&self, leaf: &Certificate, above: &[Vec<u8>]) -> Result<Option<RegisteredCertificate>, Error> {
        self.services.take_in(leaf.as_der(), above, None).await
    }
}

pub fn asked(caller: &Caller) -> Asked<'_> {
    Asked { caller, repeat: None }
}

pub fn first_page() -> PageRequest {
    PageRequest { size: 100, token: String::new() }
}

/// The id of an authority that the API named.
fn own(id: &str) -> NewTrust {
    NewTrust::Own(AuthorityId::parse(id).unwrap())
}

/// A client's certificate from the issuing authority of the first start.
async fn client(server: &Server, name: &str) -> Certificate {
    let profile = first_profile(server, "client").await;
    let wanted = json!({"commonName": name, "extendedKeyUsages": ["client_auth"], "ttl": "30d"});
    let issued = issue(server, &profile, wanted).await.ok();
    Certificate::from_pem(&text(&issued["certificate"])).unwrap()
}

#[track_caller]
fn refused<T>(answer: Result<T, Error>) -> Reason {
    match answer {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.reason().unwrap_or_else(|| panic!("it failed: {error}")),
    }
}

#[track_caller]
fn device_id(taken: &RegisteredCertificate) -> String {
    assert!(matches!(taken.owner, Owner::Device(_)), "{taken:?}");
    taken.owner.id().to_owned()
}

/// An outside authority with its key.
struct Outside {
    key: TestKey,
    name: x509::DistinguishedName,
    der: Vec<u8>,
}

impl Outside {
    fn new(name: &str, now: i64) -> Self {
        let (key, name) = (TestKey::generate(), common_name(name));
        let mut draft = Draft::authority(&name, key.spki(), &name, now);
        draft.set_key_ids(&key.key_id(), &key.key_id());
        let der = draft.sign(&key);
        Self { key, name, der }
    }

    fn below(&self, name: &str, now: i64) -> Self {
        let (key, name) = (TestKey::generate(), common_name(name));
        let mut draft = Draft::authority(&name, key.spki(), &self.name, now);
        draft.set_key_ids(&key.key_id(), &self.key.key_id());
        let der = draft.sign(&self.key);
        Self { key, name, der }
    }

    fn draft(&self, name: &str, now: i64) -> Draft {
        let key = TestKey::generate();
        let mut draft = Draft::end_entity(&common_name(name), key.spki(), &self.name, now);
        draft.set_key_ids(&key.key_id(), &self.key.key_id());
        draft.set_purposes(&[ExtendedKeyUsage::ClientAuth]);
        draft
    }

    fn certify(&self, name: &str, now: i64) -> Certificate {
        Certificate::from_der(self.draft(name, now).sign(&self.key)).unwrap()
    }

    fn as_trust(&self, proof: &[u8]) -> NewTrust {
        NewTrust::Foreign {
            certificate: pem::encode(pem::CERTIFICATE, &self.der),
            verification: pem::encode(pem::CERTIFICATE, proof),
        }
    }
}

#[test]
fn a_certificate_below_a_trusted_authority_of_ours_becomes_a_device() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let leaf = client(&server, "pump 7").await;
        assert_eq!(server.take_in(&leaf, &[]).await.unwrap(), None, "nobody trusts its authority");
        let root = text(&server.get(&format!("/api/v1/pki/ca/{}", server.issuing_ca)).await.ok()["ca"]["parentCaId"]);
        let trusted = server.trust(&registry, own(&root)).await.unwrap();
        // The chain above a certificate of ours is known, and the refusal of a moment ago forgotten.
        let taken = server.take_in(&leaf, &[]).await.unwrap().unwrap();
        assert_eq!(server.devices_of(&registry).await, ["pump-7"]);
        assert_eq!(taken.trusted_authority, Some(trusted.id.clone()));
        assert_eq!(taken.fingerprint.sha256, leaf.sha256());
        assert!(taken.issued_by.is_some());
        let caller = server.known().await;
        let owner = Owner::Device(device_id(&taken).as_str().into());
        let operations = server.services.registry_operations(&caller, &owner, None, &first_page()).await.unwrap();
        assert_eq!(operations.items.len(), 1);
        // Once more: it is known.
        assert_eq!(server.take_in(&leaf, &[]).await.unwrap(), Some(taken.clone()));
        // A renewal is one more certificate of the same device.
        let renewed = server.take_in(&client(&server, "pump 7").await, &[]).await.unwrap().unwrap();
        assert_eq!(device_id(&renewed), device_id(&taken));
        // Another text that only comes to the same name is another thing.
        let other = client(&server, "pump.7").await;
        assert_eq!(refused(server.take_in(&other, &[]).await), Reason::WrongState);
        // The trust ends; what was taken in stays.
        server.services.distrust_authority(&caller, &registry.id.0, trusted.id.as_str()).await.unwrap();
        assert_eq!(server.take_in(&client(&server, "pump-8").await, &[]).await.unwrap(), None);
        assert_eq!(server.devices_of(&registry).await, ["pump-7"]);
    });
}

#[test]
fn what_is_withdrawn_disabled_or_taken_is_not_taken_in() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        server.trust(&registry, own(&server.issuing_ca.clone())).await.unwrap();
        let caller = server.known().await;
        // A server's certificate is no client's.
        let profile = first_profile(&server, "web-server").await;
        let wanted = json!({"commonName": "web.example.com", "extendedKeyUsages": ["server_auth"],
            "altNames": [{"type": "dns_name", "value": "web.example.com"}]});
        let web = Certificate::from_pem(&text(&issue(&server, &profile, wanted).await.ok()["certificate"])).unwrap();
        assert_eq!(server.take_in(&web, &[]).await.unwrap(), None);
        // Revoked, and on hold.
        for reason in ["SUPERSEDED", "CERTIFICATE_HOLD"] {
            let leaf = client(&server, "withdrawn").await;
            let serial = domain::inventory::serial_hex(&leaf);
            let path = format!("/api/v1/cert-manager/certificates/{}/revoke", id_of(&server, &serial).await);
            server.post(&path, json!({"revocationReason": reason})).await.ok();
            assert_eq!(server.take_in(&leaf, &[]).await.unwrap(), None, "{reason}");
        }
        // A device that was made otherwise is not taken over.
        server.device_of(&registry, "made").await;
        assert_eq!(refused(server.take_in(&client(&server, "made").await, &[]).await), Reason::WrongState);
        // A registry that is disabled lets nobody in; that is remembered for half a minute.
        let leaf = client(&server, "late").await;
        server.services.disable_registry(&asked(&caller), &registry.id.0).await.unwrap();
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
        server.services.enable_registry(&asked(&caller), &registry.id.0).await.unwrap();
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
        server.at(31);
        assert!(server.take_in(&leaf, &[]).await.unwrap().is_some());
        // One that was shut out does not come back with another certificate.
        let owner = Owner::Device(device_id(&server.take_in(&leaf, &[]).await.unwrap().unwrap()).as_str().into());
        let fingerprint = domain::registry::credential::hex(&leaf.sha256());
        let state = CertificateState::Inactive;
        server.services.set_certificate_state(&caller, &owner, &fingerprint, state).await.unwrap();
        assert_eq!(refused(server.take_in(&client(&server, "late").await, &[]).await), Reason::WrongState);
        // An authority that is disabled vouches for nobody.
        let fresh = client(&server, "fresh").await;
        let path = format!("/api/v1/pki/ca/{}", server.issuing_ca);
        server.patch(&path, json!({"status": "disabled"})).await.ok();
        assert_eq!(server.take_in(&fresh, &[]).await.unwrap(), None);
    });
}

async fn id_of(server: &Server, serial: &str) -> String {
    let path = format!("/api/v1/projects/{}/certificates?limit=100", server.project);
    let list = server.get(&path).await.ok();
    let found = list["certificates"].as_array().unwrap().iter().find(|one| one["serialNumber"] == serial);
    text(&found.unwrap_or(&Value::Null)["id"])
}

#[test]
fn renewals_drive_out_the_oldest_and_two_at_once_register_once() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        server.trust(&registry, own(&server.issuing_ca.clone())).await.unwrap();
        let leaf = client(&server, "twin").await;
        let (one, other) = tokio::join!(server.take_in(&leaf, &[]), server.take_in(&leaf, &[]));
        assert_eq!(one.unwrap().unwrap(), other.unwrap().unwrap());
        // Two certificates of one new device at once are one device, too.
        let (first, second) = (client(&server, "pair").await, client(&server, "pair").await);
        let (one, other) = tokio::join!(server.take_in(&first, &[]), server.take_in(&second, &[]));
        assert_eq!(device_id(&one.unwrap().unwrap()), device_id(&other.unwrap().unwrap()));
        assert_eq!(server.devices_of(&registry).await.len(), 2);
        // The limit is five.
        let mut taken = Vec::new();
        for number in 0..7 {
            server.at(60 * number);
            let leaf = client(&server, "twin").await;
            taken.push((leaf.sha256(), server.take_in(&leaf, &[]).await.unwrap().unwrap()));
        }
        let caller = server.known().await;
        let owner = &taken[0].1.owner;
        let kept = server.services.registered_certificates(&caller, owner).await.unwrap();
        let mut kept: Vec<[u8; 32]> = kept.iter().map(|known| known.fingerprint.sha256).collect();
        let mut newest: Vec<[u8; 32]> = taken[2..].iter().map(|(sha256, _)| *sha256).collect();
        kept.sort_unstable();
        newest.sort_unstable();
        assert_eq!(kept, newest);
        // The one that went is older than all, and does not drive out another.
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
    });
}

#[test]
fn an_outside_authority_is_trusted_with_a_proof_and_its_chain_must_hold() {
    for_each_engine(|server| async move {
        let now = server.start.seconds();
        let registry = server.registry("meters").await;
        let id = registry.id.0.clone();
        let outside = Outside::new("Outside Root", now);
        let proof = outside.certify(&id, now);
        let invalid = async |new: NewTrust| assert_eq!(refused(server.trust(&registry, new).await), Reason::Invalid);
        invalid(outside.as_trust(outside.certify("another", now).as_der())).await;
        invalid(outside.as_trust(Outside::new("Outside Root", now).certify(&id, now).as_der())).await;
        invalid(outside.as_trust(&outside.draft(&id, now - 500 * DAY).sign(&outside.key))).await;
        let mut broken = outside.draft(&id, now);
        broken.bad_signature = true;
        invalid(outside.as_trust(&broken.sign(&outside.key))).await;
        // Neither an end entity nor an authority that has expired or may not sign.
        let leaf = outside.certify("leaf", now);
        let as_ca = |der: &[u8]| NewTrust::Foreign {
            certificate: pem::encode(pem::CERTIFICATE, der),
            verification: pem::encode(pem::CERTIFICATE, proof.as_der()),
        };
        invalid(as_ca(leaf.as_der())).await;
        let mut draft = Draft::authority(&outside.name, outside.key.spki(), &outside.name, now - 500 * DAY);
        invalid(as_ca(&draft.sign(&outside.key))).await;
        draft = Draft::authority(&outside.name, outside.key.spki(), &outside.name, now);
        draft.set_usages(&[x509::KeyUsage::CrlSign]);
        invalid(as_ca(&draft.sign(&outside.key))).await;
        invalid(NewTrust::Foreign { certificate: "nothing".into(), verification: String::new() }).await;
        let trusted = server.trust(&registry, outside.as_trust(proof.as_der())).await.unwrap();
        assert_eq!((trusted.authority, trusted.der.clone()), (None, outside.der.clone()));
        // One authority is trusted by one registry.
        let second = server.registry("more meters").await;
        let other_proof = outside.certify(&second.id.0, now);
        let again = server.trust(&second, outside.as_trust(other_proof.as_der())).await;
        assert_eq!(refused(again), Reason::AlreadyExists);
        // The chain needs the intermediate certificate, and holds with it.
        let between = outside.below("Outside Issuing", now);
        let meter = between.certify("meter-1", now);
        assert_eq!(server.take_in(&meter, &[]).await.unwrap(), None);
        let taken = server.take_in(&meter, std::slice::from_ref(&between.der)).await.unwrap().unwrap();
        assert_eq!((taken.issued_by, taken.trusted_authority), (None, Some(trusted.id)));
        // A name is all that a stranger can copy.
        let stranger = Outside::new("Outside Root", now);
        assert_eq!(server.take_in(&stranger.certify("meter-2", now), &[]).await.unwrap(), None);
        assert_eq!(
            server.take_in(&stranger.certify("meter-2", now), std::slice::from_ref(&stranger.der)).await.unwrap(),
            None
        );
        // Expired, not for clients, without a name, an authority itself.
        let mut draft = outside.draft("meter-3", now - 500 * DAY);
        assert_eq!(server.services.take_in(&draft.sign(&outside.key), &[], None).await.unwrap(), None);
        draft = outside.draft("meter-3", now);
        draft.set_purposes(&[ExtendedKeyUsage::ServerAuth]);
        assert_eq!(server.services.take_in(&draft.sign(&outside.key), &[], None).await.unwrap(), None);
        draft = outside.draft("meter-3", now);
        draft.subject =
            x509::DistinguishedName::build(&[(x509::AttributeType::Organization, "none")]).unwrap().as_der().to_vec();
        assert_eq!(server.services.take_in(&draft.sign(&outside.key), &[], None).await.unwrap(), None);
        for der in [&between.der, &outside.der] {
            assert_eq!(server.services.take_in(der, &[], None).await.unwrap(), None);
        }
        for garbage in [&b""[..], b"\x30", &[0x30; 20_000]] {
            assert_eq!(server.services.take_in(garbage, &[garbage.to_vec()], None).await.unwrap(), None);
        }
        // Nor is the proof itself a device, although it comes from the authority.
        assert_eq!(server.take_in(&proof, &[]).await.unwrap(), None);
        assert_eq!(server.devices_of(&registry).await, ["meter-1"]);
    });
}

#[test]
fn a_certificate_that_was_revoked_is_not_taken_in_when_its_device_is_gone() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let caller = server.known().await;
        server.trust(&registry, own(&server.issuing_ca.clone())).await.unwrap();
        let (leaf, other) = (client(&server, "pump-1").await, client(&server, "pump-1").await);
        let taken = server.take_in(&leaf, &[]).await.unwrap().unwrap();
        server.take_in(&other, &[]).await.unwrap().unwrap();
        let fingerprint = domain::registry::credential::hex(&leaf.sha256());
        let state = CertificateState::Revoked;
        server.services.set_certificate_state(&caller, &taken.owner, &fingerprint, state).await.unwrap();
        // Taken away from its device, then without the device.
        server.services.unregister_certificate(&asked(&caller), &taken.owner, &fingerprint).await.unwrap();
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
        server.services.delete_device(&asked(&caller), taken.owner.id()).await.unwrap();
        server.at(31);
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
        assert_eq!(server.devices_of(&registry).await, [""; 0]);
        // The other one of the same name was not revoked.
        assert!(server.take_in(&other, &[]).await.unwrap().is_some());
        assert_eq!(refused(server.take_in(&leaf, &[]).await), Reason::WrongState);
    });
}

#[test]
fn names_that_fall_together_are_refused_in_words_and_not_for_others() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        server.trust(&registry, own(&server.issuing_ca.clone())).await.unwrap();
        server.take_in(&client(&server, "pump 7").await, &[]).await.unwrap().unwrap();
        for name in ["pump.7", "pump@7"] {
            let error = server.take_in(&client(&server, name).await, &[]).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::WrongState));
            assert!(error.to_string().contains("only come to the same name"), "{error}");
        }
        // Long names that differ only where they are cut.
        let long = "n".repeat(50);
        server.take_in(&client(&server, &format!("{long}a")).await, &[]).await.unwrap().unwrap();
        let other = client(&server, &format!("{long}b")).await;
        assert_eq!(refused(server.take_in(&other, &[]).await), Reason::WrongState);
        // Two of them at once: one is the device, the other one is told so.
        let (one, other) = (client(&server, "twin.1").await, client(&server, "twin@1").await);
        let (one, other) = tokio::join!(server.take_in(&one, &[]), server.take_in(&other, &[]));
        let told = [one, other].into_iter().filter_map(Result::err).map(|error| error.reason()).collect::<Vec<_>>();
        assert_eq!(told, [Some(Reason::WrongState)]);
        assert_eq!(server.devices_of(&registry).await.len(), 3);
    });
}

#[test]
fn strangers_neither_see_nor_change_whom_a_registry_trusts() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let root = authority(&server, "root", "pumps-root").await;
        let trusted = server.trust(&registry, own(&root)).await.unwrap();
        let other = server.other_organization().await;
        let stranger = other.known().await;
        let theirs = other.registry("theirs").await;
        assert_eq!(refused(other.trust(&registry, own(&root)).await), Reason::NotFound);
        // An authority of another project is none.
        assert_eq!(refused(other.trust(&theirs, own(&root)).await), Reason::NotFound);
        let page = first_page();
        let seen = server.services.trusted_authorities(&stranger, &registry.id.0, &page).await;
        assert_eq!(seen.err().unwrap().reason(), Some(Reason::NotFound));
        let gone = server.services.distrust_authority(&stranger, &registry.id.0, trusted.id.as_str()).await;
        assert_eq!(refused(gone), Reason::NotFound);
        let gone = server.services.distrust_authority(&stranger, &theirs.id.0, trusted.id.as_str()).await;
        assert_eq!(refused(gone), Reason::NotFound);
        // Who may only read sees it and changes nothing.
        let viewer = server.by(&server.identity("member", Some("viewer")).await);
        let caller = viewer.known().await;
        let seen = server.services.trusted_authorities(&caller, &registry.id.0, &page).await.unwrap();
        assert_eq!(seen.items, std::slice::from_ref(&trusted));
        let gone = server.services.distrust_authority(&caller, &registry.id.0, trusted.id.as_str()).await;
        assert_eq!(refused(gone), Reason::PermissionDenied);
        assert_eq!(refused(viewer.trust(&registry, own(&root)).await), Reason::PermissionDenied);
    });
}
