//! Faults, again and again, under clients that write down what they were told; after each one everything is compared
//! (invariants I1 to I6, I9, I12, I13). A run prints one line of the table: what was done to whom, how often, and what
//! it came to.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::postgres::PrivateCluster;

use crate::api::{Api, new_client};
use crate::history::{Said, Violation};
use crate::load::{Counts, Load, issuer, list_at, said};
use crate::random::Random;
use crate::site::{PATIENCE, Server, Site, block_on, faketime};
use crate::unsynced::{Disk, Syncs, Unsynced};

/// How often, and how long clients work around each.
#[derive(Clone, Copy)]
pub struct Plan {
    pub faults: usize,
    /// The longest time from the first request to the fault.
    pub load_millis_max: usize,
    /// After how many faults `fsck` and `audit verify` look at everything; they do at the end in any case.
    pub check_every: usize,
    pub seed: u64,
}

/// For how long a node may say what it knew before it was cut off (`docs/decisions/0013-ocsp.md`), with a second for
/// the test.
const BOUND: Duration = Duration::from_secs(5);

impl Plan {
    fn pause(&self, random: &mut Random) -> Duration {
        Duration::from_millis(50 + random.below(self.load_millis_max) as u64)
    }
}

/// Prints the line of the table, and asserts that nothing was found.
fn conclude(fault: &str, site: &Site, load: Load<'_>) -> Counts {
    print_line(fault, site, &load.counts, load.found.len());
    assert_eq!(load.found, [], "{fault} on {}", site.engine());
    load.counts
}

fn print_line(fault: &str, site: &Site, counts: &Counts, found: usize) {
    let Counts { faults, issued, signed, renewed, revoked, refused, unknown, resolved, lists } = counts;
    println!(
        "| {fault} | {} | {faults} faults | {issued} issued | {signed} signed | {renewed} renewed | \
         {revoked} revoked | {refused} refused | {unknown} unknown, {resolved} of them found done | \
         {lists} lists | {found} violations |",
        site.engine()
    );
}

/// Compares what a fault left with what clients were told, and every so often the whole of the database with itself.
async fn look(site: &Site, load: &mut Load<'_>, api: &Api, plan: &Plan) {
    load.look(api).await;
    if load.counts.faults.is_multiple_of(plan.check_every) {
        site.check_clean();
    }
}

/// Looks once more at everything, and ends the server.
async fn end(site: &Site, server: Server, api: &Api, load: &mut Load<'_>) {
    load.last_look(api).await;
    assert_eq!(api.metric("chancery_panics").await, 0);
    site.check_clean();
    server.stop();
    site.check_clean();
}

/// `kill -9`.
pub fn kills(site: &Site, plan: &Plan) -> Counts {
    block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(site);
        let mut server = site.start();
        let mut api = Api::log_in(site, &server).await;
        while load.counts.faults < plan.faults {
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            server.kill();
            load.counts.faults += 1;
            load.end(clients).await;
            server = site.start();
            api = Api::log_in(site, &server).await;
            look(site, &mut load, &api, plan).await;
        }
        if !site.is_sqlite() && plan.faults > 20 {
            load.wait_until_all_is_known().await;
        }
        end(site, server, &api, &mut load).await;
        conclude("kill -9", site, load)
    })
}

/// Losses of power: the process ends, and what was not synced is gone.
pub fn power_losses(plan: &Plan, syncs: Syncs) -> (Counts, Vec<Violation>) {
    let mount = tempfile::tempdir().unwrap();
    let mut disk = Disk::mount(&mount.path().join("disk"), Syncs::Kept);
    let site = Site::sqlite_in(mount.path().join("disk").join("data"));
    let outcome = block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(&site);
        let mut lost = 0;
        let mut server = site.start();
        let mut api = Api::log_in(&site, &server).await;
        disk.obey(syncs);
        if syncs == Syncs::Ignored {
            // Nobody waits for what is gone.
            load.patience = Duration::ZERO;
        }
        while load.counts.faults < plan.faults {
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            server.kill();
            load.end(clients).await;
            let unsynced = if random.below(2) == 0 { Unsynced::AllLost } else { Unsynced::SomeLost };
            lost += disk.lose_power(unsynced, &mut random);
            load.counts.faults += 1;
            server = site.start();
            api = Api::log_in(&site, &server).await;
            load.look(&api).await;
            if syncs == Syncs::Kept && load.counts.faults.is_multiple_of(plan.check_every) {
                site.check_clean();
            }
        }
        if syncs == Syncs::Ignored {
            return (load.counts, load.found);
        }
        end(&site, server, &api, &mut load).await;
        println!("{} syncs, and {lost} pages and names that were not synced were lost", disk.synced());
        (conclude("loss of power", &site, load), vec![])
    });
    drop(disk);
    outcome
}

/// PostgreSQL ends and starts again under the server: in good order, and as in a crash.
pub fn database_stops(plan: &Plan) -> Counts {
    let cluster = PrivateCluster::start(&[]);
    let site = Site::at(cluster.url());
    block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(&site);
        let server = site.start();
        let api = Api::log_in(&site, &server).await;
        while load.counts.faults < plan.faults {
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            let is_crash = load.counts.faults % 2 == 1;
            tokio::task::block_in_place(|| if is_crash { cluster.stop() } else { cluster.stop_in_order() });
            tokio::time::sleep(Duration::from_millis(random.below(500) as u64)).await;
            tokio::task::block_in_place(|| cluster.start_again());
            comes_back(&site, &api).await;
            load.counts.faults += 1;
            load.end(clients).await;
            look(&site, &mut load, &api, plan).await;
        }
        end(&site, server, &api, &mut load).await;
        conclude("PostgreSQL stopped or crashed", &site, load)
    })
}

/// The primary crashes and its synchronous standby takes over; then a new standby takes the place of the one that
/// crashed.
pub fn promotions(plan: &Plan) -> Counts {
    let mut primary = PrivateCluster::start(&[]);
    let mut standby = PrivateCluster::start_standby_of(&primary);
    let url = format!("postgresql://postgres@{},{}/postgres", primary.address(), standby.address());
    let site = Site::at(format!("{url}?target_session_attrs=read-write"));
    block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(&site);
        let server = site.start();
        let api = Api::log_in(&site, &server).await;
        while load.counts.faults < plan.faults {
            tokio::task::block_in_place(|| primary.wait_for_standby());
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            tokio::task::block_in_place(|| {
                primary.stop();
                standby.promote();
                standby.commit_alone();
            });
            comes_back(&site, &api).await;
            load.counts.faults += 1;
            load.end(clients).await;
            load.look(&api).await;
            tokio::task::block_in_place(|| primary.follow(&standby));
            std::mem::swap(&mut primary, &mut standby);
            if load.counts.faults.is_multiple_of(plan.check_every) {
                site.check_clean();
            }
        }
        end(&site, server, &api, &mut load).await;
        conclude("standby promoted", &site, load)
    })
}

/// A disk of a fixed size on a folder, until this is dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// One with room for what is made between so many faults.
    fn mount(folder: &'a Path, megabytes: usize, faults: usize) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        let size = megabytes + 6 * faults;
        let status = mount.args(["-t", "tmpfs", "-o", &format!("size={size}m,mode=700"), "tmpfs"]).arg(folder).status();
        assert!(status.unwrap().success(), "mounting a tmpfs needs to be root");
        Self(folder)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::options().create(true).append(true).open(self.0.join("ballast")).unwrap();
        for size in [1 << 16, 4096, 1] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn give_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.0).status());
    }
}

/// The disk is full: nothing is written, lists and OCSP are given, and it goes on by itself when there is room.
pub fn full_disks(plan: &Plan) -> Counts {
    let mount = tempfile::tempdir().unwrap();
    let folder = mount.path().join("disk");
    let disk = SmallDisk::mount(&folder, 64, plan.faults);
    let site = Site::sqlite_in(folder.join("data"));
    let counts = fill_again_and_again(&site, &disk, plan, None);
    drop(disk);
    counts
}

/// The same for the disk of PostgreSQL, which ends when it cannot write its log; then its service manager starts it
/// again.
pub fn full_database_disks(plan: &Plan) -> Counts {
    let mount = tempfile::tempdir().unwrap();
    let folder = mount.path().join("disk");
    let disk = SmallDisk::mount(&folder, 256, plan.faults);
    let cluster = PrivateCluster::start_in(&folder, &["max_wal_size = 64MB"]);
    let counts = fill_again_and_again(&Site::at(cluster.url()), &disk, plan, Some(&cluster));
    cluster.stop();
    drop(disk);
    counts
}

fn fill_again_and_again(site: &Site, disk: &SmallDisk<'_>, plan: &Plan, cluster: Option<&PrivateCluster>) -> Counts {
    block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(site);
        let server = site.start();
        let api = Api::log_in(site, &server).await;
        let known = api.issue(site, "known.example.com").await;
        let id = known["certificateId"].as_str().unwrap().replace('-', "");
        let (issuer, serial) = (issuer(&api, &id).await, serial_of(&known));
        let path = list_path(&api, &site.fact("/issuingCaId")).await;
        assert!(list_at(&api, &path).await.is_some());
        while load.counts.faults < plan.faults {
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            disk.fill();
            load.counts.faults += 1;
            let deadline = Instant::now() + PATIENCE;
            // There may be room left in what the database has taken already.
            while issues(site, &api).await {
                disk.fill();
                assert!(Instant::now() < deadline, "a full disk refuses nothing");
            }
            // Whoever is refused is told why.
            while cluster.is_none() && !is_told_that_it_is_full(site, &api).await {
                disk.fill();
                assert!(Instant::now() < deadline, "nobody is told that the disk is full");
            }
            for _ in 0..5 {
                // The log begins anew when it was copied, so there may be room in it again.
                issues(site, &api).await;
                assert!(list_at(&api, &path).await.is_some(), "no list while the disk is full");
                let said = said(&api, &issuer, &serial, Some(&random.next().to_be_bytes())).await;
                // Without its database a node signs nothing new.
                assert!(said == Said::Good || said == Said::Later && cluster.is_some(), "{said:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            disk.give_room();
            if let Some(cluster) = cluster {
                tokio::task::block_in_place(|| cluster.start_if_it_ended());
            }
            comes_back(site, &api).await;
            load.end(clients).await;
            look(site, &mut load, &api, plan).await;
        }
        end(site, server, &api, &mut load).await;
        conclude("disk full", site, load)
    })
}

async fn is_told_that_it_is_full(site: &Site, api: &Api) -> bool {
    let body = crate::api::issue_body(&site.fact("/profiles/web-server"), "probe.example.com");
    let answer = api.post(crate::api::ISSUE, &body).await.unwrap();
    answer.status == 503
        && answer.body["message"].as_str().is_some_and(|message| message.contains("disk of the database"))
}

/// A node that cannot reach its database while another one revokes: after its bound it says good of nothing.
pub fn cut_off(plan: &Plan) -> Counts {
    use testkit::severed::Cable;
    let cluster = PrivateCluster::start(&[]);
    let site = Site::at(cluster.url());
    block_on(async {
        let mut random = Random::new(plan.seed);
        let mut load = Load::new(&site);
        let server = site.start();
        let api = Api::log_in(&site, &server).await;
        let cable = Cable::to(cluster.address());
        let far_site = site.node_beside();
        let mut command = far_site.serve(&[]);
        command.env("CHANCERY_DATABASE_URL", format!("postgresql://postgres@127.0.0.1:{}/postgres", cable.port()));
        let far_server = far_site.start_as(command);
        let far = Api::log_in_at(&far_server.url, new_client(), &site.facts()).await;
        let authority = site.fact("/issuingCaId");
        let path = list_path(&api, &authority).await;
        while load.counts.faults < plan.faults {
            let issued = api.issue(&site, "cut-off.example.com").await;
            let id = issued["certificateId"].as_str().unwrap();
            let (issuer, serial) = (issuer(&api, &id.replace('-', "")).await, serial_of(&issued));
            // Both nodes know it as good.
            assert_eq!(said(&api, &issuer, &serial, None).await, Said::Good);
            assert_eq!(said(&far, &issuer, &serial, None).await, Said::Good);
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            cable.cut();
            load.counts.faults += 1;
            let cut = Instant::now();
            let reason = serde_json::json!({"revocationReason": "SUPERSEDED"});
            api.post(&format!("/api/v1/cert-manager/certificates/{id}/revoke"), &reason).await.unwrap().ok();
            assert_eq!(said(&api, &issuer, &serial, None).await, Said::Revoked);
            let mut later = 0;
            while cut.elapsed() < BOUND + Duration::from_secs(2) {
                let is_late = cut.elapsed() > BOUND;
                // With a nonce an answer is signed now.
                let nonce = random.next().to_be_bytes();
                for nonce in [None, Some(&nonce[..])] {
                    let said = said(&far, &issuer, &serial, nonce).await;
                    assert!(said != Said::Good || !is_late, "it says good {:?} after it was cut off", cut.elapsed());
                    later += usize::from(said == Said::Later);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(later > 0, "the node that is cut off never said to come later");
            assert!(!issues(&site, &far).await, "a node without a database issued");
            // The list that it has is still given.
            assert!(list_at(&far, &path).await.is_some());
            cable.mend();
            comes_back(&site, &far).await;
            let deadline = Instant::now() + PATIENCE;
            while said(&far, &issuer, &serial, None).await != Said::Revoked {
                assert!(Instant::now() < deadline, "the node does not learn what was revoked");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            load.end(clients).await;
            look(&site, &mut load, &far, plan).await;
        }
        far_server.stop();
        end(&site, server, &api, &mut load).await;
        conclude("node cut off", &site, load)
    })
}

/// The clock of the server's process jumps, back and ahead. What is asked meanwhile is refused or sound, and when the
/// clock is right again it goes on by itself.
pub fn clock_jumps(site: &Site, plan: &Plan, jumps: &[&str]) -> Counts {
    block_on(async {
        let mut random = Random::new(plan.seed);
        let clock = site.path("clock");
        let put = |offset: &str| {
            // Read while it is written it must not be half there.
            let new = site.path("clock.new");
            std::fs::write(&new, format!("{offset}\n")).unwrap();
            std::fs::rename(&new, &clock).unwrap();
        };
        put("+0");
        let mut load = Load::new(site);
        let mut command = site.serve(&[]);
        command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let server = site.start_as(command);
        let api = Api::log_in(site, &server).await;
        while load.counts.faults < plan.faults {
            let clients = load.begin(&api);
            tokio::time::sleep(plan.pause(&mut random)).await;
            let jump = jumps[load.counts.faults % jumps.len()];
            put(jump);
            load.counts.faults += 1;
            let deadline = Instant::now() + PATIENCE + Duration::from_secs(10);
            while issues(site, &api).await {
                assert!(Instant::now() < deadline, "a clock that jumped by {jump} stops nothing");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            put("+0");
            comes_back(site, &api).await;
            load.end(clients).await;
            look(site, &mut load, &api, plan).await;
        }
        end(site, server, &api, &mut load).await;
        conclude("clock jumped", site, load)
    })
}

/// Whether a certificate is issued now. What refuses it must say to come later, or that nobody knows.
async fn issues(site: &Site, api: &Api) -> bool {
    let body = crate::api::issue_body(&site.fact("/profiles/web-server"), "probe.example.com");
    match api.post(crate::api::ISSUE, &body).await {
        Ok(answer) => {
            assert!([200, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.body);
            answer.status == 200
        }
        Err(error) => panic!("{error}"),
    }
}

/// Waits until certificates are issued again, without anybody's help.
async fn comes_back(site: &Site, api: &Api) {
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(10);
    while !issues(site, api).await {
        assert!(Instant::now() < deadline, "it does not come back by itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn list_path(api: &Api, authority: &str) -> String {
    let lists = api.get(&format!("/api/v1/pki/ca/{authority}/crls")).await.unwrap().ok();
    format!("/api/v1/pki/crl/{}/der", lists[0]["id"].as_str().unwrap())
}

fn serial_of(issued: &serde_json::Value) -> String {
    let certificate = x509::Certificate::from_pem(issued["certificate"].as_str().unwrap()).unwrap();
    crate::load::hex(certificate.serial_content())
}
