//! Certificates in a directory of this host, with a real nginx that serves them.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod authority;
mod host;

use authority::Authority;
use domain::sync::SyncOptions;
use host::{a_set_comes_changes_and_goes, config, http, is_served, names, options, secrets};
use outbound::DeliveryError;
use outbound::destination::local_directory::{LocalDirectory, LocalPlaces};
use outbound::destination::{Changed, Destination, Found, Item, Opening};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::nginx::Nginx;

fn open_below(root: &Path, directory: &Path, options: &SyncOptions) -> Result<LocalDirectory, DeliveryError> {
    let places = LocalPlaces { roots: vec![root.to_owned()], commands_allowed: true };
    open_with(&places, directory, options, None)
}

fn open_with(
    places: &LocalPlaces,
    directory: &Path,
    options: &SyncOptions,
    password: Option<&str>,
) -> Result<LocalDirectory, DeliveryError> {
    let opening = Opening {
        kind: domain::sync::DestinationKind::LocalDirectory,
        http: &http(),
        credentials: None,
        config: &config(directory),
        options,
        secrets: &secrets(password),
    };
    LocalDirectory::open(&opening, places)
}

/// A folder, and a destination that is opened anew for each run.
struct Place {
    folder: tempfile::TempDir,
    options: SyncOptions,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), options: options(), authority: Authority::new() }
    }

    fn open(&self) -> LocalDirectory {
        open_below(self.folder.path(), self.folder.path(), &self.options).unwrap()
    }

    async fn create(&self, name: &str) -> (Item, Found) {
        let item = self.authority.item(name);
        let found = self.open().create(&item).await.unwrap();
        (item, found)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn delivered(found: &Found) -> Changed {
    Changed { delivered: vec![(found.clone(), "www.example.com".into())], removed: vec![] }
}

#[tokio::test]
async fn a_set_of_files_comes_changes_and_goes() {
    let place = Place::new();
    a_set_comes_changes_and_goes(&place.open(), place.folder.path(), &place.authority).await;
    let destination = place.open();
    let id = place.path("www.example.com.pem").to_str().unwrap().to_owned();
    let found = destination.look(&id).await.unwrap().unwrap();
    destination.remove(&found).await.unwrap();
    destination.remove(&found).await.unwrap();
    assert_eq!(destination.look(&id).await.unwrap(), None);
    assert_eq!(names(place.folder.path()), ["www.example.com2.pem"]);
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_written_over() {
    let place = Place::new();
    for name in ["a.pem", "a.chain.pem", "a.key"] {
        fs::write(place.path(name), "a stranger's").unwrap();
        let item = place.authority.item("a");
        let found = place.open().find(&item).await.unwrap();
        assert_eq!(found[0].mark, None);
        assert!(matches!(place.open().create(&item).await, Err(DeliveryError::Taken(_))), "{name}");
        assert_eq!(names(place.folder.path()), [name]);
        assert_eq!(fs::read_to_string(place.path(name)).unwrap(), "a stranger's");
        fs::remove_file(place.path(name)).unwrap();
    }
    // The same chain alone does not make it ours.
    let item = place.authority.item("a");
    fs::write(place.path("a.chain.pem"), item.chain[0].to_pem() + "\n").unwrap();
    assert_eq!(place.open().find(&item).await.unwrap()[0].mark, None);
    assert!(matches!(place.open().create(&item).await, Err(DeliveryError::Taken(_))));
    fs::remove_file(place.path("a.chain.pem")).unwrap();
    // Nor does a link, wherever it leads.
    std::os::unix::fs::symlink("/nowhere", place.path("a.pem")).unwrap();
    assert!(matches!(place.open().create(&item).await, Err(DeliveryError::Taken(_))));
    assert!(fs::symlink_metadata(place.path("a.pem")).unwrap().is_symlink());
}

#[tokio::test]
async fn names_and_places_cannot_lead_elsewhere() {
    let place = Place::new();
    for name in ["../x", "a/b", "a\0b", ".a", "", &"a".repeat(256)] {
        let error = place.open().create(&place.authority.item(name)).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Refused(_)), "{name:?}: {error}");
    }
    let outside = tempfile::tempdir().unwrap();
    let elsewhere = open_below(place.folder.path(), outside.path(), &options());
    assert!(elsewhere.err().unwrap().to_string().contains("CHANCERY_LOCAL_DIRECTORIES"));
    let prefix = std::path::PathBuf::from(format!("{}-other", place.folder.path().display()));
    assert!(open_below(place.folder.path(), &prefix, &options()).is_err());
    let back = place.path("..");
    assert!(open_below(place.folder.path(), &back, &options()).is_err());

    std::os::unix::fs::symlink(outside.path(), place.path("link")).unwrap();
    let item = place.authority.item("a");
    let by_link = open_below(place.folder.path(), &place.path("link"), &options()).unwrap();
    let error = by_link.create(&item).await.unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    let missing = open_below(place.folder.path(), &place.path("missing"), &options()).unwrap();
    let error = missing.create(&item).await.unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    let mut found = place.create("b").await.1;
    found.details.push("/etc/hostname".into());
    assert!(place.open().remove(&found).await.is_err());
    assert_eq!(names(outside.path()), Vec::<String>::new());
}

#[tokio::test]
async fn unchanged_files_are_not_written_again() {
    let place = Place::new();
    let (item, found) = place.create("a").await;
    let numbers = || ["a.pem", "a.key", "a.chain.pem"].map(|name| fs::metadata(place.path(name)).unwrap().ino());
    let before = numbers();
    place.open().replace(&found, &item).await.unwrap();
    assert_eq!(numbers(), before);
    let renewed = Item { key: item.key.clone(), ..place.authority.item("a") };
    place.open().replace(&found, &renewed).await.unwrap();
    let after = numbers();
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..], "key and chain are the same");
}

#[tokio::test]
async fn a_reader_never_misses_a_file_while_it_is_replaced() {
    let place = Place::new();
    let (_, mut found) = place.create("a").await;
    let paths = ["a.pem", "a.key", "a.chain.pem"].map(|name| place.path(name));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let done = done.clone();
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                for path in &paths {
                    let text = fs::read_to_string(path).expect("the file is there");
                    assert!(text.trim_end().ends_with("-----"), "the file is whole");
                }
                rounds += 1;
            }
            rounds
        })
    };
    for _ in 0..50 {
        found = place.open().replace(&found, &place.authority.item("a")).await.unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(reader.join().unwrap() > 0);
}

#[tokio::test]
async fn forms_modes_and_what_is_left_out_follow_the_options() {
    let mut place = Place::new();
    place.options.pem_certificate_extension = Some("crt".into());
    place.options.combine_certificate_chain = Some(true);
    place.options.include_private_key = Some(false);
    place.options.file_mode = Some("0640".into());
    let item = Item { key: None, ..place.authority.item("a") };
    let found = place.open().create(&item).await.unwrap();
    assert_eq!(names(place.folder.path()), ["a.crt"]);
    let text = fs::read_to_string(place.path("a.crt")).unwrap();
    assert_eq!(text, format!("{}\n{}\n", item.leaf.to_pem(), item.chain[0].to_pem()));
    assert_eq!(fs::metadata(place.path("a.crt")).unwrap().permissions().mode() & 0o777, 0o640);

    // Another form is another set: it is made, and then the files of the old one go.
    place.options.pem_certificate_extension = Some("pem".into());
    place.options.combine_certificate_chain = Some(false);
    let replaced = place.open().replace(&found, &item).await.unwrap();
    assert_eq!(replaced.id, place.path("a.pem").to_str().unwrap());
    assert_eq!(names(place.folder.path()), ["a.chain.pem", "a.pem"]);

    place.options.include_private_key = Some(true);
    let error = place.open().must_take(&item).unwrap_err();
    assert!(error.to_string().contains("includePrivateKey"), "{error}");
}

#[tokio::test]
async fn a_pkcs12_file_is_one_that_openssl_opens() {
    let place = Place::new();
    let mut options = options();
    options.export_format = Some("pkcs12".into());
    let places = LocalPlaces { roots: vec![place.folder.path().to_owned()], commands_allowed: false };
    assert!(open_with(&places, place.folder.path(), &options, None).is_err(), "it needs a password");
    let destination = open_with(&places, place.folder.path(), &options, Some("geheim ü")).unwrap();
    let item = place.authority.item("a");
    let found = destination.create(&item).await.unwrap();
    assert_eq!(found.id, place.path("a.pfx").to_str().unwrap());
    assert_eq!(fs::metadata(&found.id).unwrap().permissions().mode() & 0o777, 0o600);
    let again = destination.look(&found.id).await.unwrap().unwrap();
    assert_eq!(Some(again.fingerprint), destination.expected(&item), "the same contents are the same octets");
    let open = |password: &str| {
        let password = format!("pass:{password}");
        Command::new("openssl").args(["pkcs12", "-noenc", "-in", &found.id, "-passin", &password]).output().unwrap()
    };
    let output = open("geheim ü");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("friendlyName: a") && text.contains(item.key.as_ref().unwrap().expose()), "{text}");
    let certificates = x509::pem::decode_all(&text, "CERTIFICATE").unwrap();
    assert_eq!(certificates, [item.leaf.as_der(), item.chain[0].as_der()]);
    assert!(!open("other").status.success());
    let mut certtool = Command::new("certtool");
    certtool.args(["--inder", "--p12-info", "--password", "geheim ü", "--infile", &found.id]);
    let output = certtool.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("BEGIN CERTIFICATE"), "{text}");
    let other = place.authority.item("a");
    assert_ne!(destination.expected(&item), destination.expected(&other));
}

#[tokio::test]
async fn left_over_temporary_files_go_after_a_minute() {
    let place = Place::new();
    for name in ["a.pem.0123456789ab.chancery.tmp", "a.pem.0123456789ac.chancery.tmp", "notes.chancery.tmp"] {
        fs::write(place.path(name), "half").unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(90);
        if name != "a.pem.0123456789ac.chancery.tmp" {
            fs::File::options().write(true).open(place.path(name)).unwrap().set_modified(old).unwrap();
        }
    }
    place.create("b").await;
    let left = names(place.folder.path());
    assert_eq!(left, ["a.pem.0123456789ac.chancery.tmp", "b.chain.pem", "b.key", "b.pem", "notes.chancery.tmp"]);
}

#[tokio::test]
async fn nginx_serves_the_new_certificate_and_keeps_the_old_one_when_the_new_one_is_bad() {
    let mut place = Place::new();
    let (first, found) = place.create("www").await;
    let nginx = Nginx::start(&place.path("www.pem"), &place.path("www.key"));
    is_served(nginx.port(), &first.leaf).await;

    place.options.post_sync_command = Some(nginx.reload_command());
    place.options.health_check_command = Some("test -s {{certificatePath}}".into());
    let second = place.authority.item("www");
    let destination = place.open();
    let found = destination.replace(&found, &second).await.unwrap();
    destination.finish(&delivered(&found)).await.unwrap();
    is_served(nginx.port(), &second.leaf).await;

    // A key that does not belong to the certificate: nginx refuses the files, and they are put back.
    let bad = Item { key: first.key.clone(), ..place.authority.item("www") };
    let destination = place.open();
    let broken = destination.replace(&found, &bad).await.unwrap();
    let error = destination.finish(&delivered(&broken)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("key values mismatch")), "{error}");
    assert!(error.to_string().contains("put back"), "{error}");
    assert_eq!(place.open().look(&found.id).await.unwrap().unwrap().fingerprint, found.fingerprint);
    assert_eq!(fs::metadata(place.path("www.key")).unwrap().permissions().mode() & 0o777, 0o600);
    is_served(nginx.port(), &second.leaf).await;

    // A health check that fails does the same, and files that were new are gone again.
    place.options.health_check_command = Some("echo unwell >&2; false".into());
    let destination = place.open();
    let third = destination.create(&place.authority.item("third")).await.unwrap();
    let error = destination.finish(&delivered(&third)).await.unwrap_err();
    assert!(error.to_string().contains("healthCheckCommand ended with status 1; it wrote: unwell"), "{error}");
    assert_eq!(names(place.folder.path()), ["www.chain.pem", "www.key", "www.pem"]);
}

#[tokio::test]
async fn a_command_is_told_of_the_files_and_of_nothing_else() {
    let mut place = Place::new();
    place.options.post_sync_command = Some("env > env.txt".into());
    let refused = LocalPlaces { roots: vec![place.folder.path().to_owned()], commands_allowed: false };
    let error = open_with(&refused, place.folder.path(), &place.options, None).err().unwrap();
    assert!(error.to_string().contains("CHANCERY_LOCAL_COMMANDS"), "{error}");

    let output = place.path("said");
    place.options.post_sync_command = Some(format!(
        "printf '%s\\n' {{{{certificatePath}}}} {{{{certificateDirectory}}}} {{{{certificateFiles}}}} {{{{commonName}}}} \
         \"$CARGO_PKG_NAME\" > '{}'",
        output.display()
    ));
    let destination = place.open();
    let found = destination.create(&place.authority.item("a")).await.unwrap();
    let changed = Changed { delivered: vec![(found, "it's; touch x".into())], removed: vec![] };
    destination.finish(&changed).await.unwrap();
    let home = place.folder.path().display();
    let wanted = format!("{home}/a.pem\n{home}\n{home}/a.pem\n{home}/a.key\n{home}/a.chain.pem\nit's; touch x\n\n");
    assert_eq!(fs::read_to_string(&output).unwrap(), wanted);
    fs::remove_file(&output).unwrap();
    // A run that only removed has nothing to tell.
    destination.finish(&Changed { delivered: vec![], removed: vec!["x".into()] }).await.unwrap();
    assert!(!output.exists());
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_its_children() {
    let mut place = Place::new();
    let child = place.path("child");
    place.options.post_sync_command =
        Some(format!("test -e '{0}' && exit; sleep 600 & echo $! > '{0}'; wait", child.display()));
    let destination = place.open();
    let found = destination.create(&place.authority.item("a")).await.unwrap();
    let begun = Instant::now();
    let error = destination.finish(&delivered(&found)).await.unwrap_err();
    assert!(error.to_string().contains("took longer than 30 seconds"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let process = format!("/proc/{}", fs::read_to_string(&child).unwrap().trim());
    // A zombie that nobody waits for counts as ended.
    let state = fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test]
async fn output_that_stays_open_does_not_keep_a_run() {
    let mut place = Place::new();
    place.options.post_sync_command = Some("sleep 20 & echo begun".into());
    let destination = place.open();
    let found = destination.create(&place.authority.item("a")).await.unwrap();
    let begun = Instant::now();
    destination.finish(&delivered(&found)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn files_go_to_the_owner_that_is_named() {
    let mut place = Place::new();
    let user = fs::metadata(place.folder.path()).unwrap().uid();
    let name = Command::new("id").arg("-un").output().unwrap();
    let (owner, number) = match user {
        0 => ("nobody".to_owned(), fs::metadata("/").map(|_| nobody()).unwrap()),
        other => (String::from_utf8(name.stdout).unwrap().trim().to_owned(), other),
    };
    place.options.owner = Some(owner);
    place.create("a").await;
    assert_eq!(fs::metadata(place.path("a.key")).unwrap().uid(), number);
    place.options.owner = Some("no-such-user".into());
    let error = place.open().create(&place.authority.item("b")).await.unwrap_err();
    assert!(error.to_string().contains("the owner cannot be set"), "{error}");
    assert_eq!(names(place.folder.path()), ["a.chain.pem", "a.key", "a.pem"]);
}

#[tokio::test]
async fn modes_and_owners_that_somebody_changed_are_seen_and_put_right() {
    let mut place = Place::new();
    let owner = fs::metadata(place.folder.path()).unwrap();
    place.options.owner = Some(name_of("-un", owner.uid()));
    place.options.group = Some(name_of("-gn", owner.uid()));
    let (item, _) = place.create("a").await;
    let id = place.path("a.pem").to_str().unwrap().to_owned();
    let look = async || {
        let destination = place.open();
        let found = destination.look(&id).await.unwrap().unwrap();
        let strayed = destination.strayed(&found, &item).await.unwrap();
        (destination, found, strayed)
    };
    assert_eq!(look().await.2, None);
    fs::set_permissions(place.path("a.chain.pem"), fs::Permissions::from_mode(0o666)).unwrap();
    let (destination, found, strayed) = look().await;
    assert!(strayed.unwrap().ends_with("a.chain.pem has the mode 666 and not 644"));
    destination.replace(&found, &item).await.unwrap();
    assert_eq!(look().await.2, None);
    // Only root gives files away.
    if owner.uid() == 0 {
        for (user, group) in [(Some(nobody()), None), (None, Some(nobody()))] {
            std::os::unix::fs::chown(place.path("a.key"), user, group).unwrap();
            let (destination, found, strayed) = look().await;
            assert!(strayed.as_ref().unwrap().contains("a.key belongs to"), "{strayed:?}");
            destination.replace(&found, &item).await.unwrap();
            let now = fs::metadata(place.path("a.key")).unwrap();
            assert_eq!((now.uid(), now.gid(), now.permissions().mode() & 0o777), (0, owner.gid(), 0o600));
            assert_eq!(look().await.2, None);
        }
    }
}

/// What `id` says of a user.
fn name_of(what: &str, user: u32) -> String {
    let output = Command::new("id").args([what, &user.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn nobody() -> u32 {
    let output = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
