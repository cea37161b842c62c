//! A clock that jumped stops issuance and background work, and says so (invariant I13). The server runs in this process,
//! because its clock is put by the test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chancery::server::RunningServer;
use domain::Time;
use serde_json::Value;
use services::Clock;

use crate::api::{Api, ISSUE, issue_body, new_client};
use crate::site::{Site, block_on, on_both_engines};
use crate::tls::config;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

async fn start(site: &Site, clock: &Clock) -> RunningServer {
    chancery::server::start(&config(site), clock.clone()).await.unwrap()
}

async fn log_in(site: &Site, running: &RunningServer) -> Api {
    Api::log_in_at(&running.reachable.url, new_client(), &site.facts()).await
}

fn system() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time::from_seconds(i64::try_from(now.as_secs()).unwrap())
}

/// Whether a certificate is issued; if not, the refusal says why.
async fn issues(site: &Site, api: &Api, words: &str) -> bool {
    let body = issue_body(&site.fact("/profiles/web-server"), "clock.example.com");
    let before = site.count("SELECT COUNT(*) FROM certificates");
    let answer = api.post(ISSUE, &body).await.unwrap();
    if answer.status == 200 {
        return true;
    }
    let refused = answer.refused(503);
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("issuance is stopped") && said.contains(words), "{said}");
    assert_eq!(site.count("SELECT COUNT(*) FROM certificates"), before);
    false
}

#[test]
fn a_clock_behind_the_newest_record_stops_issuance_until_it_is_right_again() {
    on_both_engines(|site| {
        block_on(async {
            let now = system();
            let clock = Clock::manual(now);
            let running = start(site, &clock).await;
            let api = log_in(site, &running).await;
            const BEHIND: &str = "behind the newest record";
            for (seconds, is_issued) in [
                (0, true),
                (10 * MINUTE, true),
                (5 * MINUTE + 1, true),
                (5 * MINUTE - 1, false),
                (-DAY, false),
                (10 * MINUTE, true),
            ] {
                clock.set(now.plus_seconds(seconds));
                assert_eq!(issues(site, &api, BEHIND).await, is_issued, "{seconds} s");
            }
            clock.set(now);
            // What signs nothing goes on.
            api.get("/api/v1/cert-manager/ca").await.unwrap().ok();
            running.stop().await;

            // The next start knows too what was committed.
            let running = start(site, &clock).await;
            let api = log_in(site, &running).await;
            assert!(!issues(site, &api, BEHIND).await);
            clock.set(now.plus_seconds(11 * MINUTE));
            assert!(issues(site, &api, BEHIND).await);
            running.stop().await;
            site.check_clean();
        });
    });
}

#[test]
fn a_clock_that_jumped_ahead_stops_issuance_and_renews_nothing() {
    on_both_engines(|site| {
        // PostgreSQL has a clock of its own to compare with; beside SQLite there is only the steady progress of ours.
        let words = if site.is_sqlite() { "ahead of its own steady progress" } else { "ahead of the database's clock" };
        block_on(async {
            let clock = Clock::system();
            let running = start(site, &clock).await;
            let api = log_in(site, &running).await;
            for (seconds, is_issued) in [(90, true), (2 * HOUR, false), (DAY, false), (90, true)] {
                clock.put_wrong(seconds);
                // It is compared by itself every minute.
                running.services.compare_clocks().await.unwrap();
                assert_eq!(issues(site, &api, words).await, is_issued, "{seconds} s");
            }
            running.stop().await;

            // By that clock the server's certificate and the lists are long due.
            clock.put_wrong(21 * DAY);
            let before = state(site);
            let running = start(site, &clock).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(state(site), before);
            assert!(!issues(site, &log_in(site, &running).await, words).await);
            clock.put_wrong(0);
            running.services.compare_clocks().await.unwrap();
            assert!(issues(site, &log_in(site, &running).await, words).await);
            running.stop().await;
        });
        site.check_clean();
    });
}

/// What background work would change.
fn state(site: &Site) -> Vec<Value> {
    ["SELECT COUNT(*) FROM certificates", "SELECT MAX(number) FROM crls", "SELECT MAX(attempts) FROM jobs"]
        .map(|sql| site.count(sql).into())
        .to_vec()
}
