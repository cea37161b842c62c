//! What the tests of both kinds of host share: what a sync is opened with, and the steps that both have to take.

use crate::authority::{Authority, rules};
use domain::secret::SecretText;
use domain::sync::config::{ProveAddress, SyncCredentials};
use domain::sync::{DestinationConfig, DestinationKind, SyncOptions};
use outbound::destination::Destination;
use outbound::http::Http;
use outbound::probe::served_certificate;
use std::path::Path;
use std::time::{Duration, Instant};
use x509::Certificate;

/// The options of files when nothing is said.
pub fn options() -> SyncOptions {
    SyncOptions::default_of(DestinationKind::LinuxServer)
}

pub fn config(directory: &Path) -> DestinationConfig {
    DestinationConfig::Directory { destination_path: directory.to_str().unwrap().into() }
}

pub fn secrets(password: Option<&str>) -> SyncCredentials {
    SyncCredentials { export_password: password.map(SecretText::new) }
}

pub fn http() -> Http {
    Http::new(rules()).unwrap()
}

/// Waits until that very certificate is served; old workers of a server answer for a while after a reload.
pub async fn is_served(port: u16, wanted: &Certificate) {
    let begun = Instant::now();
    loop {
        let served = served_certificate(&rules(), &at(port), Duration::from_secs(10)).await;
        match served {
            Ok(served) if served.as_der() == wanted.as_der() => return,
            other => assert!(begun.elapsed() < Duration::from_secs(20), "not served: {:?}", other.map(|_| "another")),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn at(port: u16) -> ProveAddress {
    ProveAddress { host: "127.0.0.1".into(), port, server_name: Some("www.example.com".into()), start_tls: None }
}

/// All names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same steps on either kind of host: a set comes, is found, is replaced in place, and goes, and what is not ours stays.
pub async fn a_set_comes_changes_and_goes(destination: &impl Destination, directory: &Path, authority: &Authority) {
    let path = |name: &str| directory.join(name);
    std::fs::write(path("www.example.com2.pem"), "a stranger's").unwrap();
    let item = authority.item("www.example.com");
    assert_eq!(destination.find(&item).await.unwrap(), []);
    let made = destination.create(&item).await.unwrap();
    assert_eq!(made.id, path("www.example.com.pem").to_str().unwrap());
    assert_eq!(made.details.len(), 3);
    assert_eq!(Some(&made.fingerprint), destination.expected(&item).as_ref());
    assert_eq!(made.mark, Some(item.mark));
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(read("www.example.com.pem"), item.leaf.to_pem() + "\n");
    assert_eq!(read("www.example.com.chain.pem"), item.chain[0].to_pem() + "\n");
    assert_eq!(read("www.example.com.key"), item.key.as_ref().unwrap().expose().to_owned() + "\n");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!((mode("www.example.com.pem"), mode("www.example.com.key")), (0o644, 0o600));

    let looked = destination.look(&made.id).await.unwrap().unwrap();
    assert_eq!((&looked.fingerprint, &looked.details), (&made.fingerprint, &made.details));
    assert_eq!(destination.find(&item).await.unwrap()[0].mark, Some(item.mark), "it is surely this one");
    // What was made in an attempt that was broken off is taken up; its missing part is added.
    std::fs::remove_file(path("www.example.com.chain.pem")).unwrap();
    assert_eq!(destination.find(&item).await.unwrap()[0].mark, Some(item.mark));
    assert_eq!(destination.create(&item).await.unwrap().fingerprint, made.fingerprint);

    let next = authority.item("another.name");
    assert_eq!(destination.find(&authority.item("www.example.com")).await.unwrap()[0].mark, None, "it is another's");
    let replaced = destination.replace(&looked, &next).await.unwrap();
    assert_eq!((&replaced.id, &replaced.details), (&made.id, &made.details));
    assert_eq!(Some(&replaced.fingerprint), destination.expected(&next).as_ref());
    assert_eq!(read("www.example.com.pem"), next.leaf.to_pem() + "\n");
    let error = destination.replace(&looked, &item).await.unwrap_err();
    assert!(error.to_string().contains("changed in the meantime"), "{error}");

    destination.remove(&replaced).await.unwrap();
    assert_eq!(
        read("www.example.com.pem"),
        next.leaf.to_pem() + "\n",
        "what this run wrote is not removed in this run"
    );
}
