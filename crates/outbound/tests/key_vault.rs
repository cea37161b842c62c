//! Azure Key Vault, against the stand-in that holds the vendor's rules.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod cloud_items;

use cloud_items::{Witness, http, item, renewed};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::config::SyncCredentials;
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::DeliveryError;
use outbound::connection::azure;
use outbound::destination::key_vault::KeyVault;
use outbound::destination::{Destination, Opening};
use std::sync::Arc;
use testkit::stand_ins::azure::{Azure, CLIENT_ID, CLIENT_SECRET, TENANT};
use testkit::stand_ins::cloud::{Fault, KeyKind, TestAuthority};
use uuid::Uuid;

const NAME: &str = "Infisical-PKI-Sync-4f2a";

fn credentials(stand_in: &Azure) -> Credentials {
    Credentials::AzureClientSecret {
        client_id: CLIENT_ID.into(),
        client_secret: SecretText::new(CLIENT_SECRET),
        tenant_id: TENANT.into(),
        endpoint_url: Some(format!("{}/", stand_in.base_url)),
        token_url: Some(stand_in.token_url()),
    }
}

fn open_at(credentials: &Credentials, vault_base_url: &str) -> Result<KeyVault, DeliveryError> {
    KeyVault::open(&Opening {
        kind: DestinationKind::AzureKeyVault,
        http: &http(),
        credentials: Some(credentials),
        config: &DestinationConfig::AzureKeyVault { vault_base_url: vault_base_url.into() },
        options: &SyncOptions::default_of(DestinationKind::AzureKeyVault),
        secrets: &SyncCredentials::default(),
    })
}

fn open(stand_in: &Azure) -> KeyVault {
    open_at(&credentials(stand_in), "https://mine.vault.azure.net").unwrap()
}

async fn start() -> (Arc<Azure>, KeyVault, TestAuthority) {
    let stand_in = Azure::start().await;
    let vault = open(&stand_in);
    (stand_in, vault, TestAuthority::new())
}

#[tokio::test]
async fn a_certificate_is_created_looked_at_replaced_and_removed() {
    let (stand_in, vault, authority) = start().await;
    for (name, kind) in
        [("rsa", KeyKind::Rsa2048), ("p256", KeyKind::P256), ("p384", KeyKind::P384), ("p521", KeyKind::P521)]
    {
        let first = item(name, &authority.issue("a.example.com", kind, 90));
        assert_eq!(vault.find(&first).await.unwrap(), []);
        let created = vault.create(&first).await.unwrap();
        assert_eq!((created.id.as_str(), created.mark), (name, Some(first.mark)));
        assert_eq!(Some(&created.fingerprint), vault.expected(&first).as_ref());
        assert_eq!(vault.look(name).await.unwrap(), Some(created.clone()));
        assert_eq!(vault.find(&first).await.unwrap(), std::slice::from_ref(&created));

        let second = renewed(&first, &authority.issue("a.example.com", kind, 90));
        let replaced = vault.replace(&created, &second).await.unwrap();
        assert_eq!(Some(&replaced.fingerprint), vault.expected(&second).as_ref());
        assert_ne!(replaced.version, created.version);
        assert_eq!((replaced.id.as_str(), replaced.mark), (name, Some(first.mark)));
        let versions = stand_in.objects()[name].clone();
        assert_eq!(
            versions.iter().map(|one| one.der.as_slice()).collect::<Vec<_>>(),
            [first.leaf.as_der(), second.leaf.as_der()]
        );
        let chain = second.chain[0].to_pem();
        assert!(versions[1].value.trim_end().ends_with(&chain), "the chain follows the certificate");

        vault.remove(&replaced).await.unwrap();
        vault.remove(&replaced).await.unwrap();
        assert_eq!(vault.look(name).await.unwrap(), None);
    }
    assert_eq!(stand_in.tokens_given(), 1);
    assert!(stand_in.objects().is_empty());
}

#[tokio::test]
async fn credentials_that_are_not_believed_are_an_error_of_the_connection() {
    let (stand_in, _, authority) = start().await;
    azure::check(&http(), &credentials(&stand_in)).await.unwrap();
    let wrong = |change: fn(&mut String, &mut SecretText, &mut Option<String>)| {
        let mut credentials = credentials(&stand_in);
        if let Credentials::AzureClientSecret { client_id, client_secret, token_url, .. } = &mut credentials {
            change(client_id, client_secret, token_url);
        }
        credentials
    };
    for (credentials, words) in [
        (wrong(|_, secret, _| *secret = SecretText::new("guessed")), "AADSTS7000215"),
        (wrong(|id, _, _| *id = Uuid::new_v4().to_string()), "AADSTS700016"),
        (wrong(|_, _, url| *url = url.as_ref().map(|url| url.replace(TENANT, "another-directory"))), "no token"),
        (wrong(|_, _, url| *url = Some("http://127.0.0.1:1/token".into())), "cannot be reached"),
    ] {
        let vault = open_at(&credentials, "https://mine.vault.azure.net").unwrap();
        let item = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
        let checked = azure::check(&http(), &credentials).await.unwrap_err();
        let created = vault.create(&item).await.unwrap_err();
        for error in [checked, created] {
            assert!(error.is_of_connection() && error.to_string().contains(words), "{error:?}");
            assert!(!error.to_string().contains("guessed"), "{error:?}");
        }
    }
    // A vault of another cloud asks for a token of that cloud, which this endpoint does not give.
    let vault = open_at(&credentials(&stand_in), "https://mine.vault.azure.cn").unwrap();
    let error = vault.look(NAME).await.unwrap_err();
    assert!(error.is_of_connection() && error.to_string().contains("AADSTS70011"), "{error:?}");
    assert!(stand_in.objects().is_empty());
}

#[tokio::test]
async fn a_token_is_used_until_shortly_before_its_end_and_a_vault_refuses_an_old_one() {
    let (stand_in, vault, _) = start().await;
    stand_in.set_token_lifetime(0);
    let error = vault.look(NAME).await.unwrap_err();
    assert!(error.is_of_connection() && error.to_string().contains("AKV10000"), "{error:?}");
    stand_in.set_token_lifetime(3599);
    for _ in 0..3 {
        assert_eq!(vault.look(NAME).await.unwrap(), None);
    }
    assert_eq!(stand_in.tokens_given(), 2);
}

#[tokio::test]
async fn tokens_go_to_vaults_of_azure_alone_unless_the_connection_names_an_endpoint() {
    let stand_in = Azure::start().await;
    let mut credentials = credentials(&stand_in);
    if let Credentials::AzureClientSecret { endpoint_url, .. } = &mut credentials {
        *endpoint_url = None;
    }
    for url in ["https://mine.vault.azure.net", "https://mine.vault.azure.cn/", "https://v.vault.usgovcloudapi.net"] {
        assert!(open_at(&credentials, url).is_ok(), "{url}");
    }
    for url in [
        "http://mine.vault.azure.net",
        "https://mine.vault.azure.net.example.com",
        "https://user@mine.vault.azure.net",
        "https://mine.vault.azure.net:8443",
        "https://mine.vault.azure.net/elsewhere",
        "https://127.0.0.1",
        "mine",
    ] {
        let error = open_at(&credentials, url).err().unwrap();
        assert!(
            matches!(&error, DeliveryError::Refused(words) if words.contains("not the https address")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn what_a_vault_cannot_take_is_refused_before_anything_is_sent() {
    let (stand_in, vault, authority) = start().await;
    let good = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    vault.must_take(&good).unwrap();
    let mut without_key = good.clone();
    without_key.key = None;
    let mut long = good.clone();
    long.chain = vec![long.chain[0].clone(); 60];
    let ed25519 = item(NAME, &authority.issue("a.example.com", KeyKind::Ed25519, 90));
    for (item, words) in [
        (without_key, "no private key"),
        (long, "longer"),
        (ed25519, "keys"),
        (item("under_score", &authority.issue("a.example.com", KeyKind::P256, 90)), "names"),
        (item(&"a".repeat(128), &authority.issue("a.example.com", KeyKind::P256, 90)), "names"),
    ] {
        for error in [vault.must_take(&item).unwrap_err(), vault.create(&item).await.unwrap_err()] {
            assert!(matches!(&error, DeliveryError::Refused(text) if text.contains(words)), "{error:?}");
        }
    }
    let mut mismatched = good.clone();
    mismatched.key = Some(SecretText::new(authority.issue("b.example.com", KeyKind::P256, 90).key));
    let error = vault.create(&mismatched).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("does not match")), "{error:?}");
    assert!(stand_in.objects().is_empty());
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_never_touched() {
    let (stand_in, vault, authority) = start().await;
    let ours = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    // The very certificate by hand, one with another mark, and names that look like ours.
    stand_in.put(NAME, &ours.leaf, &[("chancery-object", &Uuid::now_v7().to_string())]);
    for number in 0..50 {
        stand_in.put(&format!("{NAME}-{number}"), &ours.leaf, &[("chancery-object", "ours")]);
    }
    let before = stand_in.objects();
    let found = vault.find(&ours).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_ne!(found[0].mark, Some(ours.mark));
    let error = vault.create(&ours).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Taken(_)), "{error:?}");
    // A vault that says once that the certificate is not there does not get a new version of it.
    stand_in.faults.add("get", Fault::SaysAbsent);
    let error = vault.create(&ours).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unavailable(_)), "{error:?}");
    assert!(stand_in.faults.are_used_up());
    assert_eq!(stand_in.objects(), before);
}

#[tokio::test]
async fn a_certificate_that_has_changed_or_is_disabled_is_not_replaced() {
    let (stand_in, vault, authority) = start().await;
    let first = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    let second = renewed(&first, &authority.issue("a.example.com", KeyKind::P256, 90));
    let created = vault.create(&first).await.unwrap();
    stand_in.put(NAME, &authority.issue("b.example.com", KeyKind::P256, 90).leaf, &[]);
    let before = stand_in.objects();
    let error = vault.replace(&created, &second).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unavailable(_)), "{error:?}");
    assert_eq!(stand_in.objects(), before);

    stand_in.disable(NAME);
    let before = stand_in.objects();
    let disabled = vault.look(NAME).await.unwrap().unwrap();
    for error in [vault.replace(&disabled, &second).await.unwrap_err(), vault.remove(&disabled).await.unwrap_err()] {
        assert!(matches!(&error, DeliveryError::Refused(words) if words.contains("disabled")), "{error:?}");
    }
    assert_eq!(stand_in.objects(), before);
}

#[tokio::test]
async fn the_name_of_a_certificate_that_is_soft_deleted_is_a_failure_with_its_reason() {
    let (stand_in, vault, authority) = start().await;
    let first = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    let created = vault.create(&first).await.unwrap();
    vault.remove(&created).await.unwrap();
    let before = stand_in.deleted();
    assert_eq!(vault.find(&first).await.unwrap(), []);
    let error = vault.create(&first).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(words) if words.contains("recover or purge")), "{error:?}");
    assert_eq!(stand_in.deleted(), before);
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_found_by_its_mark() {
    let (stand_in, vault, authority) = start().await;
    for (name, fault) in [("failed", Fault::ErrorAfterSuccess), ("silent", Fault::SilenceAfterSuccess)] {
        let item = item(name, &authority.issue("a.example.com", KeyKind::P256, 90));
        stand_in.faults.add("import", fault);
        let error = vault.create(&item).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unknown(_)), "{error:?}");
        let found = vault.find(&item).await.unwrap();
        assert_eq!(found[0].mark, Some(item.mark));
        assert_eq!(Some(&found[0].fingerprint), vault.expected(&item).as_ref());
        // Asked again, it is content with what the first attempt made.
        assert_eq!(vault.create(&item).await.unwrap(), found[0]);
        assert_eq!(stand_in.objects()[name].len(), 1);
    }
}

#[tokio::test]
async fn what_was_surely_not_done_is_told_apart_from_what_may_have_been() {
    let (stand_in, vault, authority) = start().await;
    let first = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    stand_in.faults.add("import", Fault::Conflict);
    let error = vault.create(&first).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unavailable(_)), "{error:?}");
    assert!(stand_in.objects().is_empty());

    stand_in.faults.add("import", Fault::TooManyRequests);
    let created = vault.create(&first).await.unwrap();
    let second = renewed(&first, &authority.issue("a.example.com", KeyKind::P256, 90));
    stand_in.faults.add("get", Fault::SilenceAfterSuccess);
    let error = vault.look(NAME).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unavailable(_)), "{error:?}");
    stand_in.faults.add("get", Fault::SaysAbsent);
    assert!(matches!(vault.replace(&created, &second).await, Err(DeliveryError::Unavailable(_))));
    stand_in.faults.add("import", Fault::Conflict);
    assert!(matches!(vault.replace(&created, &second).await, Err(DeliveryError::Unavailable(_))));
    assert_eq!(vault.look(NAME).await.unwrap(), Some(created.clone()));

    for fault in [Fault::ErrorAfterSuccess, Fault::SilenceAfterSuccess] {
        let current = vault.look(NAME).await.unwrap().unwrap();
        let next = renewed(&first, &authority.issue("a.example.com", KeyKind::P256, 90));
        stand_in.faults.add("import", fault);
        assert!(matches!(vault.replace(&current, &next).await, Err(DeliveryError::Unknown(_))));
        let after = vault.look(NAME).await.unwrap().unwrap();
        assert!(after.fingerprint.is_between(Some(&current.fingerprint), vault.expected(&next).as_ref()));
        assert_eq!(after.mark, Some(first.mark));
    }
    let current = vault.look(NAME).await.unwrap().unwrap();
    stand_in.faults.add("delete", Fault::Conflict);
    assert!(matches!(vault.remove(&current).await, Err(DeliveryError::Unavailable(_))));
    stand_in.faults.add("delete", Fault::ErrorAfterSuccess);
    assert!(matches!(vault.remove(&current).await, Err(DeliveryError::Unknown(_))));
    vault.remove(&current).await.unwrap();
    assert!(stand_in.faults.are_used_up());
}

#[tokio::test]
async fn a_certificate_that_is_being_replaced_is_never_missing() {
    let (stand_in, vault, authority) = start().await;
    let first = item(NAME, &authority.issue("a.example.com", KeyKind::P256, 90));
    let mut found = vault.create(&first).await.unwrap();
    let seen = stand_in.clone();
    let witness = Witness::of(move || seen.objects().get(NAME).is_some_and(|versions| !versions.is_empty()));
    let mut replacements = 0;
    while replacements < 20 || witness.looks() < 20 {
        let next = renewed(&first, &authority.issue("a.example.com", KeyKind::P256, 90));
        found = vault.replace(&found, &next).await.unwrap();
        replacements += 1;
    }
    assert_eq!(witness.gaps().await, 0);
    assert!(stand_in.deleted().is_empty());
    assert!(stand_in.objects()[NAME].iter().all(|one| one.tags["chancery-object"] == first.mark.to_string()));
}
