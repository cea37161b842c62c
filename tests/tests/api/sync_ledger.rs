//! What a sync made is never forgotten while it may be there (invariants E5, E6): lies about absence, lost answers and answers
//! that are wrong leave nothing behind, and nothing that is not ours is touched meanwhile.

use crate::issuing::{REQUEST, issue, profile};
use crate::renewal::run_jobs;
use crate::server::{Server, for_each_engine, text};
use serde_json::{Value, json};
use testkit::stand_ins::aws::acm::StoredCertificate;
use testkit::stand_ins::aws::{AwsStandIn, Fault, REGION};

const SYNCS: &str = "/api/v1/pki/syncs";
const ACM: &str = "aws-certificate-manager";

/// One sync with one certificate to Certificate Manager or Secrets Manager.
struct World {
    server: Server,
    aws: AwsStandIn,
    destination: &'static str,
    profile: String,
    sync: String,
    certificate: String,
}

impl World {
    /// With nothing delivered yet.
    async fn new(server: Server, destination: &'static str) -> Self {
        let aws = AwsStandIn::start().await;
        let (id, secret) = aws.access_key();
        let credentials = json!({"accessKeyId": id, "secretAccessKey": secret, "endpointUrl": aws.url()});
        let body = json!({"name": "cloud", "method": "access-key", "credentials": credentials});
        let connection = server.post("/api/v1/app-connections/aws", body).await.ok()["appConnection"]["id"].take();
        let profile = profile(&server, "open", json!({})).await;
        let body = json!({"name": "cloud", "connectionId": connection, "projectId": server.project,
            "destinationConfig": {"region": REGION}});
        let sync = text(&server.post(&format!("{SYNCS}/{destination}"), body).await.ok()["id"]);
        let certificate = issue(&server, &profile, json!({"commonName": "www.example.com"})).await.ok();
        let certificate = text(&certificate["certificateId"]);
        let world = Self { server, aws, destination, profile, sync, certificate };
        // A sync that never ran is run by the daily look, beside what a test does.
        world.run().await;
        world
    }

    async fn link(&self, certificate: &str) {
        let body = json!({"certificateIds": [certificate]});
        self.server.post(&format!("{SYNCS}/{}/certificates", self.sync), body).await.ok();
        run_jobs(&self.server).await;
    }

    async fn unlink(&self) {
        let body = json!({"certificateIds": [self.certificate]});
        self.server.delete_with(&format!("{SYNCS}/{}/certificates", self.sync), body).await.ok();
        run_jobs(&self.server).await;
    }

    async fn run(&self) {
        self.server.post(&format!("{SYNCS}/{}/{}/sync", self.destination, self.sync), json!({})).await.ok();
        run_jobs(&self.server).await;
    }

    /// What the server does by itself at a later time.
    async fn at(&self, seconds: i64) {
        self.server.at(seconds);
        run_jobs(&self.server).await;
    }

    async fn shown(&self) -> Option<Value> {
        let answer = self.server.get(&format!("{SYNCS}/{}/certificates", self.sync)).await.ok();
        answer["certificates"].as_array().unwrap().first().cloned()
    }

    async fn status_and_id(&self) -> (String, Option<String>) {
        let link = self.shown().await.unwrap();
        (text(&link["syncStatus"]), link["externalIdentifier"].as_str().map(str::to_owned))
    }

    fn there(&self) -> Vec<String> {
        self.aws.certificates().into_keys().collect()
    }

    fn lie(&self, operation: &str, times: usize) {
        self.aws.fail(operation, Fault::DeniesExistence, times);
    }

    async fn ledger(&self) -> String {
        let sql = "SELECT state, external_id, absences, look_at, fingerprint, intended FROM sync_objects";
        let rows = self.server.services.db.rows(sql, vec![]).await.unwrap();
        format!("{:?}", rows.into_iter().map(store::Row::into_values).collect::<Vec<_>>())
    }

    async fn rows(&self) -> usize {
        self.server.services.db.rows("SELECT state FROM sync_objects", vec![]).await.unwrap().len()
    }
}

#[test]
fn an_object_that_is_said_to_be_gone_is_looked_for_again_before_another_one_is_made() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.link(&world.certificate).await;
        let first = world.there();
        assert_eq!((first.len(), world.status_and_id().await), (1, ("succeeded".into(), first.first().cloned())));
        // By its identifier and by its mark.
        world.lie("GetCertificate", 2);
        world.run().await;
        let link = world.shown().await.unwrap();
        assert_eq!((world.there(), &link["syncStatus"]), (first.clone(), &json!("pending")), "{link}");
        assert!(text(&link["lastSyncMessage"]).contains("not there"), "{link}");
        // More runs at once count as one; and the preview tells.
        for _ in 0..3 {
            world.lie("GetCertificate", 2);
            world.run().await;
            assert_eq!(world.there(), first);
        }
        world.lie("GetCertificate", 2);
        let preview = world.server.get(&format!("{SYNCS}/{ACM}/{}/preview", world.sync)).await.ok();
        assert!(preview["unchanged"][0]["reason"].is_string() && preview["create"] == json!([]), "{preview}");
        // It is looked for again by the server itself.
        world.at(2).await;
        assert_eq!(world.status_and_id().await, ("succeeded".into(), first.first().cloned()));
        assert_eq!((world.there(), world.rows().await), (first, 1));
    });
}

#[test]
fn an_object_whose_absence_was_a_lie_for_long_goes_after_another_one_took_its_place() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.link(&world.certificate).await;
        let first = world.there();
        world.lie("GetCertificate", 2);
        world.run().await;
        for second in [2, 7] {
            world.lie("GetCertificate", 2);
            world.at(second).await;
        }
        let (status, now) = world.status_and_id().await;
        assert_eq!((status.as_str(), world.there().len()), ("succeeded", 2));
        assert!(now.is_some() && now.as_ref() != first.first());
        world.lie("GetCertificate", 1);
        world.at(12).await;
        assert_eq!(world.there().len(), 2, "the ledger was lied to once more");
        world.at(72).await;
        assert_eq!((Some(world.there()), world.rows().await), (now.map(|now| vec![now]), 2));
        for second in [77, 137, 437] {
            assert_eq!(world.rows().await, 2, "{second}");
            world.at(second).await;
        }
        assert_eq!((world.there().len(), world.rows().await), (1, 1));
        assert_eq!(world.status_and_id().await.0, "succeeded");
    });
}

#[test]
fn an_object_that_was_said_to_be_gone_when_it_was_removed_is_removed_later() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.link(&world.certificate).await;
        world.lie("GetCertificate", 2);
        let revocation = json!({"revocationReason": "SUPERSEDED"});
        world.server.post(&format!("{REQUEST}/{}/revoke", world.certificate), revocation).await.ok();
        run_jobs(&world.server).await;
        assert_eq!((world.shown().await, world.there().len()), (None, 1), "the link does not wait");
        // The removal and the look after it are lied to as well.
        world.lie("GetCertificate", 1);
        world.at(5).await;
        assert_eq!(world.there().len(), 1);
        world.at(65).await;
        assert_eq!((world.there().len(), world.rows().await), (0, 1));
        for second in [70, 130, 430] {
            assert_eq!(world.rows().await, 1);
            world.at(second).await;
        }
        assert_eq!(world.rows().await, 0);
    });
}

#[test]
fn a_creation_of_unknown_outcome_that_is_not_found_leaves_nothing_behind() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.aws.fail("ImportCertificate", Fault::FailsAfter, 1);
        // Without its tags nothing tells that it is ours.
        world.lie("ListTagsForCertificate", 1);
        world.link(&world.certificate).await;
        assert_eq!((world.status_and_id().await.0.as_str(), world.there().len()), ("failed", 1));
        world.at(2).await;
        let (status, now) = world.status_and_id().await;
        assert_eq!((status.as_str(), world.there().len()), ("succeeded", 2));
        world.at(7).await;
        assert_eq!(Some(world.there()), now.map(|now| vec![now]));
        assert_eq!(world.status_and_id().await.0, "succeeded");
    });
}

#[test]
fn an_object_that_was_made_although_its_refusal_was_answered_is_ours() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.aws.fail("ImportCertificate", Fault::RefusesAfter(400, "RequestInProgressException"), 1);
        world.link(&world.certificate).await;
        assert_eq!((world.status_and_id().await.0.as_str(), world.there().len()), ("failed", 1));
        world.run().await;
        assert_eq!(world.status_and_id().await, ("succeeded".into(), world.there().pop()));
        // The same when it is replaced: its content is one of the two that are known.
        world.aws.fail("ImportCertificate", Fault::RefusesAfter(400, "RequestInProgressException"), 1);
        let renewed = world.server.post(&format!("{REQUEST}/{}/renew", world.certificate), json!({})).await.ok();
        run_jobs(&world.server).await;
        world.run().await;
        let link = world.shown().await.unwrap();
        assert_eq!(
            (&link["syncStatus"], &link["certificateId"]),
            (&json!("succeeded"), &renewed["certificateId"]),
            "{link}"
        );
        assert_eq!(world.there().len(), 1);
    });
}

#[test]
fn of_several_objects_with_one_mark_one_stays_and_what_others_changed_is_left() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        let other = issue(&world.server, &world.profile, json!({"commonName": "www.example.com"})).await.ok();
        // The next try is this test's, after the others are there.
        world.server.at(0);
        world.aws.fail("ImportCertificate", Fault::FailsAfter, 1);
        world.link(&world.certificate).await;
        assert_eq!(world.status_and_id().await, ("failed".into(), None));
        let ours = world.aws.certificates().into_values().next().unwrap();
        let (certificate, key) = (text(&other["certificate"]), text(&other["privateKey"]));
        let changed = StoredCertificate { certificate, key, chain: String::new(), ..ours.clone() };
        let mut stranger = ours.clone();
        stranger.tags.insert("chancery-object".into(), "00000000-0000-7000-8000-000000000000".into());
        let left = world.aws.with_certificates(|store| {
            store.seed(ours.clone());
            store.seed(ours);
            [store.seed(changed), store.seed(stranger)]
        });
        world.run().await;
        let (status, id) = world.status_and_id().await;
        let mut kept = vec![id.unwrap()];
        kept.extend(left);
        kept.sort();
        assert_eq!((status.as_str(), world.there()), ("succeeded", kept), "{}", world.ledger().await);
    });
}

#[test]
fn a_name_that_is_free_again_is_used_at_once_and_the_looks_touch_nothing() {
    for_each_engine(|server| async move {
        let world = World::new(server, "aws-secrets-manager").await;
        world.link(&world.certificate).await;
        world.unlink().await;
        assert_eq!((world.shown().await, world.rows().await, world.aws.secrets().len()), (None, 1, 0));
        world.link(&world.certificate).await;
        let there = world.aws.secrets();
        let name = there.keys().next().cloned();
        assert_eq!((there.len(), world.status_and_id().await), (1, ("succeeded".into(), name)));
        for seconds in [5, 65, 365, 1000] {
            world.at(seconds).await;
            assert_eq!(world.aws.secrets(), there);
        }
        assert_eq!(world.rows().await, 1);
    });
}

#[test]
fn an_unchanged_run_asks_for_each_object_once_and_for_nothing_else() {
    for_each_engine(|server| async move {
        let world = World::new(server, ACM).await;
        world.link(&world.certificate).await;
        let asked = || {
            ["GetCertificate", "ListTagsForCertificate", "ListCertificates"].map(|operation| world.aws.count(operation))
        };
        let before = asked();
        world.run().await;
        assert_eq!(asked(), [before[0] + 1, before[1] + 1, before[2]]);
        world.at(1000).await;
        assert_eq!(asked(), [before[0] + 1, before[1] + 1, before[2]]);
    });
}
