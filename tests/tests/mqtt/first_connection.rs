//! The first connection of a device whose certificate is not registered and whose authority is trusted, with mosquitto.

use crate::clients::{Proof, publish, said, succeeded};
use crate::world::{Pair, World, for_each_engine};
use domain::registry::Owner;
use domain::registry::credential::{CertificateState, hex};
use services::registry::{Asked, NewTemplate, NewTrust};
use testkit::chains::{Draft, TestKey, common_name};
use x509::{Certificate, ExtendedKeyUsage, pem};

#[test]
fn a_device_of_a_trusted_authority_is_registered_when_it_first_connects() {
    for_each_engine(|world| async move {
        let now = world.start.seconds();
        let (root, between, leaf) = (TestKey::generate(), TestKey::generate(), TestKey::generate());
        let (root_name, between_name) = (common_name("Fleet Root"), common_name("Fleet Issuing"));
        let ids = |draft: &mut Draft, subject: &TestKey, issuer: &TestKey| {
            draft.set_key_ids(&subject.key_id(), &issuer.key_id());
        };
        let mut draft = Draft::authority(&root_name, root.spki(), &root_name, now);
        ids(&mut draft, &root, &root);
        let root_der = draft.sign(&root);
        let mut draft = Draft::authority(&between_name, between.spki(), &root_name, now);
        ids(&mut draft, &between, &root);
        let between_der = draft.sign(&root);
        let mut draft = Draft::end_entity(&common_name("pump-7"), leaf.spki(), &between_name, now);
        ids(&mut draft, &leaf, &between);
        draft.set_purposes(&[ExtendedKeyUsage::ClientAuth]);
        let leaf_der = draft.sign(&between);
        let proof = written(&world, &leaf, &[&leaf_der, &between_der]);

        // Nobody trusts it yet; its own first message is to an id that it does not know, so it asks by `$me`.
        let arguments = ["-q", "1", "-t", "$me/device/events", "-m", "x"];
        let refused = publish(&world, "mqttv311", &proof, &arguments).await;
        assert!(!refused.status.success(), "{}", said(&refused));
        let mut draft = Draft::end_entity(&common_name(&world.registry), leaf.spki(), &root_name, now);
        ids(&mut draft, &leaf, &root);
        draft.set_purposes(&[ExtendedKeyUsage::ClientAuth]);
        let new = NewTrust::Foreign {
            certificate: pem::encode(pem::CERTIFICATE, &root_der),
            verification: pem::encode(pem::CERTIFICATE, &draft.sign(&root)),
        };
        let admin = world.admin().await;
        world.services.trust_authority(&admin, &world.registry, &new, NewTemplate::default()).await.unwrap();
        for version in ["mqttv311", "mqttv5"] {
            succeeded(&publish(&world, version, &proof, &arguments).await);
        }
        let (device, _) = world.services.device_named(&admin, &world.registry, "pump-7").await.unwrap();
        // It is shut out by the state of its certificate, and does not come back.
        let fingerprint = hex(&Certificate::from_der(leaf_der).unwrap().sha256());
        let owner = Owner::Device(device.id);
        let state = CertificateState::Revoked;
        world.services.set_certificate_state(&admin, &owner, &fingerprint, state).await.unwrap();
        let refused = publish(&world, "mqttv311", &proof, &arguments).await;
        assert!(!refused.status.success(), "{}", said(&refused));
        // Not even when the device is deleted.
        let asked = Asked { caller: &admin, repeat: None };
        world.services.delete_device(&asked, owner.id()).await.unwrap();
        let refused = publish(&world, "mqttv311", &proof, &arguments).await;
        assert!(!refused.status.success(), "{}", said(&refused));
        world
    });
}

/// The files that a client is given: the certificate with what stands above it, and the key.
fn written(world: &World, key: &TestKey, chain: &[&Vec<u8>]) -> Proof {
    let pair = Pair { certificate: world.path("first.pem"), key: world.path("first.key") };
    let chain: Vec<String> = chain.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect();
    std::fs::write(&pair.certificate, chain.join("\n")).unwrap();
    std::fs::write(&pair.key, key.to_pkcs8_pem()).unwrap();
    Proof::Certificate(pair)
}
