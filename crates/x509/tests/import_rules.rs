//! The import of an authority's certificate: what can be imported, and the table of what cannot, rule by rule.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

// Not every test uses all of it.
#[allow(dead_code)]
#[path = "../../testkit/src/chains.rs"]
mod chains;

use std::collections::BTreeSet;

use chains::{Draft, TestKey, common_name, good_import, import_cases};
use x509::chain::{Place, build_exact};
use x509::{Certificate, oid};

const NOW: i64 = 1_750_000_000;

fn certificates(ders: &[Vec<u8>]) -> Vec<Certificate> {
    ders.iter().map(|der| Certificate::from_der(der.clone()).unwrap()).collect()
}

#[test]
fn each_broken_rule_is_named_with_the_certificate_that_breaks_it() {
    let key = TestKey::generate();
    let mut rules = BTreeSet::new();
    for case in import_cases(&common_name("Imported"), &key.spki(), NOW) {
        if case.rule == "unreadable" {
            assert!(Certificate::from_der(case.certificate).is_err(), "{}", case.name);
            continue;
        }
        let leaf = Certificate::from_der(case.certificate).unwrap();
        let refusal = build_exact(&leaf, &certificates(&case.chain), NOW).expect_err(case.name);
        assert_eq!((refusal.rule.as_str(), &refusal.subject), (case.rule, &case.at_fault), "{}: {refusal}", case.name);
        rules.insert(case.rule);
    }
    assert!(rules.len() >= 25, "only {} rules are shown", rules.len());
}

#[test]
fn every_order_of_a_good_chain_is_put_in_the_order_of_the_path() {
    let key = TestKey::generate();
    let (certificate, chain) = good_import(&common_name("Imported"), &key.spki(), NOW);
    let leaf = Certificate::from_der(certificate).unwrap();
    let chain = certificates(&chain);
    assert_eq!(build_exact(&leaf, &chain, NOW), Ok(vec![1, 0]));
    let reversed: Vec<Certificate> = chain.iter().rev().cloned().collect();
    assert_eq!(build_exact(&leaf, &reversed, NOW), Ok(vec![0, 1]));
    // The path need not reach a root.
    assert_eq!(build_exact(&leaf, &reversed[..1], NOW), Ok(vec![0]));
}

#[test]
fn key_identifiers_may_be_missing() {
    let (root_key, key) = (TestKey::generate(), TestKey::generate());
    let (root_name, name) = (common_name("Root"), common_name("Imported"));
    let mut root = Draft::authority(&root_name, root_key.spki(), &root_name, NOW);
    // An old root may lack the key usage, too.
    root.remove(oid::KEY_USAGE);
    let root = root.sign(&root_key);
    let draft = Draft::authority(&name, key.spki(), &root_name, NOW);
    let leaf = Certificate::from_der(draft.sign(&root_key)).unwrap();
    assert_eq!(build_exact(&leaf, &certificates(&[root]), NOW), Ok(vec![0]));
}

#[test]
fn two_certificates_of_one_name_and_key_are_told_apart_by_backtracking() {
    // The first certificate of the direct issuer leads to a dead end; the path comes back to it from the second.
    let (a_key, x_key, y_key, key) =
        (TestKey::generate(), TestKey::generate(), TestKey::generate(), TestKey::generate());
    let (a, x, y) = (common_name("A"), common_name("X"), common_name("Y"));
    let ders = [
        Draft::authority(&a, a_key.spki(), &y, NOW).sign(&y_key),
        Draft::authority(&y, y_key.spki(), &y, NOW).sign(&y_key),
        Draft::authority(&a, a_key.spki(), &x, NOW).sign(&x_key),
        Draft::authority(&x, x_key.spki(), &a, NOW).sign(&a_key),
    ];
    let leaf = Draft::authority(&common_name("Imported"), key.spki(), &a, NOW).sign(&a_key);
    let order = build_exact(&Certificate::from_der(leaf).unwrap(), &certificates(&ders), NOW);
    assert_eq!(order, Ok(vec![2, 3, 0, 1]));
}

#[test]
fn no_bit_below_the_root_can_be_changed() {
    let key = TestKey::generate();
    let (certificate, chain) = good_import(&common_name("Imported"), &key.spki(), NOW);
    let good = [&[certificate], &chain[..]].concat();
    // The root is left out: with another issuer it is one that is not self-signed, whose issuer need not be given.
    for (index, der) in good.iter().enumerate().filter(|(index, _)| *index != 1) {
        for position in 0..der.len() {
            let mut changed = good.clone();
            changed[index][position] ^= 1 << (position % 8);
            let read: Result<Vec<Certificate>, _> = changed.into_iter().map(Certificate::from_der).collect();
            let Ok(read) = read else { continue };
            let refusal = build_exact(&read[0], &read[1..], NOW);
            assert!(refusal.is_err(), "octet {position} of certificate {index}");
        }
    }
}

#[test]
fn the_search_for_an_order_ends() {
    // Twenty authorities of one name and key: every one of them could have signed every other, but one is left over.
    let (key, other_key) = (TestKey::generate(), TestKey::generate());
    let (name, other) = (common_name("Same"), common_name("Other"));
    let mut ders: Vec<Vec<u8>> = (0..19u8)
        .map(|index| {
            let mut draft = Draft::authority(&name, key.spki(), &name, NOW);
            draft.serial = vec![1, index];
            draft.sign(&key)
        })
        .collect();
    ders.push(Draft::authority(&other, other_key.spki(), &other, NOW).sign(&other_key));
    let leaf = Draft::authority(&common_name("Imported"), other_key.spki(), &name, NOW).sign(&key);
    let refusal = build_exact(&Certificate::from_der(leaf).unwrap(), &certificates(&ders), NOW).unwrap_err();
    assert_eq!((refusal.certificate, refusal.rule.as_str()), (Place::Leaf, "budget-exhausted"));
}

#[test]
fn a_path_has_eight_intermediate_certificates_and_no_more() {
    // Below a self-signed root, which is none of them; the imported one is the last.
    for (intermediates, is_accepted) in [(8_usize, true), (9, false), (30, false)] {
        let keys: Vec<TestKey> = (0..=intermediates).map(|_| TestKey::generate()).collect();
        let name = |index: usize| common_name(&format!("Authority {index}"));
        let mut ders: Vec<Vec<u8>> = (0..=intermediates)
            .map(|index| {
                let above = index.saturating_sub(1);
                Draft::authority(&name(index), keys[index].spki(), &name(above), NOW).sign(&keys[above])
            })
            .collect();
        let leaf = Certificate::from_der(ders.pop().unwrap()).unwrap();
        let built = build_exact(&leaf, &certificates(&ders), NOW);
        match is_accepted {
            true => assert_eq!(built, Ok((0..intermediates).rev().collect::<Vec<_>>())),
            false => assert_eq!(built.unwrap_err().rule.as_str(), "depth-exceeded", "{intermediates}"),
        }
    }
}
