//! Whether the credentials of a connection are believed, and roles.
//!
//! The server's own identity is its environment, which a test cannot change for itself alone: what is done with a role runs
//! in a process of its own, this test binary again.

use crate::delivery::{access_key, believed, http};
use domain::connection::Credentials;
use outbound::connection::aws::check;
use std::process::Command;
use testkit::moto::Moto;
use testkit::stand_ins::aws::AwsStandIn;

const ROLE: &str = "arn:aws:iam::123456789012:role/chancery";
/// Where the process of its own finds AWS, and what it expects.
const ENDPOINT: &str = "CHANCERY_TEST_AWS_ENDPOINT";
const EXPECTED: &str = "CHANCERY_TEST_AWS_EXPECTED";

fn role(endpoint: &str) -> Credentials {
    Credentials::AwsAssumeRole { role_arn: ROLE.into(), endpoint_url: Some(endpoint.into()) }
}

#[tokio::test]
async fn the_owner_of_an_access_key_is_named() {
    let aws = AwsStandIn::start().await;
    let arn = check(&http(), &believed(&aws)).await.unwrap();
    assert_eq!(arn, "arn:aws:iam::123456789012:user/owner");
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_key_and_a_host_that_is_not_there_say_what_is_wrong() {
    let aws = AwsStandIn::start().await;
    let (id, secret) = aws.access_key();
    for (credentials, word) in [
        (access_key(&id, "another secret", aws.url()), "SignatureDoesNotMatch"),
        (access_key("AKIAUNKNOWN", &secret, aws.url()), "InvalidClientTokenId"),
        (access_key(&id, &secret, "http://127.0.0.1:1"), "cannot be reached"),
        (access_key(&id, &secret, "http://10.0.0.1"), "CHANCERY_EGRESS_ALLOW"),
    ] {
        let error = check(&http(), &credentials).await.unwrap_err();
        assert!(error.is_of_connection() && error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn moto_names_the_owner_of_a_key() {
    let moto = Moto::start();
    let arn = check(&http(), &access_key("test", "test", &moto.url())).await.unwrap();
    assert!(arn.starts_with("arn:aws:"), "{arn}");
}

#[tokio::test]
async fn a_role_is_taken_with_the_identity_of_the_server() {
    let aws = AwsStandIn::start().await;
    aws.add_role(ROLE);
    let (id, secret) = aws.access_key();
    let expected = "arn:aws:sts::123456789012:assumed-role/chancery/chancery";
    in_a_process_of_its_own(&id, &secret, aws.url(), expected).await;
    assert_eq!((aws.count("AssumeRole"), aws.count("GetCallerIdentity")), (1, 1));
}

#[tokio::test]
async fn a_role_that_may_not_be_taken_and_an_identity_that_is_not_believed_say_so() {
    let aws = AwsStandIn::start().await;
    let (id, secret) = aws.access_key();
    in_a_process_of_its_own(&id, &secret, aws.url(), "AccessDenied").await;
    in_a_process_of_its_own(&id, "another secret", aws.url(), "SignatureDoesNotMatch").await;
    in_a_process_of_its_own("", "", aws.url(), "AWS_ACCESS_KEY_ID is not set").await;
}

#[tokio::test]
async fn moto_lends_a_key_for_a_role() {
    let moto = Moto::start();
    in_a_process_of_its_own("test", "test", &moto.url(), "assumed-role/chancery/chancery").await;
}

async fn in_a_process_of_its_own(id: &str, secret: &str, endpoint: &str, expected: &str) {
    let mut command = Command::new(std::env::current_exe().expect("the test has a program"));
    command
        .args(["--exact", "connection::what_a_process_with_an_identity_does", "--ignored", "--nocapture"])
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env_remove("AWS_SESSION_TOKEN")
        .env(ENDPOINT, endpoint)
        .env(EXPECTED, expected);
    // The stand-in runs on this thread, so it must not be held.
    let running = tokio::task::spawn_blocking(move || command.output().expect("the test can be started again"));
    let output = running.await.expect("nothing stops it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "it is a part of the tests above, which start it with an environment"]
async fn what_a_process_with_an_identity_does() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let said = match check(&http(), &role(&variable(ENDPOINT))).await {
        Ok(arn) => arn,
        Err(error) => {
            assert!(error.is_of_connection(), "{error}");
            error.to_string()
        }
    };
    assert!(said.contains(&variable(EXPECTED)), "{said}");
}
