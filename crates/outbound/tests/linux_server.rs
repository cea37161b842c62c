//! Certificates on a host, with a real OpenSSH and a real nginx behind it.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod authority;
mod host;

use authority::Authority;
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::{DestinationKind, SyncOptions};
use host::{a_set_comes_changes_and_goes, config, http, is_served, names, options, secrets};
use outbound::DeliveryError;
use outbound::connection::ssh::check;
use outbound::destination::linux_server::LinuxServer;
use outbound::destination::{Changed, Destination, Found, Item, Opening};
use outbound::egress::EgressRules;
use outbound::http::Http;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::nginx::Nginx;
use testkit::sshd::Sshd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A host with a folder, and a destination that is opened anew for each run.
struct Place {
    sshd: Sshd,
    folder: tempfile::TempDir,
    options: SyncOptions,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        Self {
            sshd: Sshd::start(&[]),
            folder: tempfile::tempdir().unwrap(),
            options: options(),
            authority: Authority::new(),
        }
    }

    fn open(&self) -> LinuxServer {
        open(&with_key(&self.sshd, Some(&self.sshd.host_keys()[0])), self.folder.path(), &self.options)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn open(credentials: &Credentials, directory: &Path, options: &SyncOptions) -> LinuxServer {
    let opening = Opening {
        kind: DestinationKind::LinuxServer,
        http: &http(),
        credentials: Some(credentials),
        config: &config(directory),
        options,
        secrets: &secrets(None),
    };
    LinuxServer::open(&opening).unwrap()
}

fn with_key(sshd: &Sshd, host_key: Option<&str>) -> Credentials {
    Credentials::SshKey {
        host: "127.0.0.1".into(),
        port: sshd.port(),
        username: sshd.user(),
        private_key: SecretText::new(sshd.client_key()),
        passphrase: None,
        host_key: host_key.map(Into::into),
    }
}

fn with_password(port: u16, password: &str) -> Credentials {
    Credentials::SshPassword {
        host: "127.0.0.1".into(),
        port,
        username: "deploy".into(),
        password: SecretText::new(password),
        host_key: None,
    }
}

fn pinned(credentials: &Credentials) -> &str {
    match credentials {
        Credentials::SshKey { host_key, .. } | Credentials::SshPassword { host_key, .. } => {
            host_key.as_deref().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn delivered(found: &Found) -> Changed {
    Changed { delivered: vec![(found.clone(), "www.example.com".into())], removed: vec![] }
}

fn digest_of(host_key: &str) -> String {
    let key = russh::keys::PublicKey::from_openssh(host_key).unwrap();
    key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
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
async fn the_key_that_is_seen_first_is_pinned_and_each_form_of_a_pin_is_known() {
    let sshd = Sshd::start(&[]);
    let [ed25519, ecdsa] = sshd.host_keys();
    let checked = check(&http(), &with_key(&sshd, None)).await.unwrap();
    assert_eq!(pinned(&checked), ed25519);
    for pin in [ed25519.clone(), format!("{ed25519} a comment"), ecdsa.clone(), digest_of(&ed25519), digest_of(&ecdsa)]
    {
        let checked = check(&http(), &with_key(&sshd, Some(&pin))).await.unwrap();
        assert_eq!(pinned(&checked), pin);
    }
    for pin in ["", "SHA256:", "SHA256:!", "ssh-ed25519", "ssh-rsa AAAA"] {
        let error = check(&http(), &with_key(&sshd, Some(pin))).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Refused(_)), "{pin}: {error}");
    }
}

#[tokio::test]
async fn with_another_host_key_no_login_is_tried() {
    let (sshd, other) = (Sshd::start(&["LogLevel DEBUG1"]), Sshd::start(&[]));
    let [ed25519, ecdsa] = other.host_keys();
    for pin in [ed25519.clone(), ecdsa, digest_of(&ed25519)] {
        let credentials = with_key(&sshd, Some(&pin));
        let error = check(&http(), &credentials).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Connection(text) if text.contains("no login was tried")), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let item = Authority::new().item("a");
        let error = open(&credentials, folder.path(), &options()).create(&item).await.unwrap_err();
        assert!(error.is_of_connection(), "{error}");
    }
    assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
    check(&http(), &with_key(&sshd, None)).await.unwrap();
    assert!(sshd.log().contains("userauth-request"), "the log would have told");
}

#[tokio::test]
async fn a_host_that_may_not_be_reached_is_not() {
    let sshd = Sshd::start(&[]);
    let nowhere = Http::new(EgressRules::public_and(vec![])).unwrap();
    let error = check(&nowhere, &with_key(&sshd, None)).await.unwrap_err();
    assert!(error.to_string().contains("CHANCERY_EGRESS_ALLOW"), "{error}");
}

#[tokio::test]
async fn a_sealed_key_opens_with_its_passphrase_and_wrong_ones_are_said() {
    let sshd = Sshd::start(&[]);
    let (key, passphrase) = sshd.sealed_client_key();
    let with = |key: &str, passphrase: Option<&str>| Credentials::SshKey {
        host: "127.0.0.1".into(),
        port: sshd.port(),
        username: sshd.user(),
        private_key: SecretText::new(key),
        passphrase: passphrase.map(SecretText::new),
        host_key: None,
    };
    check(&http(), &with(&key, Some(&passphrase))).await.unwrap();
    for wrong in [None, Some("wrong")] {
        let error = check(&http(), &with(&key, wrong)).await.unwrap_err();
        assert!(error.is_of_connection() && error.to_string().contains("passphrase"), "{error}");
    }
    assert!(check(&http(), &with("no key", None)).await.unwrap_err().is_of_connection());
    let stranger = Sshd::start(&[]);
    let error = check(&http(), &with(&stranger.client_key(), None)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Connection(text) if text.contains("by this key")), "{error}");
    let error = check(&http(), &with_password(sshd.port(), "hunter2")).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Connection(text) if text.contains("by this password")), "{error}");
    assert!(!error.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_password_lets_us_in() {
    for in_own_words in [false, true] {
        let port = password_host("correct horse", in_own_words).await;
        check(&http(), &with_password(port, "correct horse")).await.unwrap();
        let error = check(&http(), &with_password(port, "wrong")).await.unwrap_err();
        assert!(error.is_of_connection(), "{error}");
    }
}

#[tokio::test]
async fn of_many_that_want_one_name_one_gets_it_and_nothing_is_written_over() {
    let place = Place::new();
    fs::write(place.path("b.key"), "a stranger's").unwrap();
    assert!(matches!(place.open().create(&place.authority.item("b")).await, Err(DeliveryError::Taken(_))));
    assert_eq!(names(place.folder.path()), ["b.key"]);

    let attempts: Vec<_> = (0..6)
        .map(|_| {
            let (destination, item) = (place.open(), place.authority.item("a"));
            tokio::spawn(
                async move { destination.create(&item).await.map(|found| (found, destination.expected(&item))) },
            )
        })
        .collect();
    let mut won = Vec::new();
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(one) => won.push(one),
            Err(error) => assert!(matches!(error, DeliveryError::Taken(_)), "{error}"),
        }
    }
    let [(found, expected)] = won.as_slice() else { panic!("{} have won", won.len()) };
    assert_eq!(Some(&found.fingerprint), expected.as_ref());
    let looked = place.open().look(&found.id).await.unwrap().unwrap();
    assert_eq!(looked.fingerprint, found.fingerprint);
    assert_eq!(names(place.folder.path()), ["a.chain.pem", "a.key", "a.pem", "b.key"]);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_never_missing() {
    let place = Place::new();
    let mut found = place.open().create(&place.authority.item("a")).await.unwrap();
    let paths = ["a.pem", "a.key", "a.chain.pem"].map(|name| place.path(name));
    let (done, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = {
        let (done, rounds) = (done.clone(), rounds.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                for path in &paths {
                    let text = fs::read_to_string(path).expect("the file is there");
                    assert!(text.trim_end().ends_with("-----"), "the file is whole");
                }
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let destination = place.open();
    for _ in 0..20 {
        found = destination.replace(&found, &place.authority.item("a")).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    reader.join().unwrap();
    assert!(rounds.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let place = Place::new();
    let item = place.authority.item("a");
    let missing = open(&with_key(&place.sshd, Some(&place.sshd.host_keys()[0])), &place.path("missing"), &options());
    let error = missing.create(&item).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("is not there on the host")), "{error}");
    let mut options = options();
    options.owner = Some("no-such-user".into());
    let owned = open(&with_key(&place.sshd, Some(&place.sshd.host_keys()[0])), place.folder.path(), &options);
    let error = owned.create(&item).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("the owner cannot be set")), "{error}");
    assert_eq!(names(place.folder.path()), Vec::<String>::new());
    // A link in the place of a file is not ours.
    std::os::unix::fs::symlink("/etc/hostname", place.path("a.pem")).unwrap();
    assert_eq!(place.open().find(&item).await.unwrap()[0].mark, None);
    assert!(matches!(place.open().create(&item).await, Err(DeliveryError::Taken(_))));
}

#[tokio::test]
async fn modes_and_owners_are_set_whatever_the_umask() {
    let mut place = Place::new();
    place.options.file_mode = Some("666".into());
    place.options.private_key_file_mode = Some("0440".into());
    let root = fs::metadata(place.folder.path()).unwrap().uid() == 0;
    place.options.group = Some(if root { "nogroup".into() } else { group() });
    place.open().create(&place.authority.item("a")).await.unwrap();
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a.pem"), mode("a.key")), (0o666, 0o440));
    let output = Command::new("stat").args(["-c", "%G"]).arg(place.path("a.key")).output().unwrap();
    let wanted = place.options.group.as_deref().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), wanted);
}

fn group() -> String {
    let output = Command::new("id").arg("-gn").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn nginx_serves_the_new_certificate_and_keeps_the_old_one_when_the_reload_fails() {
    let mut place = Place::new();
    let first = place.authority.item("www");
    let found = place.open().create(&first).await.unwrap();
    let nginx = Nginx::start(&place.path("www.pem"), &place.path("www.key"));
    is_served(nginx.port(), &first.leaf).await;

    place.options.post_sync_command = Some(nginx.reload_command());
    place.options.health_check_command = Some("test -s {{certificatePath}}".into());
    let second = place.authority.item("www");
    let destination = place.open();
    let found = destination.replace(&found, &second).await.unwrap();
    destination.finish(&delivered(&found)).await.unwrap();
    is_served(nginx.port(), &second.leaf).await;

    let bad = Item { key: first.key.clone(), ..place.authority.item("www") };
    let destination = place.open();
    let broken = destination.replace(&found, &bad).await.unwrap();
    let error = destination.finish(&delivered(&broken)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("key values mismatch")), "{error}");
    assert!(error.to_string().contains("put back"), "{error}");
    assert_eq!(place.open().look(&found.id).await.unwrap().unwrap().fingerprint, found.fingerprint);
    assert_eq!(fs::metadata(place.path("www.key")).unwrap().permissions().mode() & 0o777, 0o600);
    is_served(nginx.port(), &second.leaf).await;

    place.options.health_check_command = Some("echo unwell >&2; false".into());
    let destination = place.open();
    let third = destination.create(&place.authority.item("third")).await.unwrap();
    let error = destination.finish(&delivered(&third)).await.unwrap_err();
    assert!(error.to_string().contains("healthCheckCommand ended with status 1; it wrote: unwell"), "{error}");
    assert_eq!(names(place.folder.path()), ["www.chain.pem", "www.key", "www.pem"]);
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
    assert!(error.to_string().contains("took longer than 30 seconds and was killed"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let process = format!("/proc/{}/stat", fs::read_to_string(&child).unwrap().trim());
    let state = fs::read_to_string(process).unwrap_or_default();
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
async fn wherever_a_connection_breaks_off_the_files_stay_whole_and_the_outcome_is_not_guessed() {
    let place = Place::new();
    let (port, budget) = cutting_proxy(place.sshd.port()).await;
    let mut credentials = with_key(&place.sshd, Some(&place.sshd.host_keys()[0]));
    if let Credentials::SshKey { port: to, .. } = &mut credentials {
        *to = port;
    }
    let mut found = place.open().create(&place.authority.item("a")).await.unwrap();
    // How much a whole change takes says where it may break off; the renames are in its last part.
    let destination = open(&credentials, place.folder.path(), &place.options);
    destination.look(&found.id).await.unwrap();
    let much = 1 << 40;
    budget.store(much, Ordering::SeqCst);
    found = destination.replace(&found, &place.authority.item("a")).await.unwrap();
    let whole = much - budget.swap(i64::MAX, Ordering::SeqCst);
    let (mut completed, mut broken_off, mut unknown) = (0, 0, 0);
    for octets in (0..whole).step_by(500).chain((whole - 3000..whole).step_by(70)).chain([whole * 2]) {
        let destination = open(&credentials, place.folder.path(), &place.options);
        let item = place.authority.item("a");
        assert_eq!(destination.look(&found.id).await.unwrap().unwrap().fingerprint, found.fingerprint);
        budget.store(octets, Ordering::SeqCst);
        let result = destination.replace(&found, &item).await;
        budget.store(i64::MAX, Ordering::SeqCst);
        let after = destination.expected(&item);
        let there = place.open().look(&found.id).await.unwrap().unwrap();
        assert_eq!(there.details, found.details, "no file is missing");
        assert!(there.fingerprint.is_between(Some(&found.fingerprint), after.as_ref()), "each file is old or new");
        match result {
            Ok(replaced) => {
                assert_eq!(there.fingerprint, replaced.fingerprint);
                completed += 1;
            }
            Err(DeliveryError::Unknown(_)) => unknown += 1,
            Err(DeliveryError::Unavailable(_)) => {
                assert_eq!(there.fingerprint, found.fingerprint, "what was said not to be done was not");
                broken_off += 1;
            }
            Err(other) => panic!("{other}"),
        }
        found = there;
    }
    assert!(completed > 0, "a whole one goes through");
    assert!(broken_off > 3 && unknown > 0, "{broken_off} were broken off, {unknown} in a change");
}

#[tokio::test]
async fn left_over_temporary_files_go_after_a_minute() {
    let place = Place::new();
    for (name, age) in
        [("a.pem.0123456789ab.chancery.tmp", 90), ("a.pem.0123456789ac.chancery.tmp", 0), ("mine.tmp", 90)]
    {
        fs::write(place.path(name), "half").unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(place.path(name)).unwrap().set_modified(then).unwrap();
    }
    place.open().create(&place.authority.item("b")).await.unwrap();
    let left = names(place.folder.path());
    assert_eq!(left, ["a.pem.0123456789ac.chancery.tmp", "b.chain.pem", "b.key", "b.pem", "mine.tmp"]);
}

/// Hands connections on, and cuts one once it has carried so many octets of answers; later ones are whole again.
async fn cutting_proxy(to: u16) -> (u16, Arc<AtomicI64>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let budget = Arc::new(AtomicI64::new(i64::MAX));
    let left = budget.clone();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let left = left.clone();
            tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                    (near.into_split(), far.into_split());
                let answers = async {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = far_read.read(&mut buffer).await {
                        let octets = i64::try_from(length).unwrap();
                        if left.fetch_sub(octets, Ordering::SeqCst) < octets {
                            left.store(i64::MAX, Ordering::SeqCst);
                            break;
                        }
                        near_write.write_all(&buffer[..length]).await.unwrap();
                    }
                };
                tokio::select! {
                    () = answers => {}
                    _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                }
            });
        }
    });
    (port, budget)
}

/// A host that takes one password, which OpenSSH would only take from its system's users: either by the method of that name,
/// or by asking for it in its own words.
async fn password_host(password: &'static str, in_own_words: bool) -> u16 {
    use russh::server::{Auth, Config, Handler, Response, run_stream};

    struct Gate {
        password: &'static str,
        in_own_words: bool,
    }

    impl Handler for Gate {
        type Error = russh::Error;

        async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
            let is_right = !self.in_own_words && user == "deploy" && password == self.password;
            Ok(if is_right { Auth::Accept } else { Auth::reject() })
        }

        async fn auth_keyboard_interactive<'a>(
            &'a mut self,
            _: &str,
            _: &str,
            response: Option<Response<'a>>,
        ) -> Result<Auth, Self::Error> {
            Ok(match response {
                _ if !self.in_own_words => Auth::reject(),
                None => Auth::Partial {
                    name: "".into(),
                    instructions: "".into(),
                    prompts: vec![("Password: ".into(), false)].into(),
                },
                Some(mut answers) => match answers.next().is_some_and(|answer| *answer == *self.password.as_bytes()) {
                    true => Auth::Accept,
                    false => Auth::reject(),
                },
            })
        }
    }

    let key =
        russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519).unwrap();
    let methods = match in_own_words {
        true => [russh::MethodKind::KeyboardInteractive],
        false => [russh::MethodKind::Password],
    };
    let config = Arc::new(Config {
        keys: vec![key],
        methods: russh::MethodSet::from(methods.as_slice()),
        auth_rejection_time: Duration::ZERO,
        ..Config::default()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (config, gate) = (config.clone(), Gate { password, in_own_words });
            tokio::spawn(async move { run_stream(config, stream, gate).await.unwrap().await });
        }
    });
    port
}
