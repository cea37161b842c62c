//! The ladder: which crate may import which. Holds the manifests, as `cargo metadata` reports them, against the table
//! in ARCHITECTURE.md between `<!-- ladder -->` and `<!-- /ladder -->`.
//!
//! Normal and build dependencies count; tests may reach further, except for what a crate must not know at all.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[test]
fn every_crate_imports_only_from_the_rungs_that_architecture_md_gives_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let found = violations(&rungs(&text), &manifests(root));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// One row of the table, in its order from the bottom of the ladder to the top.
struct Rung {
    name: String,
    may_import: BTreeSet<String>,
    may_use: BTreeSet<String>,
    must_not_know: BTreeSet<String>,
}

/// The dependencies of one workspace crate, by package name.
#[derive(Default)]
struct Manifest {
    built_in: BTreeSet<String>,
    only_tests: BTreeSet<String>,
}

/// What the manifests do that the table does not say, and the other way round; empty when they agree.
fn violations(rungs: &[Rung], manifests: &BTreeMap<String, Manifest>) -> Vec<String> {
    let mut found = Vec::new();
    for name in manifests.keys().filter(|name| !rungs.iter().any(|rung| rung.name == **name)) {
        found.push(format!("{name}: has no row"));
    }
    let mut below = BTreeSet::new();
    for rung in rungs {
        let name = &rung.name;
        for import in rung.may_import.difference(&below) {
            found.push(format!("{name}: may import {import}, which is no row above its own"));
        }
        if !below.insert(name.clone()) {
            found.push(format!("{name}: has two rows"));
        }
        let Some(manifest) = manifests.get(name) else {
            found.push(format!("{name}: has a row and is no crate of the workspace"));
            continue;
        };
        let (imports, uses): (BTreeSet<_>, BTreeSet<_>) =
            manifest.built_in.iter().cloned().partition(|dependency| manifests.contains_key(dependency));
        for import in imports.difference(&rung.may_import) {
            found.push(format!("{name}: imports {import}, which its row does not allow"));
        }
        for import in rung.may_import.difference(&imports) {
            found.push(format!("{name}: may import {import} and does not; take it out of the row"));
        }
        for outside in uses.difference(&rung.may_use) {
            found.push(format!("{name}: uses {outside}, which its row does not allow"));
        }
        for unknown in rung
            .must_not_know
            .iter()
            .filter(|unknown| manifest.built_in.contains(*unknown) || manifest.only_tests.contains(*unknown))
        {
            found.push(format!("{name}: must not know {unknown} and depends on it"));
        }
    }
    found
}

/// Reads the table between the two markers. In each cell only what stands in backquotes counts; the rest is prose.
fn rungs(text: &str) -> Vec<Rung> {
    let (_, rest) = text.split_once("<!-- ladder -->").expect("ARCHITECTURE.md has the marker `<!-- ladder -->`");
    let (table, _) = rest.split_once("<!-- /ladder -->").expect("ARCHITECTURE.md has the marker `<!-- /ladder -->`");
    let mut rows = table.lines().map(str::trim).filter(|line| line.starts_with('|'));
    let heads: Vec<_> =
        rows.next().expect("the table has a head").trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(heads, ["crate", "may import", "may use", "must not know"]);
    rows.skip(1)
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(quoted).collect();
            let [name, may_import, may_use, must_not_know] =
                cells.try_into().unwrap_or_else(|_| panic!("not four cells: {row}"));
            assert_eq!(name.len(), 1, "not one crate in the first cell: {row}");
            Rung { name: name.into_iter().next().unwrap(), may_import, may_use, must_not_know }
        })
        .collect()
}

/// The words between backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every crate of the workspace with its dependencies.
fn manifests(root: &Path) -> BTreeMap<String, Manifest> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let mut manifest = Manifest::default();
            for dependency in package["dependencies"].as_array().unwrap() {
                let of_this_kind = match dependency["kind"].as_str() {
                    Some("dev") => &mut manifest.only_tests,
                    None | Some("build") => &mut manifest.built_in,
                    Some(kind) => panic!("cargo knows a kind of dependency that this test does not: {kind}"),
                };
                of_this_kind.insert(dependency["name"].as_str().unwrap().to_owned());
            }
            (package["name"].as_str().unwrap().to_owned(), manifest)
        })
        .collect()
}

#[test]
fn each_way_to_leave_the_ladder_is_seen() {
    const SOUND: &str = "
        | `low` | – | `idna` | `high` |
        | `high` | `low` | `tokio`, `axum` | `rusqlite` |";
    check(SOUND, &[("low", "idna", "tempfile"), ("high", "low tokio", "low")], None);

    let high = ("high", "low tokio", "");
    let low = ("low", "idna", "");
    check(SOUND, &[low, ("high", "tokio", "")], Some("high: may import low and does not; take it out of the row"));
    check(SOUND, &[low, ("high", "low reqwest", "")], Some("high: uses reqwest, which its row does not allow"));
    check(SOUND, &[("low", "idna", "high"), high], Some("low: must not know high and depends on it"));
    check(SOUND, &[low, ("high", "low", "rusqlite")], Some("high: must not know rusqlite and depends on it"));
    check(SOUND, &[low, high, ("new", "", "")], Some("new: has no row"));

    let sideways = "
        | `left` | `right` | – | – |
        | `right` | – | – | – |";
    let message = "left: may import right, which is no row above its own";
    check(sideways, &[("left", "right", ""), ("right", "", "")], Some(message));
    let apart = "
        | `left` | – | – | – |
        | `right` | – | – | – |";
    let message = "right: imports left, which its row does not allow";
    check(apart, &[("left", "", ""), ("right", "left", "")], Some(message));
    check(apart, &[("left", "", "")], Some("right: has a row and is no crate of the workspace"));
    let twice = "
        | `left` | – | – | – |
        | `left` | – | – | – |";
    check(twice, &[("left", "", "")], Some("left: has two rows"));
}

/// `crates` are name, dependencies, dependencies of tests; `first` is the first violation expected.
fn check(table: &str, crates: &[(&str, &str, &str)], first: Option<&str>) {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let manifests = crates
        .iter()
        .map(|(name, built_in, only_tests)| {
            ((*name).to_owned(), Manifest { built_in: words(built_in), only_tests: words(only_tests) })
        })
        .collect();
    let head = "| crate | may import | may use | must not know |\n|---|---|---|---|";
    let text = format!("prose <!-- ladder -->\n{head}\n{table}\n<!-- /ladder --> prose");
    assert_eq!(violations(&rungs(&text), &manifests).first().map(String::as_str), first);
}
