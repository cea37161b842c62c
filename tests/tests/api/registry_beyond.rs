//! What the device registry can do beyond the vendor's API: provisioning, states of certificates, the report of those that
//! end soon, and hooks for brokers outside.

use crate::csr;
use crate::issuing::{count, first_profile, issue, profile};
use crate::registry_trust::{asked, first_page};
use crate::server::{Server, for_each_engine, text};
use domain::registry::credential::{CertificateState, hex};
use domain::registry::hook::HookKind;
use domain::registry::outside::Wish;
use domain::registry::{AccessEnd, Labels, Owner, Registry};
use domain::{Error, ProfileId, Reason};
use serde_json::json;
use services::registry::{NewBroker, NewCredentials, NewProvision, PageRequest, Presented, Provisioned};
use std::collections::BTreeMap;
use testkit::chains::TestKey;
use x509::{AttributeType, Certificate, ExtendedKeyUsage};

const PASSWORD: &str = "Correct-Horse-42";

impl Server {
    async fn provision(
        &self,
        registry: &Registry,
        name: &str,
        profile: &str,
        csr: Option<&str>,
    ) -> Result<Provisioned, Error> {
        let new = NewProvision {
            registry: registry.id.0.clone(),
            name: name.into(),
            profile: ProfileId::parse(profile).unwrap(),
            csr: csr.map(str::to_owned),
            labels: Labels::from([("line".into(), "a".into())]),
            topic_aliases: BTreeMap::from([(format!("{name}/"), "$devices/{id}/".into())]),
        };
        self.services.provision_device(&asked(&self.known().await), new).await
    }
}

fn reason<T>(answer: Result<T, Error>) -> Option<Reason> {
    answer.err().expect("it was not refused").reason()
}

#[test]
fn a_device_and_its_certificate_are_made_together_or_not_at_all() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let caller = server.known().await;
        let device_profile = first_profile(&server, "device").await;
        let before = count(&server).await;
        let made = server.provision(&registry, "pump-1", &device_profile, None).await.unwrap();
        assert!(made.issued.private_key.is_some());
        let certificate = &made.issued.certificate;
        assert_eq!(certificate.subject().first(AttributeType::CommonName), Some("pump-1"));
        let owner = Owner::Device(made.device.id.clone());
        let registered = server.services.registered_certificates(&caller, &owner).await.unwrap();
        assert_eq!(registered.len(), 1);
        assert_eq!(registered[0].fingerprint.sha256, certificate.sha256());
        assert!(registered[0].issued_by.is_some());
        let (device, _) = server.services.device(&caller, made.device.id.as_str()).await.unwrap();
        assert_eq!(device.topic_aliases["pump-1/"], format!("$devices/{}/", device.id));
        assert_eq!((&device.labels["line"][..], &device.name[..]), ("a", "pump-1"));
        let operations = server.services.registry_operations(&caller, &owner, None, &first_page()).await.unwrap();
        assert_eq!(operations.items.len(), 1);
        // With a request, the key stays where it is.
        let key = TestKey::generate();
        let csr = csr::Draft::named(&key, "pump-2").with_purposes(&[ExtendedKeyUsage::ClientAuth]).pem(&key);
        let made = server.provision(&registry, "pump-2", &device_profile, Some(&csr)).await.unwrap();
        assert!(made.issued.private_key.is_none());
        assert_eq!(count(&server).await, before + 2);
        // Nothing is issued for a name or an alias that is taken, nor for two at once but one.
        assert_eq!(
            reason(server.provision(&registry, "pump-1", &device_profile, None).await),
            Some(Reason::AlreadyExists)
        );
        let (one, other) = tokio::join!(
            server.provision(&registry, "pump-3", &device_profile, None),
            server.provision(&registry, "pump-3", &device_profile, None),
        );
        assert_eq!([&one, &other].iter().filter(|made| made.is_ok()).count(), 1);
        assert_eq!(count(&server).await, before + 3);
        // A policy that says no leaves no device behind.
        let policy = json!({"subject": [{"type": "common_name", "allowed": ["only-*"]}]});
        let strict = profile(&server, "strict", policy).await;
        assert_eq!(reason(server.provision(&registry, "pump-4", &strict, None).await), Some(Reason::AgainstPolicy));
        let named = server.services.device_named(&caller, &registry.id.0, "pump-4").await;
        assert_eq!(reason(named), Some(Reason::NotFound));
        assert_eq!(reason(server.provision(&registry, "", &device_profile, None).await), Some(Reason::Invalid));
        // The registry and the profile of others are not there.
        let stranger = server.other_organization().await;
        let theirs = stranger.registry("theirs").await;
        let unknown = stranger.provision(&registry, "x", &device_profile, None).await;
        assert_eq!(reason(unknown), Some(Reason::NotFound));
        let unknown = stranger.provision(&theirs, "x", &device_profile, None).await;
        assert_eq!(reason(unknown), Some(Reason::NotFound));
        // Who may only read makes nothing.
        let viewer = server.by(&server.identity("member", Some("viewer")).await);
        let denied = viewer.provision(&registry, "x", &device_profile, None).await;
        assert_eq!(reason(denied), Some(Reason::PermissionDenied));
    });
}

#[test]
fn a_state_that_is_not_active_ends_access_and_revoked_is_final() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let caller = server.known().await;
        let device_profile = first_profile(&server, "device").await;
        let made = server.provision(&registry, "pump-1", &device_profile, None).await.unwrap();
        let owner = Owner::Device(made.device.id.clone());
        let sha256 = made.issued.certificate.sha256();
        let set = async |state| server.services.set_certificate_state(&caller, &owner, &hex(&sha256), state).await;
        let ended = async || {
            let since = store::registry::access_end::since(&server.services.db, server.start).await.unwrap();
            since.into_iter().filter(|(_, end)| *end == AccessEnd::Certificate(sha256)).count()
        };
        let full = server.services.full_certificates(&caller, &owner).await.unwrap().remove(0);
        assert_eq!((full.state, &full.issued_by), (CertificateState::Active, &server.issuing_ca));
        assert_eq!(set(CertificateState::Inactive).await.unwrap().state, CertificateState::Inactive);
        assert_eq!(ended().await, 1);
        assert_eq!(set(CertificateState::Inactive).await.unwrap().state, CertificateState::Inactive);
        assert_eq!(ended().await, 1);
        assert_eq!(set(CertificateState::Active).await.unwrap().state, CertificateState::Active);
        assert_eq!(set(CertificateState::Revoked).await.unwrap().state, CertificateState::Revoked);
        assert_eq!(ended().await, 2);
        for state in [CertificateState::Active, CertificateState::Inactive] {
            assert_eq!(reason(set(state).await), Some(Reason::WrongState));
        }
        // A certificate that its authority withdraws is shown so.
        let made = server.provision(&registry, "pump-2", &device_profile, None).await.unwrap();
        let owner = Owner::Device(made.device.id.clone());
        let fingerprint = hex(&made.issued.certificate.sha256());
        let shown = async || server.services.full_certificates(&caller, &owner).await.unwrap().remove(0).state;
        let path = format!("/api/v1/cert-manager/certificates/{}", made.issued.id);
        server.post(&format!("{path}/revoke"), json!({"revocationReason": "CERTIFICATE_HOLD"})).await.ok();
        assert_eq!(shown().await, CertificateState::Inactive);
        let set = async |state| server.services.set_certificate_state(&caller, &owner, &fingerprint, state).await;
        assert_eq!(reason(set(CertificateState::Active).await), Some(Reason::WrongState));
        server.post(&format!("{path}/revoke"), json!({"revocationReason": "KEY_COMPROMISE"})).await.ok();
        assert_eq!(shown().await, CertificateState::Revoked);
        assert_eq!(reason(set(CertificateState::Inactive).await), Some(Reason::WrongState));
        assert_eq!(set(CertificateState::Revoked).await.unwrap().state, CertificateState::Revoked);
        // Nobody else's, and none that is not there.
        let stranger = server.other_organization().await.known().await;
        let state = CertificateState::Inactive;
        let unknown = server.services.set_certificate_state(&stranger, &owner, &fingerprint, state).await;
        assert_eq!(reason(unknown), Some(Reason::NotFound));
        for (name, why) in [("00".repeat(32), Reason::NotFound), (String::new(), Reason::Invalid)] {
            let unknown = server.services.set_certificate_state(&caller, &owner, &name, state).await;
            assert_eq!(reason(unknown), Some(why));
        }
    });
}

#[test]
fn certificates_that_end_soon_are_reported_page_by_page() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let caller = server.known().await;
        let client = first_profile(&server, "client").await;
        let mut ends = Vec::new();
        for days in [20, 5, 40, 5, 29] {
            let wanted = json!({"commonName": "pump", "ttl": format!("{days}d"), "extendedKeyUsages": ["client_auth"]});
            let pem = text(&issue(&server, &client, wanted).await.ok()["certificate"]);
            let owner = if days == 20 {
                Owner::Registry(registry.id.clone())
            } else {
                Owner::Device(server.device_of(&registry, &format!("pump-{}", ends.len())).await.id)
            };
            server.services.register_certificate(&asked(&caller), &owner, &pem).await.unwrap();
            ends.push((days, Certificate::from_pem(&pem).unwrap().sha256(), owner));
        }
        ends.retain(|(days, ..)| *days <= 30);
        ends.sort_by_key(|(days, sha256, _)| (*days, *sha256));
        let mut page = PageRequest { size: 2, token: String::new() };
        let mut seen = Vec::new();
        loop {
            let part = server.services.expiring_certificates(&caller, &registry.id.0, 30, &page).await.unwrap();
            assert!(part.items.len() <= 2);
            assert!(part.next.len() <= 100);
            seen.extend(
                part.items.into_iter().map(|full| (full.certificate.fingerprint.sha256, full.certificate.owner)),
            );
            if part.next.is_empty() {
                break;
            }
            page.token = part.next;
        }
        let expected: Vec<_> = ends.into_iter().map(|(_, sha256, owner)| (sha256, owner)).collect();
        assert_eq!(seen, expected);
        // The place in one list is none in another.
        page.token = server
            .services
            .expiring_certificates(&caller, &registry.id.0, 30, &PageRequest { size: 1, token: String::new() })
            .await
            .unwrap()
            .next;
        let other = server.services.expiring_certificates(&caller, &registry.id.0, 31, &page).await;
        assert_eq!(reason(other), Some(Reason::Invalid));
        for days in [0, 3651] {
            let wrong = server.services.expiring_certificates(&caller, &registry.id.0, days, &first_page()).await;
            assert_eq!(reason(wrong), Some(Reason::Invalid));
        }
        let stranger = server.other_organization().await.known().await;
        let unknown = server.services.expiring_certificates(&stranger, &registry.id.0, 30, &first_page()).await;
        assert_eq!(reason(unknown), Some(Reason::NotFound));
    });
}

#[test]
fn a_broker_outside_is_told_who_a_client_is_and_what_it_may() {
    for_each_engine(|server| async move {
        let registry = server.registry("pumps").await;
        let caller = server.known().await;
        let device_profile = first_profile(&server, "device").await;
        let made = server.provision(&registry, "pump-1", &device_profile, None).await.unwrap();
        let (device, id) = (Owner::Device(made.device.id.clone()), made.device.id.0.clone());
        server.services.add_password(&asked(&caller), &device, PASSWORD).await.unwrap();
        let (hook, url) = server.services.create_hook(&caller, "default", HookKind::Emqx).await.unwrap();
        let secret = url.rsplit('/').next().unwrap().to_owned();
        assert!(secret.len() >= 32);
        assert_eq!(server.services.hook_of(&secret).await.unwrap(), Some(hook.clone()));
        assert_eq!(server.services.hook_of("guess").await.unwrap(), None);

        let login = async |username: &str, password: &str, certificate: &str| {
            let presented = Presented { username, password, certificate };
            server.services.hook_login(&hook, &presented).await.unwrap()
        };
        let pem = made.issued.certificate_pem.clone();
        let fingerprint = hex(&made.issued.certificate.sha256());
        let sha1 = hex(&made.issued.certificate.sha1());
        assert_eq!(login(&id, PASSWORD, "").await, Some(device.clone()));
        for certificate in [&pem, &fingerprint, &fingerprint.to_uppercase()] {
            assert_eq!(login("", "", certificate).await, Some(device.clone()));
            assert_eq!(login(&id, "", certificate).await, Some(device.clone()));
            // It would be asked about later by that name.
            assert_eq!(login(&registry.id.0, "", certificate).await, None);
            // A password decides.
            assert_eq!(login(&id, "Wrong-Horse-4242", certificate).await, None);
        }
        for (username, password, certificate) in [
            ("", "", ""),
            (&id[..], "", ""),
            ("nobody", PASSWORD, ""),
            (&registry.id.0, PASSWORD, ""),
            ("a\0", PASSWORD, ""),
            ("", "", &sha1[..]),
            ("", "", "garbage"),
        ] {
            assert_eq!(login(username, password, certificate).await, None, "{username} {certificate}");
        }
        let may = async |name: &str, wish: Wish<'_>| server.services.hook_allows(&hook, name, &wish).await.unwrap();
        let other = server.device_of(&registry, "pump-2").await;
        let topic = |id: &str, channel: &str| format!("$devices/{id}/{channel}");
        assert!(may(&id, Wish::Publish(&topic(&id, "events"))).await);
        assert!(!may(&id, Wish::Publish(&topic(&other.id.0, "events"))).await);
        assert!(may(&id, Wish::Subscribe(&topic(&id, "commands"))).await);
        assert!(!may("nobody", Wish::Publish(&topic(&id, "events"))).await);
        assert!(may(&registry.id.0, Wish::Publish(&topic(&id, "commands"))).await);
        assert!(!may(&registry.id.0, Wish::Publish(&topic("nobody", "commands"))).await);
        assert!(may(&registry.id.0, Wish::Subscribe("$devices/+/events/#")).await);
        // With a second registry beside it, all devices are not its own any more.
        let second = server.registry("more").await;
        assert!(!may(&registry.id.0, Wish::Subscribe("$devices/+/events/#")).await);
        assert!(!may(&second.id.0, Wish::Publish(&topic(&id, "commands"))).await);
        let new = NewBroker {
            folder: "default".into(),
            name: "b".into(),
            description: String::new(),
            labels: Labels::new(),
            log_options: Default::default(),
            credentials: NewCredentials { certificates: vec![], password: PASSWORD.into() },
        };
        server.services.create_broker(&asked(&caller), new).await.unwrap();
        let broker = server.services.brokers(&caller, "default", &first_page()).await.unwrap().items.remove(0);
        assert_eq!(login(&broker.id.0, PASSWORD, "").await, Some(Owner::Broker(broker.id.clone())));
        assert!(may(&broker.id.0, Wish::Subscribe("#")).await);
        assert!(!may(&broker.id.0, Wish::Publish(&topic(&id, "events"))).await);
        // What has ended lets nobody in.
        let state = CertificateState::Inactive;
        server.services.set_certificate_state(&caller, &device, &fingerprint, state).await.unwrap();
        assert_eq!(login("", "", &fingerprint).await, None);
        assert_eq!(login(&id, PASSWORD, "").await, Some(device.clone()));
        server.services.disable_registry(&asked(&caller), &registry.id.0).await.unwrap();
        assert_eq!(login(&id, PASSWORD, "").await, None);
        assert!(!may(&id, Wish::Publish(&topic(&id, "events"))).await);
        server.services.enable_registry(&asked(&caller), &registry.id.0).await.unwrap();
        // Another project's hook knows nobody of this one.
        let stranger = server.other_organization().await;
        let them = stranger.known().await;
        let (theirs, _) = server.services.create_hook(&them, "default", HookKind::Mosquitto).await.unwrap();
        let presented = Presented { username: &id, password: PASSWORD, certificate: "" };
        assert_eq!(server.services.hook_login(&theirs, &presented).await.unwrap(), None);
        assert!(!server.services.hook_allows(&theirs, &id, &Wish::Publish(&topic(&id, "events"))).await.unwrap());
        // Nor does anybody there see or delete it.
        assert_eq!(reason(server.services.delete_hook(&them, hook.id.as_str()).await), Some(Reason::NotFound));
        let listed = server.services.hooks(&caller, "default", &first_page()).await.unwrap();
        assert_eq!(listed.items, std::slice::from_ref(&hook));
        server.services.delete_hook(&caller, hook.id.as_str()).await.unwrap();
        assert_eq!(server.services.hook_of(&secret).await.unwrap(), None);
        assert_eq!(reason(server.services.delete_hook(&caller, hook.id.as_str()).await), Some(Reason::NotFound));
    });
}
