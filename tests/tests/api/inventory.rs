//! Searches of the inventory and its numbers: what a filter finds is held against looking at every certificate, small
//! inventories against large ones, counts against counting.

use crate::authorities::{UNKNOWN, first_root};
use crate::issuing::{REQUEST, issue, merge, open_policy, policy, profile, profile_with, wanted};
use crate::server::{Server, for_each_engine, text};
use domain::ProfileId;
use domain::identity::MetadataEntry;
use domain::inventory::ShownStatus;
use serde_json::{Value, json};
use store::certificate::{CertificateFilter, Listing, Part, Period, Scale, SortBy, SortOrder, Total};
use store::{Changes, Statement};

const DAY: i64 = 86_400;

/// A generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Forty certificates that differ in all that can be searched, some revoked and some past their end.
async fn furnish(server: &Server) -> [String; 3] {
    let policy = policy(server, open_policy("varied")).await;
    let root = first_root(server).await;
    let profiles = [
        profile_with(server, "at-issuing", Some(&server.issuing_ca), &policy, json!({})).await,
        profile_with(server, "at-root", Some(&root), &policy, json!({})).await,
        profile_with(server, "alone", None, &policy, json!({})).await,
    ];
    let mut numbers = Numbers(7);
    for number in 0..40 {
        server.at(number * 40);
        let profile = &profiles[numbers.below(3)];
        let name =
            ["api.Example.com", "db-1.eu.example.com", "Meter 7", "10.1.2.3", "user@mail.example", "x_y%z.example"];
        let name = name[numbers.below(name.len())];
        let sans = [
            json!([]),
            json!([{"type": "dns_name", "value": "shop.example.net"}, {"type": "ip_address", "value": "192.0.2.7"}]),
            json!([{"type": "email", "value": "first.last@mail.example"}]),
            json!([{"type": "uri", "value": "https://api.example.org/a"}, {"type": "dns_name", "value": "API.two.example"}]),
        ];
        let keys = [("EC_prime256v1", "ECDSA-SHA256"), ("EC_secp384r1", "ECDSA-SHA384")];
        let (key, signature) = keys[if profile == &profiles[0] { 0 } else { numbers.below(2) }];
        let usages = [json!(["server_auth"]), json!(["client_auth"]), json!(["server_auth", "client_auth"])];
        let ttl = ["10m", "1d", "3d"][numbers.below(3)];
        let mut attributes = wanted(
            profile,
            json!({"commonName": name, "altNames": sans[numbers.below(4)], "keyAlgorithm": key, "ttl": ttl,
                "signatureAlgorithm": signature, "extendedKeyUsages": usages[numbers.below(3)]}),
        );
        merge(&mut attributes, json!({"profileId": null}));
        if profile != &profiles[2] {
            attributes["signatureAlgorithm"] = json!("ECDSA-SHA256");
        }
        let team = ["a", "a%"][numbers.below(2)];
        let metadata = json!([{"key": "n", "value": number.to_string()}, {"key": "team", "value": team}]);
        let body = json!({"profileId": profile, "attributes": attributes, "metadata": metadata});
        let issued = server.post(REQUEST, body.clone()).await;
        assert_eq!(issued.status, 200, "{body} {}", issued.body);
        if numbers.below(5) == 0 && profile != &profiles[2] {
            let place = format!("{REQUEST}/{}/revoke", text(&issued.body["certificateRequestId"]));
            server.post(&place, json!({"revocationReason": "SUPERSEDED"})).await.ok();
        }
    }
    profiles
}

/// Everything in a list, page by page.
async fn all(server: &Server, asked: &Value, limit: usize) -> (Vec<Value>, Value) {
    let search = format!("/api/v1/projects/{}/certificates/search", server.project);
    let mut found = Vec::new();
    loop {
        let mut body = asked.clone();
        merge(&mut body, json!({"offset": found.len(), "limit": limit}));
        let mut answer = server.post(&search, body).await.ok();
        let page = answer["certificates"].as_array().unwrap().clone();
        found.extend(page.iter().cloned());
        if page.len() < limit {
            return (found, answer["totalCount"].take());
        }
    }
}

/// Whether a name, or a label of a host's name behind the first, begins like a text.
fn begins(name: &str, text: &str) -> bool {
    let (name, text) = (name.to_lowercase(), text.to_lowercase());
    let is_address = name.chars().all(|one| one.is_ascii_digit() || one == '.');
    let host = match name.split_once('@') {
        Some((_, host)) => format!(".{host}"),
        None if is_address || name.contains('/') || name.contains(' ') => String::new(),
        None => name.find('.').map_or(String::new(), |at| name[at..].to_owned()),
    };
    name.starts_with(&text) || host.contains(&format!(".{text}"))
}

fn names(record: &Value) -> Vec<String> {
    let alternative = record["altNames"].as_str().unwrap_or_default();
    let all = std::iter::once(text(&record["commonName"])).chain(alternative.split(", ").map(str::to_owned));
    all.filter(|name| !name.is_empty()).collect()
}

fn has(record: &Value, at: &str, value: &str) -> bool {
    record[at].as_array().is_some_and(|list| list.iter().any(|one| one == value))
}

type Holds = Box<dyn Fn(&Value) -> bool>;

/// Filters, and what holds of a record that they let through.
fn filters(server: &Server, profiles: &[String; 3], root: &str, serial: &str) -> Vec<(Value, Holds)> {
    let mut filters: Vec<(Value, Holds)> = vec![(json!({}), Box::new(|_| true))];
    let prefix = serial[..3].to_owned();
    let texts = [
        "api",
        "API.ex",
        "example",
        "eu.ex",
        "two",
        "com",
        "meter",
        "7",
        "first",
        "mail",
        "10.1",
        "1.2",
        "https:",
        "x_y%",
        "_",
        "ample",
        "",
        "shop.example.net",
        "user@",
        &prefix,
        "last",
    ];
    for one in texts.map(str::to_owned) {
        let (searched, named) = (one.clone(), one.clone());
        let by_serial = move |record: &Value| {
            let serial = text(&record["serialNumber"]);
            !searched.is_empty() && serial.starts_with(&searched.to_lowercase())
        };
        let asked = one.clone();
        filters.push((
            json!({"search": one}),
            Box::new(move |record| {
                names(record).iter().any(|name| begins(name, &asked)) || by_serial(record) || asked.is_empty()
            }),
        ));
        let by_name = named.clone();
        filters.push((
            json!({"commonName": named}),
            Box::new(move |record| begins(&text(&record["commonName"]), &by_name)),
        ));
    }
    for status in ["active", "expired", "revoked"] {
        filters.push((json!({"status": status}), Box::new(move |record| record["status"] == status)));
        let profile = profiles[0].clone();
        filters.push((
            json!({"status": status, "search": "example", "profileIds": [profile]}),
            Box::new(move |record| {
                record["status"] == status
                    && record["profileId"] == json!(profile)
                    && names(record).iter().any(|name| begins(name, "example"))
            }),
        ));
    }
    let [first, second, third] = profiles.clone();
    let (root, issuing) = (root.to_owned(), server.issuing_ca.clone());
    let (from, to) = (server.time(300), server.time(900));
    let (end_from, end_to) = (server.time(1_000), server.time(DAY + 800));
    let (both_from, both_to) = (from.clone(), to.clone());
    let more: Vec<(Value, Holds)> = vec![
        (json!({"profileIds": [second, third]}), {
            let ids = [json!(second), json!(third)];
            Box::new(move |record| ids.contains(&record["profileId"]))
        }),
        (json!({"caIds": [root]}), Box::new(move |record| record["caId"] == json!(root))),
        (
            json!({"caIds": [issuing], "keySizes": [384]}),
            Box::new(move |record| record["caId"] == json!(issuing) && record["keyAlgorithm"] == "EC_secp384r1"),
        ),
        (
            json!({"profileIds": [first], "friendlyName": "api"}),
            Box::new(move |record| record["profileId"] == json!(first) && begins(&text(&record["commonName"]), "api")),
        ),
        (json!({"keyAlgorithm": "EC_secp384r1"}), Box::new(|record| record["keyAlgorithm"] == "EC_secp384r1")),
        (json!({"keySizes": [256]}), Box::new(|record| record["keyAlgorithm"] == "EC_prime256v1")),
        (
            json!({"signatureAlgorithm": "ECDSA-SHA384"}),
            Box::new(|record| record["signatureAlgorithm"] == "ECDSA-SHA384"),
        ),
        (json!({"extendedKeyUsage": "client_auth"}), Box::new(|record| has(record, "extendedKeyUsages", "clientAuth"))),
        (json!({"enrollmentTypes": ["api"]}), Box::new(|_| true)),
        (json!({"enrollmentTypes": ["est"]}), Box::new(|_| false)),
        (json!({"source": "issued"}), Box::new(|_| true)),
        (json!({"source": "imported"}), Box::new(|_| false)),
        (
            json!({"fromDate": from, "toDate": to}),
            Box::new(move |record| (from.clone()..=to.clone()).contains(&text(&record["createdAt"]))),
        ),
        (
            json!({"notBeforeFrom": both_from, "notBeforeTo": both_to, "status": "active"}),
            Box::new(move |record| {
                (both_from.clone()..=both_to.clone()).contains(&text(&record["notBefore"]))
                    && record["status"] == "active"
            }),
        ),
        (
            json!({"notAfterFrom": end_from, "notAfterTo": end_to}),
            Box::new(move |record| (end_from.clone()..=end_to.clone()).contains(&text(&record["notAfter"]))),
        ),
    ];
    filters.extend(more);
    filters
}

#[test]
fn a_filter_finds_what_looking_at_every_certificate_finds() {
    for_each_engine(|server| async move {
        let profiles = furnish(&server).await;
        server.at(1_700);
        let root = first_root(&server).await;
        let (every, total) = all(&server, &json!({"sortOrder": "asc"}), 100).await;
        assert_eq!((every.len(), &total), (40, &json!(40)));
        let serial = text(&every[17]["serialNumber"]);
        let mut some = 0;
        for (asked, holds) in filters(&server, &profiles, &root, &serial) {
            let expected: Vec<&Value> = every.iter().filter(|record| holds(record)).collect();
            some += usize::from(!expected.is_empty() && expected.len() < every.len());
            for (sort, key) in [
                ("createdAt", "createdAt"),
                ("notBefore", "notBefore"),
                ("notAfter", "notAfter"),
                ("commonName", "commonName"),
            ] {
                let mut rising: Vec<&Value> = expected.clone();
                rising.sort_by_key(|record| text(&record[key]).to_ascii_lowercase());
                for order in ["asc", "desc"] {
                    let mut body = asked.clone();
                    merge(&mut body, json!({"sortBy": sort, "sortOrder": order}));
                    let (found, total) = all(&server, &body, 7).await;
                    let mut ids: Vec<&Value> = rising.iter().map(|record| &record["id"]).collect();
                    if order == "desc" {
                        ids.reverse();
                    }
                    assert_eq!(found.iter().map(|record| &record["id"]).collect::<Vec<_>>(), ids, "{body}");
                    assert_eq!(total, json!(ids.len()), "{body}");
                }
            }
        }
        assert!(some > 40, "{some} filters tell certificates apart");
        for number in ["0", "17", "39"] {
            let asked = json!({"metadata": [{"key": "n", "value": number}]});
            assert_eq!(all(&server, &asked, 10).await.1, json!(1), "{asked}");
        }
    });
}

/// The ids of a list, found in the way that a scale has, in pages of 9, and how many it says there are.
async fn found(
    server: &Server,
    filter: &CertificateFilter,
    sorted: (SortBy, SortOrder),
    scale: Scale,
) -> (Vec<domain::CertificateId>, Option<Total>) {
    let db = &server.services.db;
    let now = server.services.now();
    let Some(list) = Listing::open(db, server.project, filter, now, sorted, scale).await.unwrap() else {
        return (Vec::new(), None);
    };
    let mut ids = Vec::new();
    let mut part = Part::Behind(0);
    loop {
        let page = list.page(part, 9).await.unwrap();
        ids.extend(page.rows.iter().map(|row| row.issued.id));
        // The page by its offset is the page behind the one before.
        if ids.len() == 18 {
            let by_offset = list.page(Part::Behind(9), 9).await.unwrap();
            let ids_by_offset: Vec<_> = by_offset.rows.iter().map(|row| row.issued.id).collect();
            assert_eq!(ids_by_offset, ids[9..], "{filter:?} {sorted:?}");
        }
        match page.end {
            Some(end) if page.rows.len() == 9 => part = Part::After(end),
            _ => return (ids, Some(list.total().await.unwrap())),
        }
    }
}

#[test]
fn a_list_of_many_is_found_along_its_order_as_one_of_few_is_found_whole() {
    for_each_engine(|server| async move {
        let profiles = furnish(&server).await;
        server.at(1_700);

        let base = server.services.now();
        let time = |seconds: i64| base.plus_seconds(seconds - 1_700);
        let profile = |at: usize| ProfileId::parse(&profiles[at]).unwrap();
        let none = CertificateFilter::default;
        let mut filters = vec![
            none(),
            CertificateFilter { search: "example".into(), ..none() },
            CertificateFilter { search: "api".into(), status: Some(ShownStatus::Active), ..none() },
            CertificateFilter { common_name: "db-1".into(), ..none() },
            CertificateFilter { profiles: vec![profile(0)], ..none() },
            CertificateFilter { profiles: vec![profile(1), profile(2)], ..none() },
            CertificateFilter { profiles: vec![profile(0)], status: Some(ShownStatus::Expired), ..none() },
            CertificateFilter { created_at: Period::new(Some(time(200)), Some(time(900))), ..none() },
            CertificateFilter { not_after: Period::new(Some(time(1_000)), Some(time(DAY + 900))), ..none() },
            CertificateFilter { not_before: Period::new(None, Some(time(500))), ..none() },
            CertificateFilter { metadata: vec![MetadataEntry { key: "team".into(), value: "a".into() }], ..none() },
        ];
        for status in [ShownStatus::Active, ShownStatus::Expired, ShownStatus::Revoked] {
            filters.push(CertificateFilter { status: Some(status), ..none() });
        }
        for filter in filters {
            for by in [SortBy::CreatedAt, SortBy::NotBefore, SortBy::NotAfter, SortBy::CommonName] {
                for order in [SortOrder::Ascending, SortOrder::Descending] {
                    let many = Scale { few: -1, piece: 4, ..Scale::default() };
                    let (along, total) = found(&server, &filter, (by, order), many).await;
                    let (whole, whole_total) = found(&server, &filter, (by, order), Scale::default()).await;
                    assert!(!whole.is_empty(), "{filter:?}");
                    assert_eq!(along, whole, "{filter:?} {by:?} {order:?}");
                    assert_eq!((total, whole_total), (Some(Total::Exact(whole.len() as i64)), total), "{filter:?}");
                }
            }
        }
        let estimating = Scale { few: -1, counted: -1, ..Scale::default() };
        let searched = CertificateFilter { search: "example".into(), ..none() };
        let sorted = (SortBy::CreatedAt, SortOrder::Descending);
        assert!(matches!(found(&server, &searched, sorted, estimating).await.1, Some(Total::Estimated(_))));
        // What is the same of all certificates of a group is counted at any size.
        let counted = CertificateFilter { profiles: vec![profile(0)], status: Some(ShownStatus::Active), ..none() };
        assert!(matches!(found(&server, &counted, sorted, estimating).await.1, Some(Total::Exact(_))));
    });
}

/// Copies of one certificate, which are counted as the server would.
async fn fill(server: &Server, id: &str, copies: i64) {
    let blob = if server.services.db.engine_name() == "sqlite" { "BLOB" } else { "BYTEA" };
    let of = uuid::Uuid::parse_str(id).unwrap();
    let insert = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {copies})
         INSERT INTO certificates (id, project_id, profile_id, profile_version, policy_version, authority_id,
         authority_key_id, authority_certificate_id, issuer_name_id, serial, shard, status, common_name, alt_names,
         not_before, not_after, is_listed, details, created_at, der, space, group_id, domain_id)
         SELECT CAST(CAST(1000000000000000 + n.n AS TEXT) AS {blob}), c.project_id, c.profile_id, c.profile_version,
         c.policy_version, c.authority_id, c.authority_key_id, c.authority_certificate_id, c.issuer_name_id,
         CAST(CAST(1000000000000000 + n.n AS TEXT) AS {blob}), c.shard, c.status, c.common_name, c.alt_names,
         c.not_before, c.not_after, c.is_listed, c.details, c.created_at, c.der, c.space, c.group_id, c.domain_id
         FROM n CROSS JOIN certificates c WHERE c.id = $1"
    );
    let count = format!(
        "UPDATE certificate_counts SET certificates = certificates + {copies} WHERE status = 0 AND certificates > 0
         AND group_id = (SELECT group_id FROM certificates WHERE id = $1)"
    );
    let changes = Changes::new()
        .statement(Statement::new(insert.leak(), vec![of.into()]))
        .statement(Statement::new(count.leak(), vec![of.into()]).expect_one("one day"));
    server.services.db.commit(changes).await.unwrap();
}

#[test]
fn a_total_beyond_ten_thousand_is_an_estimate_and_says_so() {
    const COPIES: i64 = 12_000;
    const HEADER: &str = "x-total-count-estimated";
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let rare = issue(&server, &open, json!({"commonName": "rare.example.org"})).await.ok();
        let id = text(&issue(&server, &open, json!({"commonName": "many.example.com"})).await.ok()["certificateId"]);
        fill(&server, &id, COPIES).await;
        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        for (asked, exact) in [
            (json!({}), Some(COPIES + 2)),
            (json!({"status": "active"}), Some(COPIES + 2)),
            (json!({"status": "expired"}), Some(0)),
            (json!({"profileIds": [open]}), Some(COPIES + 2)),
            (json!({"search": "rare"}), Some(1)),
            (json!({"search": "org"}), Some(1)),
            (json!({"metadata": [{"key": "a", "value": "b"}]}), Some(0)),
            (json!({"search": "many"}), None),
            (json!({"search": "com", "status": "active"}), None),
        ] {
            let answer = server.post(&search, asked.clone()).await;
            let (is_marked, total) =
                (answer.headers.get(HEADER).is_some(), answer.body["totalCount"].as_i64().unwrap());
            assert_eq!(is_marked, exact.is_none(), "{asked} {total}");
            match exact {
                Some(exact) => assert_eq!(total, exact, "{asked}"),
                // Nearly all are of this kind.
                None => assert!((10_001..=12_500).contains(&total), "{asked} {total}"),
            }
        }
        let found = server.post(&search, json!({"search": "org"})).await.ok();
        assert_eq!(found["certificates"][0]["id"], rare["certificateId"]);
        // The last page of all.
        let last = server.post(&search, json!({"offset": COPIES, "limit": 100})).await.ok();
        assert_eq!(last["certificates"].as_array().unwrap().len(), 2);
        let report = server.services.fsck(|_| ()).await.unwrap();
        assert!(
            report.findings.iter().all(|one| !one.subject.contains("count of certificates")),
            "{:?}",
            report.findings
        );
    });
}

#[test]
fn pages_follow_each_other_while_certificates_are_added_and_removed() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        let mut before = Vec::new();
        for at in 0..12 {
            let name = json!({"commonName": format!("host-{at:02}.example.com")});
            before.push(text(&issue(&server, &open, name).await.ok()["certificateId"]));
        }
        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        for asked in
            [json!({}), json!({"search": "host"}), json!({"sortBy": "commonName"}), json!({"sortBy": "notAfter"})]
        {
            let mut seen = Vec::new();
            for page in 0..4 {
                let mut body = asked.clone();
                merge(&mut body, json!({"limit": 3, "offset": page * 3}));
                let answer = server.post(&search, body).await.ok();
                seen.extend(answer["certificates"].as_array().unwrap().iter().map(|record| text(&record["id"])));
                // What is added comes before all of them in each of these orders.
                let name = json!({"commonName": "host-99.example.com", "ttl": "2d"});
                let added = text(&issue(&server, &open, name).await.ok()["certificateId"]);
                if page == 2 {
                    server.delete(&format!("{REQUEST}/{}", added)).await.ok();
                }
            }
            let ours: Vec<&String> = seen.iter().filter(|id| before.contains(id)).collect();
            let mut distinct = seen.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!((seen.len(), distinct.len()), (12, 12), "{asked}");
            // After the first walk there are newer ones, which come first.
            let wanted: Vec<&String> = before.iter().rev().take(ours.len()).collect();
            assert_eq!(ours, wanted, "{asked}");
        }
    });
}

async fn counts(server: &Server) -> Value {
    server.get(&format!("/api/v1/projects/{}/certificates/counts", server.project)).await.ok()
}

#[track_caller]
fn check_counts(counts: &Value, every: &[Value]) {
    let count = |status: &str, of: &dyn Fn(&Value) -> bool| {
        every.iter().filter(|record| (status == "total" || record["status"] == status) && of(record)).count()
    };
    for status in ["active", "expired", "revoked", "total"] {
        assert_eq!(counts[status], json!(count(status, &|_| true)), "{status} {counts}");
        for (list, id, record_id) in [("byCa", "caId", "caId"), ("byProfile", "profileId", "profileId")] {
            for row in counts[list].as_array().unwrap() {
                let expected = count(status, &|record| record[record_id] == row[id]);
                assert_eq!(row[status], json!(expected), "{status} {row}");
            }
        }
    }
}

#[test]
fn counts_are_exact_whatever_happens_to_certificates() {
    for_each_engine(|server| async move {
        let root = first_root(&server).await;
        let policy = policy(&server, open_policy("walk")).await;
        let profiles = [
            profile_with(&server, "one", Some(&server.issuing_ca), &policy, json!({"apiConfig": {}})).await,
            profile_with(&server, "two", Some(&root), &policy, json!({"apiConfig": {}})).await,
        ];
        let mut numbers = Numbers(11);
        let mut now = 0;
        let mut ids: Vec<String> = Vec::new();
        for step in 0..120 {
            let at = numbers.below(ids.len().max(1));
            let place = ids.get(at).map(|id| format!("{REQUEST}/{id}")).unwrap_or_default();
            let revoke =
                async |reason: &str| server.post(&format!("{place}/revoke"), json!({"revocationReason": reason})).await;
            match numbers.below(if ids.is_empty() { 3 } else { 9 }) {
                0..=2 => {
                    let ttl = ["5m", "1d", "40d"][numbers.below(3)];
                    let changes = json!({"commonName": format!("host-{step}.example.com"), "ttl": ttl});
                    let issued = issue(&server, &profiles[numbers.below(2)], changes).await.ok();
                    ids.push(text(&issued["certificateId"]));
                }
                // Whether each is possible depends on what became of the certificate before.
                3 => drop(revoke("SUPERSEDED").await),
                4 => drop(revoke("CERTIFICATE_HOLD").await),
                5 => drop(server.post(&format!("{place}/release"), json!({})).await),
                6 => {
                    let renewed = server.post(&format!("{place}/renew"), json!({})).await;
                    ids.extend(renewed.body["certificateId"].as_str().map(str::to_owned));
                }
                7 => {
                    server.delete(&place).await.ok();
                    ids.remove(at);
                }
                _ => {
                    now += [60, 3_600, DAY][numbers.below(3)];
                    server.at(now);
                }
            }
            if step % 10 == 9 {
                let (every, _) = all(&server, &json!({}), 100).await;
                assert_eq!(every.len(), ids.len());
                check_counts(&counts(&server).await, &every);
            }
        }
        let (every, _) = all(&server, &json!({}), 100).await;
        for status in ["active", "expired", "revoked"] {
            assert!(every.iter().any(|record| record["status"] == status), "none is {status}");
        }
        let report = server.services.fsck(|_| ()).await.unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        check_ends(&server, &every, now, &profiles[0]).await;

        // What is not as counted is found.
        let wrong =
            Statement::new("UPDATE certificate_counts SET certificates = certificates + 1 WHERE status = 1", vec![]);
        server.services.db.commit(Changes::new().statement(wrong)).await.unwrap();
        let report = server.services.fsck(|_| ()).await.unwrap();
        assert!(!report.findings.is_empty());
        assert!(
            report.findings.iter().all(|one| one.subject.contains("count of certificates")),
            "{:?}",
            report.findings
        );
    });
}

async fn check_ends(server: &Server, every: &[Value], now: i64, profile: &str) {
    let base = format!("/api/v1/projects/{}/certificates/expiry-histogram", server.project);
    let of_profile = format!("?days=60&profileId={profile}");
    let of_ca = format!("?days=10&step=week&caId={}", server.issuing_ca);
    for (query, days, one) in [
        (String::new(), 90, 1),
        ("?days=1".to_owned(), 1, 1),
        ("?days=50&step=week".to_owned(), 50, 7),
        (of_profile, 60, 1),
        (of_ca, 10, 7),
    ] {
        let histogram = server.get(&format!("{base}{query}")).await.ok();
        let buckets = histogram["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), usize::try_from((days + one - 1) / one).unwrap(), "{query}");
        assert_eq!(buckets[0]["from"], json!(server.time(now)));
        let mut total = 0;
        for (at, bucket) in buckets.iter().enumerate() {
            let (from, to) = (text(&bucket["from"]), text(&bucket["to"]));
            assert!(at == 0 || buckets[at - 1]["to"] == bucket["from"], "{query}");
            let ends = every.iter().filter(|record| {
                let end = text(&record["notAfter"]);
                from <= end
                    && end < to
                    && record["status"] == "active"
                    && (!query.contains("profileId") || record["profileId"] == json!(profile))
                    && (!query.contains("caId") || record["caId"] == json!(server.issuing_ca))
            });
            let ends = ends.count();
            assert_eq!(bucket["certificates"], json!(ends), "{query} {bucket}");
            total += ends;
        }
        assert_eq!(histogram["total"], json!(total), "{query}");
    }
}

#[test]
fn the_numbers_of_an_inventory_are_for_who_may_see_all_of_it() {
    for_each_engine(|server| async move {
        let open = profile(&server, "open", json!({})).await;
        for name in ["a.example.com", "b.example.org"] {
            issue(&server, &open, json!({"commonName": name})).await.ok();
        }
        let rules =
            json!([{"subject": "certificates", "action": "read", "conditions": {"commonName": {"$glob": "a.*"}}}]);
        let roles = format!("/api/v1/projects/{}/roles", server.project);
        server.post(&roles, json!({"slug": "some", "name": "Some", "permissions": rules})).await.ok();
        let some = server.by(&server.identity("no-access", Some("some")).await);
        let stranger = server.by(&server.identity("no-access", None).await);
        let other = server.other_organization().await;
        let own = server.get("/api/v1/cert-manager/certificates/counts").await.ok();
        assert_eq!(own, counts(&server).await);
        let row = own["byProfile"].as_array().unwrap().iter().find(|row| row["profileId"] == json!(open)).unwrap();
        assert_eq!((&row["profileName"], &row["active"]), (&json!("open"), &json!(2)));

        let search = format!("/api/v1/projects/{}/certificates/search", server.project);
        let alias = "/api/v1/cert-manager/certificates/search";
        let in_ours = json!({"projectId": server.project, "search": "example"});
        assert_eq!(server.post(alias, json!({"search": "example"})).await.ok()["totalCount"], 2);
        assert_eq!(server.post(alias, in_ours.clone()).await.ok()["totalCount"], 2);
        let seen = some.post(&search, json!({"search": "example"})).await.ok();
        assert_eq!((&seen["totalCount"], &seen["certificates"][0]["commonName"]), (&json!(1), &json!("a.example.com")));
        other.post(alias, in_ours).await.refused(404, "NotFound");
        assert_eq!(other.post(alias, json!({"search": "example"})).await.ok()["totalCount"], 0);
        for path in ["counts", "expiry-histogram"] {
            let ours = format!("/api/v1/projects/{}/certificates/{path}", server.project);
            some.get(&ours).await.refused(403, "ForbiddenError");
            stranger.get(&ours).await.refused(403, "ProjectMembershipNotFound");
            other.get(&ours).await.refused(404, "NotFound");
            let named = format!("/api/v1/cert-manager/certificates/{path}?projectId={}", server.project);
            other.get(&named).await.refused(404, "NotFound");
            let nothing = other.get(&format!("/api/v1/cert-manager/certificates/{path}")).await.ok();
            assert_eq!(nothing["total"], 0, "{nothing}");
            server.get(&format!("/api/v1/projects/{UNKNOWN}/certificates/{path}")).await.refused(404, "NotFound");
        }
        for (query, issue) in [
            ("days=0", "days"),
            ("days=3661", "days"),
            ("step=month", "step"),
            ("caId=x", "caId"),
            ("profileId=x", "profileId"),
            ("projectId=x", "projectId"),
        ] {
            let path = format!("/api/v1/cert-manager/certificates/expiry-histogram?{query}");
            assert_eq!(server.get(&path).await.issues(), [issue], "{query}");
        }
        for (body, issues) in [
            (json!({"sortBy": "serialNumber"}), "sortBy"),
            (json!({"projectId": "x", "limit": 101, "keySizes": [0]}), "keySizes.0 limit projectId"),
            (json!({"search": "_".repeat(256)}), "search"),
        ] {
            assert_eq!(server.post(alias, body.clone()).await.issues().join(" "), issues, "{body}");
        }
    });
}

/// What is kept beside the certificates, without the numbers that stand for things.
async fn kept_beside(server: &Server) -> Vec<Vec<store::Value>> {
    let mut kept = Vec::new();
    for sql in [
        "SELECT c.id, s.project_id, g.project_id, g.authority_id, g.profile_id, g.key_algorithm, g.signature_algorithm,
         g.extended_key_usages, g.space - c.space, d.domain FROM certificates c LEFT JOIN inventory_spaces s ON s.number = c.space
         LEFT JOIN certificate_groups g ON g.id = c.group_id LEFT JOIN certificate_domains d ON d.id = c.domain_id
         ORDER BY c.id",
        "SELECT c.id, n.name, n.space - c.space, d.domain FROM certificate_names n
         JOIN certificates c ON c.pk = n.certificate_pk LEFT JOIN certificate_domains d ON d.id = n.domain_id
         ORDER BY c.id, n.name",
        "SELECT g.authority_id, g.profile_id, g.key_algorithm, g.signature_algorithm, g.extended_key_usages, n.status, n.day,
         CAST(SUM(n.certificates) AS BIGINT) FROM certificate_counts n JOIN certificate_groups g ON g.id = n.group_id
         GROUP BY g.authority_id, g.profile_id, g.key_algorithm, g.signature_algorithm, g.extended_key_usages, n.status, n.day
         HAVING SUM(n.certificates) <> 0
         ORDER BY g.authority_id, g.profile_id, g.key_algorithm, g.signature_algorithm, g.extended_key_usages, n.status, n.day",
    ] {
        let rows = server.services.db.rows(sql, vec![]).await.unwrap();
        assert!(rows.len() > 5, "{sql}");
        kept.extend(rows.into_iter().map(store::Row::into_values));
    }
    kept
}

#[test]
fn an_older_database_is_filled_as_if_every_certificate_were_new() {
    let migration = include_str!("../../../crates/store/migrations/0010_inventory.sql");
    let after = migration.split_once("-- The certificates that are there already.").unwrap().1;
    let filling = after.split_once("-- The orders that lists are given in").unwrap().0;
    for_each_engine(|server| async move {
        furnish(&server).await;
        let before = kept_beside(&server).await;
        // What the group says stood in each row.
        let older = ["key_algorithm", "signature_algorithm", "extended_key_usages"].into_iter().flat_map(|column| {
            let of_group = format!("SELECT g.{column} FROM certificate_groups g WHERE g.id = certificates.group_id");
            [
                format!("ALTER TABLE certificates ADD COLUMN {column} TEXT"),
                format!("UPDATE certificates SET {column} = ({of_group})"),
            ]
        });
        let emptied = [
            "certificate_names",
            "certificate_counts",
            "certificate_domains",
            "certificate_groups",
            "inventory_spaces",
        ]
        .map(|table| format!("DELETE FROM {table}"));
        let cleared = "UPDATE certificates SET space = NULL, group_id = NULL, domain_id = NULL".to_owned();
        let filling = match server.services.db.engine_name() {
            "sqlite" => filling.to_owned(),
            _ => filling.replace("AS BLOB", "AS BYTEA").replace("TEXT NOT NULL", "TEXT COLLATE \"C\" NOT NULL"),
        };
        let filled = filling.split(';').map(str::to_owned).filter(|sql| sql.contains(char::is_uppercase));
        for sql in older.chain(emptied).chain([cleared]).chain(filled) {
            let statement = Statement::new(sql.leak(), vec![]);
            server.services.db.commit(Changes::new().statement(statement)).await.unwrap();
        }
        assert_eq!(kept_beside(&server).await, before);
    });
}
