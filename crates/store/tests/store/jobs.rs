//! The job table: one row for each piece of work, held by one runner at a time, and gone only when it is done.

use crate::settings;
use domain::job::{Job, JobKind, JobRecord, JobStatus, Lane};
use domain::{
    AlertDeliveryId, AuthorityId, AuthorityKeyId, CertificateId, CrlId, JobId, OrganizationId, ProjectId, SyncId, Time,
};
use store::{Changes, Db, Statement, StoreError, job};
use testkit::both_engines;
use uuid::Uuid;

const NOW: Time = Time::from_seconds(1_800_000_000);
const MINUTE: i64 = 60;

fn at(seconds: i64) -> Time {
    NOW.plus_seconds(seconds)
}

async fn run(db: &Db, statement: Statement) -> Result<(), StoreError> {
    db.commit(Changes::new().statement(statement)).await
}

async fn plan(db: &Db, job: &Job, run_at: Time) {
    run(db, job::enqueue(JobId(Uuid::new_v4()), job, run_at, NOW)).await.unwrap();
}

async fn due(db: &Db, now: Time) -> Vec<JobRecord> {
    let mut all = job::due(db, Lane::Lists, now, 10).await.unwrap();
    all.extend(job::due(db, Lane::Renewals, now, 10).await.unwrap());
    all.sort_by_key(|record| record.run_at.map(Time::millis));
    all
}

#[test]
fn work_is_planned_once_and_at_the_earlier_time() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let crl = |number| Job::PublishCrl { crl: CrlId(Uuid::from_u128(number)) };
        plan(&db, &crl(1), at(50)).await;
        plan(&db, &crl(1), at(90)).await;
        plan(&db, &crl(2), at(40)).await;
        plan(&db, &Job::RenewServerCertificate, at(70)).await;
        plan(&db, &Job::RenewServerCertificate, at(60)).await;
        assert!(due(&db, at(39)).await.is_empty());
        let jobs: Vec<(Job, Time)> =
            due(&db, at(100)).await.into_iter().map(|one| (one.job, one.run_at.unwrap())).collect();
        assert_eq!(jobs, [(crl(2), at(40)), (crl(1), at(50)), (Job::RenewServerCertificate, at(60))]);
        assert_eq!(job::counts(&db, at(1)).await.unwrap(), [("queued".to_owned(), 3)]);
        db.close().await;
    });
}

#[test]
fn a_job_is_held_by_one_runner_until_its_lease_ends() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        plan(&db, &Job::RenewServerCertificate, NOW).await;
        let record = due(&db, NOW).await.remove(0);
        run(&db, job::lease(&record, "first", at(2 * MINUTE))).await.unwrap();
        assert!(matches!(run(&db, job::lease(&record, "second", at(3 * MINUTE))).await, Err(StoreError::Stale(_))));
        assert!(due(&db, at(2 * MINUTE - 1)).await.is_empty());
        assert_eq!(job::counts(&db, at(2 * MINUTE - 1)).await.unwrap(), [("running".to_owned(), 1)]);
        assert_eq!(job::counts(&db, at(2 * MINUTE)).await.unwrap(), [("queued".to_owned(), 1)]);

        // The first one died: the second takes it over, and what the first says then counts for nothing.
        let record = due(&db, at(2 * MINUTE)).await.remove(0);
        assert_eq!(record.attempts, 1);
        run(&db, job::lease(&record, "second", at(4 * MINUTE))).await.unwrap();
        db.commit(job::done(&record, "first")).await.unwrap();
        run(&db, job::failed(&record, "first", None, "late", at(3 * MINUTE))).await.unwrap();
        assert_eq!(job::counts(&db, at(3 * MINUTE)).await.unwrap(), [("running".to_owned(), 1)]);
        db.commit(job::done(&record, "second")).await.unwrap();
        assert_eq!(job::counts(&db, at(3 * MINUTE)).await.unwrap(), []);
        db.close().await;
    });
}

#[test]
fn a_node_that_was_killed_gives_back_what_it_held_and_nothing_else() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        plan(&db, &Job::RenewServerCertificate, NOW).await;
        plan(&db, &Job::PublishCrl { crl: CrlId(Uuid::from_u128(1)) }, NOW).await;
        let records = due(&db, NOW).await;
        for (record, node) in records.iter().zip(["killed", "other"]) {
            run(&db, job::lease(record, node, at(2 * MINUTE))).await.unwrap();
        }
        assert!(due(&db, at(1)).await.is_empty());
        run(&db, job::give_back("killed")).await.unwrap();
        assert_eq!(due(&db, at(1)).await.iter().map(|one| one.id).collect::<Vec<_>>(), [records[0].id]);
        db.close().await;
    });
}

#[test]
fn a_lease_that_a_wrong_clock_gave_is_not_waited_for() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        plan(&db, &Job::RenewServerCertificate, NOW).await;
        let record = due(&db, NOW).await.remove(0);
        run(&db, job::lease(&record, "next year's", at(365 * 24 * 60 * MINUTE))).await.unwrap();
        let record = due(&db, at(1)).await.remove(0);
        run(&db, job::lease(&record, "ours", at(2 * MINUTE))).await.unwrap();
        assert!(due(&db, at(2)).await.is_empty());
        db.close().await;
    });
}

#[test]
fn a_job_that_fails_comes_again_until_it_is_parked_and_one_planned_anew_meanwhile_stays() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        plan(&db, &Job::RenewServerCertificate, NOW).await;
        let record = due(&db, NOW).await.remove(0);
        run(&db, job::lease(&record, "node", at(MINUTE))).await.unwrap();
        run(&db, job::failed(&record, "node", Some(at(10)), "no", at(1))).await.unwrap();
        assert!(due(&db, at(9)).await.is_empty());
        let record = due(&db, at(10)).await.remove(0);
        assert_eq!((record.attempts, record.run_at), (1, Some(at(10))));

        // While it runs it is planned for later, as a renewal does: its end leaves the plan.
        run(&db, job::lease(&record, "node", at(MINUTE))).await.unwrap();
        plan(&db, &Job::RenewServerCertificate, at(500)).await;
        db.commit(job::done(&record, "node")).await.unwrap();
        assert!(due(&db, at(499)).await.is_empty());
        let record = due(&db, at(500)).await.remove(0);
        assert_eq!(record.attempts, 0);

        run(&db, job::lease(&record, "node", at(600))).await.unwrap();
        run(&db, job::failed(&record, "node", None, "never", at(501))).await.unwrap();
        assert!(due(&db, at(10_000)).await.is_empty());
        assert_eq!(job::counts(&db, at(502)).await.unwrap(), [("parked".to_owned(), 1)]);
        let parked = job::list(&db, Some(JobStatus::Parked), at(10_000), 0, 1).await.unwrap().0.remove(0);
        assert_eq!(parked.run_at, None, "it has no time");
        // Who plans it again takes it out of the park.
        plan(&db, &Job::RenewServerCertificate, at(700)).await;
        assert_eq!(due(&db, at(700)).await.len(), 1);
        db.close().await;
    });
}

#[test]
fn what_is_planned_anew_while_it_is_done_is_done_again_and_never_beside_it() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let crl = Job::PublishCrl { crl: CrlId(Uuid::from_u128(1)) };
        plan(&db, &crl, NOW).await;
        let record = due(&db, NOW).await.remove(0);
        run(&db, job::lease(&record, "node", at(MINUTE))).await.unwrap();
        // Even for the very same moment.
        plan(&db, &crl, NOW).await;
        assert!(due(&db, at(6)).await.is_empty(), "it is being worked on");
        db.commit(job::done(&record, "node")).await.unwrap();
        let again = due(&db, at(6)).await.remove(0);
        assert_eq!(again.run_at, Some(NOW));
        // A failure does not put off what was planned anew either.
        run(&db, job::lease(&again, "node", at(MINUTE))).await.unwrap();
        plan(&db, &crl, at(8)).await;
        run(&db, job::failed(&again, "node", Some(at(500)), "no", at(7))).await.unwrap();
        assert_eq!(due(&db, at(9)).await.remove(0).run_at, Some(at(8)));
        db.close().await;
    });
}

#[test]
fn what_waits_for_other_systems_is_asked_for_apart() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let id = SyncId(Uuid::from_u128(1));
        let outward = [
            Job::RunSync { sync: id },
            Job::ClearSync { sync: id },
            Job::DeliverCrl { crl: CrlId(Uuid::from_u128(1)) },
        ];
        for job in &outward {
            assert_eq!(job.lane(), Lane::Outward);
            plan(&db, job, NOW).await;
        }
        plan(&db, &Job::RenewServerCertificate, NOW).await;
        let jobs = due(&db, NOW).await;
        assert_eq!(jobs.iter().map(|record| &record.job).collect::<Vec<_>>(), [&Job::RenewServerCertificate]);
        assert_eq!(job::due(&db, Lane::Outward, NOW, 10).await.unwrap().len(), outward.len());
        db.close().await;
    });
}

#[test]
fn every_kind_of_job_is_found_in_its_lane_and_in_no_other() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let id = Uuid::from_u128(1);
        let all = [
            Job::RenewServerCertificate,
            Job::PublishCrl { crl: CrlId(id) },
            Job::RenewResponder { key: AuthorityKeyId(id) },
            Job::DeliverCrl { crl: CrlId(id) },
            Job::RunSync { sync: SyncId(id) },
            Job::ClearSync { sync: SyncId(id) },
            Job::RecheckSync { sync: SyncId(id) },
            Job::ProveSync { sync: SyncId(id) },
            Job::RenewCertificate { organization: OrganizationId(id), certificate: CertificateId(id) },
            Job::RenewAuthority { organization: OrganizationId(id), authority: AuthorityId(id) },
            Job::RunAlerts { project: ProjectId(id) },
            Job::DeliverAlert { delivery: AlertDeliveryId(id) },
        ];
        assert_eq!(all.each_ref().map(Job::kind), JobKind::ALL);
        for job in &all {
            plan(&db, job, NOW).await;
        }
        let mut found = 0;
        for lane in [Lane::Lists, Lane::Renewals, Lane::Outward, Lane::Proofs, Lane::Alerts] {
            let jobs = job::due(&db, lane, NOW, 100).await.unwrap();
            assert!(jobs.iter().all(|record| record.job.lane() == lane), "{lane:?}");
            found += jobs.len();
        }
        assert_eq!(found, all.len());
        db.close().await;
    });
}

#[test]
fn a_lease_that_has_run_out_is_not_put_off_by_what_is_planned_anew() {
    both_engines(async |engine| {
        let db = Db::open(&settings(&engine)).await.unwrap();
        let crl = Job::PublishCrl { crl: CrlId(Uuid::from_u128(1)) };
        plan(&db, &crl, NOW).await;
        let record = due(&db, NOW).await.remove(0);
        run(&db, job::lease(&record, "dead", at(20))).await.unwrap();
        // The node died; revocations go on, each planning the list for a moment later.
        for second in 0..40 {
            let statement = job::enqueue(JobId(Uuid::new_v4()), &crl, at(second + 1), at(second));
            run(&db, statement).await.unwrap();
        }
        assert_eq!(due(&db, at(39)).await.len(), 1);
        db.close().await;
    });
}
