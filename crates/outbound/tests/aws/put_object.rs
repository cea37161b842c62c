//! Uploads to S3.

use crate::delivery::{access_key, believed, http};
use domain::connection::Credentials;
use outbound::DeliveryError;
use outbound::aws::{Upload, put_object};
use testkit::moto::Moto;
use testkit::stand_ins::aws::{AwsStandIn, Fault, REGION};

fn upload<'a>(key: &'a str, body: &'a [u8]) -> Upload<'a> {
    Upload { bucket: "lists", key, region: REGION, endpoint: None, content_type: "application/pkix-crl", body }
}

#[tokio::test]
async fn an_object_is_put_where_its_key_says_with_its_type() {
    let aws = AwsStandIn::start().await;
    let body: Vec<u8> = (0..=255).collect();
    put_object(&http(), &believed(&aws), upload("ca/list 1+ü.crl", &body)).await.unwrap();
    put_object(&http(), &believed(&aws), upload("ca/list 1+ü.crl", b"second")).await.unwrap();
    put_object(&http(), &believed(&aws), upload("empty", b"")).await.unwrap();
    let objects = aws.objects();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["lists/ca/list%201%2B%C3%BC.crl", "lists/empty"]);
    let object = &objects["lists/ca/list%201%2B%C3%BC.crl"];
    assert_eq!((&*object.content_type, &*object.body), ("application/pkix-crl", &b"second"[..]));
}

#[tokio::test]
async fn an_endpoint_of_the_upload_comes_before_that_of_the_credentials() {
    let (aws, elsewhere) = (AwsStandIn::start().await, AwsStandIn::start().await);
    let (id, secret) = aws.access_key();
    let credentials = access_key(&id, &secret, elsewhere.url());
    let upload = Upload { endpoint: Some(aws.url()), ..upload("x", b"x") };
    put_object(&http(), &credentials, upload).await.unwrap();
    assert_eq!((aws.objects().len(), elsewhere.objects().len()), (1, 0));
}

#[tokio::test]
async fn a_wrong_secret_or_an_unknown_key_puts_nothing_and_is_trouble_with_the_connection() {
    let aws = AwsStandIn::start().await;
    let (id, secret) = aws.access_key();
    for (credentials, code) in [
        (access_key(&id, "another secret", aws.url()), "SignatureDoesNotMatch"),
        (access_key("AKIAUNKNOWN", &secret, aws.url()), "InvalidAccessKeyId"),
    ] {
        let error = put_object(&http(), &credentials, upload("x", b"x")).await.unwrap_err();
        assert!(error.is_of_connection() && error.to_string().contains(code), "{error}");
        assert!(!error.to_string().contains("Canonical"), "{error}");
    }
    assert!(aws.objects().is_empty());
}

#[tokio::test]
async fn an_upload_that_fails_says_whether_it_was_done() {
    let aws = AwsStandIn::start().await;
    let put = async || put_object(&http(), &believed(&aws), upload("x", b"x")).await.unwrap_err();
    aws.fail("PutObject", Fault::FailsAfter, 1);
    assert!(matches!(put().await, DeliveryError::Unknown(_)));
    aws.fail("PutObject", Fault::Refuses(404, "NoSuchBucket"), 1);
    let error = put().await;
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("NoSuchBucket")), "{error}");
    aws.fail("PutObject", Fault::Refuses(403, "AccessDenied"), 1);
    assert!(put().await.is_of_connection());
}

#[tokio::test]
async fn an_upload_that_is_throttled_is_sent_again() {
    let aws = AwsStandIn::start().await;
    aws.fail("PutObject", Fault::Refuses(503, "SlowDown"), 1);
    put_object(&http(), &believed(&aws), upload("x", b"x")).await.unwrap();
    assert_eq!(aws.count("PutObject"), 2);
}

#[tokio::test]
async fn credentials_of_another_system_are_refused() {
    let credentials = Credentials::VaultAccessToken {
        instance_url: "http://127.0.0.1:1".into(),
        namespace: None,
        access_token: domain::secret::SecretText::new("x"),
    };
    let error = put_object(&http(), &credentials, upload("x", b"x")).await.unwrap_err();
    assert!(error.to_string().contains("hashicorp-vault"), "{error}");
}

#[tokio::test]
async fn moto_takes_an_object_and_gives_it_back() {
    let moto = Moto::start();
    let http = http();
    let credentials = access_key("test", "test", &moto.url());
    let error = put_object(&http, &credentials, upload("ca/list 1.crl", b"list")).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Refused(text) if text.contains("NoSuchBucket")), "{error}");
    let request = |method: &str, path: &str| {
        let url = format!("{}{path}", moto.url());
        let request = outbound::http::Request::new(method.parse().unwrap(), &url).unwrap();
        // moto wants a key to be named, and checks no signature.
        let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request";
        request.header("authorization", &format!("{scope}, SignedHeaders=host, Signature=0")).unwrap()
    };
    let answer = http.send(request("PUT", "/lists")).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.excerpt());
    put_object(&http, &credentials, upload("ca/list 1.crl", b"list")).await.unwrap();
    let answer = http.send(request("GET", "/lists/ca/list%201.crl")).await.unwrap();
    assert_eq!(answer.body, b"list", "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/pkix-crl");
}
