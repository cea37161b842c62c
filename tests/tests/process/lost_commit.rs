//! A commit whose answer does not come is done or not, and nobody guesses: the mark of an `Idempotency-Key` tells, at
//! once or when the request is repeated, and a request without one is told that it is not known (invariants I1, I3).

use reqwest::Method;
use serde_json::Value;
use testkit::database_proxy::{DatabaseProxy, Loss};
use testkit::postgres::PrivateCluster;

use crate::api::{Answer, Api, ISSUE, issue_body};
use crate::site::{Site, block_on};

/// A server that reaches its database through a network that loses commits.
struct Stage {
    site: Site,
    api: Api,
    proxy: DatabaseProxy,
}

impl Stage {
    async fn ask(&self, name: &str, key: Option<&str>) -> Answer {
        let body = issue_body(&self.site.fact("/profiles/web-server"), name);
        let request = self.api.request(Method::POST, ISSUE).json(&body);
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        Answer::of(request).await.unwrap()
    }

    fn count(&self, name: &str) -> i64 {
        self.site.count(&format!("SELECT COUNT(*) FROM certificates WHERE common_name = '{name}'"))
    }

    /// The serial number in an answer, which is that of the one certificate of this name that there is.
    #[track_caller]
    fn is_the_one(&self, answer: Answer, name: &str) -> Value {
        let body = answer.ok();
        assert_eq!(self.count(name), 1, "{name}");
        let id = body["certificateId"].as_str().unwrap().replace('-', "");
        let sql = format!("SELECT encode(id, 'hex') FROM certificates WHERE common_name = '{name}'");
        assert_eq!(self.site.text(&sql), id);
        body
    }
}

#[test]
fn a_lost_commit_is_found_out_by_its_idempotency_key_and_never_guessed() {
    let cluster = PrivateCluster::start(&[]);
    let proxy = DatabaseProxy::to(cluster.address());
    let through = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port());
    let site = Site::at(cluster.url());
    let mut command = site.serve(&[]);
    command.env("CHANCERY_DATABASE_URL", through);
    let server = site.start_as(command);
    block_on(async {
        let api = Api::log_in(&site, &server).await;
        let stage = Stage { site, api, proxy };
        let mut lost = 0;
        for round in 0..3 {
            let name = |case: &str| format!("{case}-{round}.example.com");
            let mut losing = |case: &str, loss: Loss, closes: bool| {
                lost += 1;
                let name = name(case);
                if closes {
                    stage.proxy.lose_and_close(&name, loss)
                } else {
                    stage.proxy.lose(&name, loss)
                }
                (name, lost)
            };

            // The database can be asked at once what became of it.
            let (done, expected) = losing("done", Loss::Answer, false);
            let first = stage.ask(&done, Some(&done)).await;
            assert_eq!(stage.proxy.lost(), expected);
            let first = stage.is_the_one(first, &done);
            let again = stage.is_the_one(stage.ask(&done, Some(&done)).await, &done);
            assert_eq!(again, first);
            let (undone, expected) = losing("undone", Loss::Commit, false);
            let refused = stage.ask(&undone, Some(&undone)).await.refused(503);
            assert!(refused["message"].as_str().unwrap().contains("was not done"), "{refused}");
            assert_eq!((stage.proxy.lost(), stage.count(&undone)), (expected, 0));
            stage.is_the_one(stage.ask(&undone, Some(&undone)).await, &undone);

            // It cannot: then it is not known, and asking again tells.
            for (case, loss, there) in [("later", Loss::Answer, 1), ("never", Loss::Commit, 0)] {
                let (name, expected) = losing(case, loss, true);
                let refused = stage.ask(&name, Some(&name)).await.refused(504);
                assert!(refused["message"].as_str().unwrap().contains("Idempotency-Key"), "{refused}");
                assert_eq!(stage.proxy.lost(), expected);
                // Nobody may be told meanwhile that it is not there.
                stage.ask(&name, Some(&name)).await.refused(503);
                stage.proxy.open();
                assert_eq!(stage.count(&name), there);
                let answer = loop {
                    let answer = stage.ask(&name, Some(&name)).await;
                    if answer.status != 503 {
                        break answer;
                    }
                };
                stage.is_the_one(answer, &name);
            }

            // Without a key whoever asked has to look.
            for (case, loss, there) in [("blind", Loss::Answer, 1), ("blinder", Loss::Commit, 0)] {
                let (name, _) = losing(case, loss, false);
                let refused = stage.ask(&name, None).await.refused(504);
                assert!(refused["message"].as_str().unwrap().contains("did not say"), "{refused}");
                assert_eq!(stage.count(&name), there);
            }
        }
        assert_eq!(stage.proxy.lost(), lost);
        assert_eq!(stage.api.metric("chancery_panics").await, 0);
        server.stop();
        stage.site.check_clean();
    });
}
