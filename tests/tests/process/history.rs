//! What clients asked and were told, written down by themselves in a file each, and the comparison of it with what the
//! server kept and publishes: nothing lost, nothing twice, nothing risen from the dead (invariants I1 to I5, I9).
//!
//! The comparison is a function of plain data, so that the tests below can plant what it must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

/// The file of one client.
pub struct History {
    file: File,
    next: usize,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A certificate with a key that the server makes.
    Issue,
    /// A certificate for a request of the client's.
    Sign,
    /// The successor of a certificate.
    Renew { id: String },
    /// The revocation of a certificate.
    Revoke { id: String, serial: String },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is done; with the certificate, where there is one.
    Done(Option<Given>),
    /// It is not done, and will not be.
    Refused(u16),
    /// A failure of the server's own, which no fault excuses.
    Failed(u16),
    /// Nothing, or that it is not known.
    Unknown,
}

/// A certificate as a client has it. All texts but the name are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub id: String,
    pub serial: String,
    pub der: String,
}

/// One request, with all that was said to it, the last word last.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name in the certificate, and the key of the request.
    pub name: String,
    pub wish: Wish,
    pub told: Vec<Told>,
}

/// What the server has and says after the fault.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub kept: Vec<Kept>,
    /// Every list that anybody saw, in that order.
    pub lists: Vec<List>,
    /// What OCSP says of those that it was asked about, by serial.
    pub ocsp: BTreeMap<String, Said>,
}

/// A row of the inventory.
#[derive(Clone, Debug)]
pub struct Kept {
    pub given: Given,
    pub name: String,
    pub is_revoked: bool,
    /// Records of the audit about its issuance.
    pub issued_records: usize,
    /// Records of the audit about its revocation.
    pub revoked_records: usize,
}

/// A revocation list.
#[derive(Clone, Debug)]
pub struct List {
    pub number: u64,
    pub der: Vec<u8>,
    pub this_update: i64,
    pub serials: BTreeSet<String>,
}

/// An answer of OCSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Good,
    Revoked,
    Unknown,
    Later,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A client has a certificate that the inventory has not, or not with these octets.
    Lost(String),
    /// A serial number was given to two requests.
    SerialTwice(String),
    /// One key gave two certificates.
    TwoForOneKey(String),
    /// There are fewer or more certificates of a name than requests that were done.
    Count { name: String, kept: usize, done: usize, unknown: usize },
    /// A certificate that nobody asked for.
    Invented(String),
    /// A revocation that was acknowledged is not there.
    Risen { serial: String, place: &'static str },
    /// A revocation that nobody asked for.
    NotAsked(String),
    /// A list with a smaller number, or made earlier, came after another one.
    ListFellBack(u64),
    /// Two lists have one number.
    ListsDiffer(u64),
    /// A list does not name what one before it named.
    ListForgot { number: u64, serial: String },
    /// The audit has not one record of it.
    Audit { serial: String, event: &'static str, records: usize },
    /// A failure of the server's own.
    Failed { name: String, status: u16 },
}

impl History {
    pub fn create(path: &Path) -> Self {
        Self { file: File::create(path).unwrap(), next: 0 }
    }

    /// Goes on with a file that was written before.
    pub fn append(path: &Path) -> Self {
        Self { file: File::options().append(true).open(path).unwrap(), next: 0 }
    }

    /// Writes down a request before it is sent, and gives its number.
    pub fn asks(&mut self, name: &str, wish: &Wish) -> usize {
        let number = self.next;
        self.next += 1;
        self.line(&match wish {
            Wish::Issue => json!({"n": number, "invoke": "issue", "name": name}),
            Wish::Sign => json!({"n": number, "invoke": "sign", "name": name}),
            Wish::Renew { id } => json!({"n": number, "invoke": "renew", "name": name, "id": id}),
            Wish::Revoke { id, serial } => {
                json!({"n": number, "invoke": "revoke", "name": name, "id": id, "serial": serial})
            }
        });
        number
    }

    /// Writes down what was said to a request.
    pub fn told(&mut self, number: usize, told: &Told) {
        self.line(&match told {
            Told::Done(None) => json!({"n": number, "told": "ok"}),
            Told::Done(Some(given)) => {
                json!({"n": number, "told": "ok", "id": given.id, "serial": given.serial, "der": given.der})
            }
            Told::Refused(status) => json!({"n": number, "told": "fail", "status": status}),
            Told::Failed(status) => json!({"n": number, "told": "failure", "status": status}),
            Told::Unknown => json!({"n": number, "told": "unknown"}),
        });
    }

    fn line(&mut self, line: &Value) {
        writeln!(self.file, "{line}").unwrap();
    }
}

/// Reads a client's file. The number of a request is its place.
pub fn read(path: &Path) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        if let Some(what) = line["invoke"].as_str() {
            let wish = match what {
                "issue" => Wish::Issue,
                "sign" => Wish::Sign,
                "renew" => Wish::Renew { id: text("id") },
                "revoke" => Wish::Revoke { id: text("id"), serial: text("serial") },
                other => panic!("{other} in {}", path.display()),
            };
            asked.push(Asked { name: text("name"), wish, told: vec![] });
            continue;
        }
        let status = || u16::try_from(line["status"].as_u64().unwrap()).unwrap();
        let told = match text("told").as_str() {
            "ok" if line["id"].is_null() => Told::Done(None),
            "ok" => Told::Done(Some(Given { id: text("id"), serial: text("serial"), der: text("der") })),
            "fail" => Told::Refused(status()),
            "failure" => Told::Failed(status()),
            "unknown" => Told::Unknown,
            other => panic!("{other} in {}", path.display()),
        };
        asked[usize::try_from(line["n"].as_u64().unwrap()).unwrap()].told.push(told);
    }
    asked
}

impl Asked {
    /// Whether it was done, as far as its client knows.
    pub fn is_done(&self) -> bool {
        self.told.iter().any(|told| matches!(told, Told::Done(_)))
    }

    /// Whether its client knows nothing for sure.
    pub fn is_unknown(&self) -> bool {
        // A refusal after it speaks of the repeated request only.
        let says_nothing = |told: &Told| matches!(told, Told::Unknown | Told::Failed(_));
        !self.is_done() && (self.told.is_empty() || self.told.iter().any(says_nothing))
    }

    pub fn given(&self) -> impl Iterator<Item = &Given> {
        self.told.iter().filter_map(|told| match told {
            Told::Done(given) => given.as_ref(),
            Told::Refused(_) | Told::Failed(_) | Told::Unknown => None,
        })
    }
}

/// Holds what clients were told against what is there.
pub fn violations(asked: &[Asked], observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    given_is_kept(asked, observed, &mut found);
    counts_agree(asked, observed, &mut found);
    revoked_stays(asked, observed, &mut found);
    lists_grow(&observed.lists, &mut found);
    audit_agrees(observed, &mut found);
    for one in asked {
        found.extend(one.told.iter().filter_map(|told| match told {
            Told::Failed(status) => Some(Violation::Failed { name: one.name.clone(), status: *status }),
            Told::Done(_) | Told::Refused(_) | Told::Unknown => None,
        }));
    }
    found
}

fn given_is_kept(asked: &[Asked], observed: &Observed, found: &mut Vec<Violation>) {
    let kept: BTreeMap<&str, &Given> = observed.kept.iter().map(|kept| (&*kept.given.id, &kept.given)).collect();
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, one) in asked.iter().enumerate() {
        let mut first: Option<&Given> = None;
        for given in one.given() {
            if kept.get(&*given.id) != Some(&given) {
                found.push(Violation::Lost(format!("{} {}", one.name, given.serial)));
            }
            if first.is_some_and(|first| first != given) {
                found.push(Violation::TwoForOneKey(one.name.clone()));
            }
            first = Some(given);
            if *owners.entry(&given.serial).or_insert(index) != index {
                found.push(Violation::SerialTwice(given.serial.clone()));
            }
        }
    }
    let mut serials = BTreeSet::new();
    for kept in &observed.kept {
        if !serials.insert(&kept.given.serial) {
            found.push(Violation::SerialTwice(kept.given.serial.clone()));
        }
    }
}

fn counts_agree(asked: &[Asked], observed: &Observed, found: &mut Vec<Violation>) {
    let mut wanted: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for one in asked {
        let (done, unknown) = wanted.entry(&one.name).or_default();
        if !matches!(one.wish, Wish::Revoke { .. }) {
            *done += usize::from(one.is_done());
            *unknown += usize::from(one.is_unknown());
        }
    }
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &observed.kept {
        *kept.entry(&one.name).or_default() += 1;
        if !wanted.contains_key(&*one.name) {
            found.push(Violation::Invented(one.name.clone()));
        }
    }
    for (name, (done, unknown)) in wanted {
        let kept = kept.get(name).copied().unwrap_or(0);
        if kept < done || kept > done + unknown {
            found.push(Violation::Count { name: name.to_owned(), kept, done, unknown });
        }
    }
}

fn revoked_stays(asked: &[Asked], observed: &Observed, found: &mut Vec<Violation>) {
    let mut acknowledged = BTreeSet::new();
    let mut possible = BTreeSet::new();
    for one in asked {
        if let Wish::Revoke { serial, .. } = &one.wish {
            if one.is_done() {
                acknowledged.insert(serial);
            }
            if one.is_done() || one.is_unknown() {
                possible.insert(serial);
            }
        }
    }
    let mut risen = |serial: &String, place| found.push(Violation::Risen { serial: serial.clone(), place });
    for kept in observed.kept.iter().filter(|kept| acknowledged.contains(&kept.given.serial)) {
        if !kept.is_revoked {
            risen(&kept.given.serial, "inventory");
        }
    }
    for serial in &acknowledged {
        if observed.lists.last().is_none_or(|list| !list.serials.contains(*serial)) {
            risen(serial, "list");
        }
        if observed.ocsp.get(*serial).is_some_and(|said| *said != Said::Revoked) {
            risen(serial, "ocsp");
        }
    }
    for kept in &observed.kept {
        let serial = &kept.given.serial;
        let is_said = observed.ocsp.get(serial) == Some(&Said::Revoked);
        if (kept.is_revoked || is_said) && !possible.contains(serial) {
            found.push(Violation::NotAsked(serial.clone()));
        }
    }
}

fn lists_grow(lists: &[List], found: &mut Vec<Violation>) {
    for pair in lists.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if after.number < before.number || after.this_update < before.this_update {
            found.push(Violation::ListFellBack(after.number));
        }
        // No certificate of these runs ends, so none may leave a list.
        for serial in before.serials.difference(&after.serials) {
            found.push(Violation::ListForgot { number: after.number, serial: serial.clone() });
        }
    }
    let mut numbers: BTreeMap<u64, &[u8]> = BTreeMap::new();
    for list in lists {
        if *numbers.entry(list.number).or_insert(&list.der) != list.der {
            found.push(Violation::ListsDiffer(list.number));
        }
    }
}

fn audit_agrees(observed: &Observed, found: &mut Vec<Violation>) {
    for kept in &observed.kept {
        let expected = [
            ("certificate-issued", kept.issued_records, 1),
            ("certificate-revoked", kept.revoked_records, usize::from(kept.is_revoked)),
        ];
        for (event, records, expected) in expected {
            if records != expected {
                found.push(Violation::Audit { serial: kept.given.serial.clone(), event, records });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(serial: &str) -> Given {
        Given { id: format!("id{serial}"), serial: serial.into(), der: format!("30{serial}") }
    }

    fn asked(name: &str, wish: Wish, told: &[Told]) -> Asked {
        Asked { name: name.into(), wish, told: told.to_vec() }
    }

    fn kept(serial: &str, name: &str, is_revoked: bool) -> Kept {
        let revoked_records = usize::from(is_revoked);
        Kept { given: given(serial), name: name.into(), is_revoked, issued_records: 1, revoked_records }
    }

    fn list(number: u64, serials: &[&str]) -> List {
        let serials: BTreeSet<String> = serials.iter().map(|serial| (*serial).into()).collect();
        List { number, der: format!("{number}{serials:?}").into(), this_update: number as i64, serials }
    }

    /// One certificate that was issued, one that was signed after an unknown outcome and renewed, one that was revoked,
    /// one request that was refused and one whose outcome nobody knows.
    fn sound() -> (Vec<Asked>, Observed) {
        let done = |serial: &str| Told::Done(Some(given(serial)));
        let history = vec![
            asked("a", Wish::Issue, &[done("01")]),
            asked("b", Wish::Sign, &[Told::Unknown, done("02")]),
            asked("b", Wish::Renew { id: "id02".into() }, &[done("03")]),
            asked("c", Wish::Issue, &[done("04")]),
            asked("c", Wish::Revoke { id: "id04".into(), serial: "04".into() }, &[Told::Unknown, Told::Done(None)]),
            asked("d", Wish::Issue, &[Told::Refused(503)]),
            asked("e", Wish::Issue, &[Told::Unknown]),
        ];
        let kept = vec![kept("01", "a", false), kept("02", "b", false), kept("03", "b", false), kept("04", "c", true)];
        let lists = vec![list(1, &[]), list(2, &["04"]), list(2, &["04"])];
        let said = [("01", Said::Good), ("04", Said::Revoked)];
        let ocsp = said.into_iter().map(|(serial, said)| (serial.to_owned(), said)).collect();
        (history, Observed { kept, lists, ocsp })
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        let (history, mut observed) = sound();
        assert_eq!(violations(&history, &observed), []);
        // What nobody knows may be there, too.
        observed.kept.push(kept("05", "e", false));
        assert_eq!(violations(&history, &observed), []);
    }

    #[test]
    fn every_planted_violation_is_found() {
        let check = |plant: fn(&mut Vec<Asked>, &mut Observed), expected: Violation| {
            let (mut history, mut observed) = sound();
            plant(&mut history, &mut observed);
            let found = violations(&history, &observed);
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        };
        check(|_, seen| drop(seen.kept.remove(0)), Violation::Lost("a 01".into()));
        check(|_, seen| seen.kept[0].given.der.push('0'), Violation::Lost("a 01".into()));
        check(|_, seen| seen.kept[2].given.serial = "01".into(), Violation::SerialTwice("01".into()));
        check(|asked, _| asked[3].told[0] = Told::Done(Some(given("01"))), Violation::SerialTwice("01".into()));
        check(|asked, _| asked[1].told[0] = Told::Done(Some(given("01"))), Violation::TwoForOneKey("b".into()));
        check(
            |_, seen| seen.kept.push(kept("06", "d", false)),
            Violation::Count { name: "d".into(), kept: 1, done: 0, unknown: 0 },
        );
        check(
            |_, seen| seen.kept.extend([kept("06", "e", false), kept("07", "e", false)]),
            Violation::Count { name: "e".into(), kept: 2, done: 0, unknown: 1 },
        );
        check(|_, seen| seen.kept.push(kept("06", "z", false)), Violation::Invented("z".into()));
        let risen = |place| Violation::Risen { serial: "04".into(), place };
        check(|_, seen| seen.kept[3].is_revoked = false, risen("inventory"));
        check(|_, seen| seen.lists.push(list(3, &[])), risen("list"));
        check(|_, seen| *seen.ocsp.get_mut("04").unwrap() = Said::Good, risen("ocsp"));
        check(|_, seen| seen.kept[0].is_revoked = true, Violation::NotAsked("01".into()));
        check(|_, seen| *seen.ocsp.get_mut("01").unwrap() = Said::Revoked, Violation::NotAsked("01".into()));
        check(|_, seen| seen.lists.push(list(1, &["04"])), Violation::ListFellBack(1));
        check(|_, seen| seen.lists[2].this_update = 0, Violation::ListFellBack(2));
        check(|_, seen| seen.lists[2].der.push(0), Violation::ListsDiffer(2));
        check(|_, seen| seen.lists.push(list(3, &[])), Violation::ListForgot { number: 3, serial: "04".into() });
        let audit = |serial: &str, event, records| Violation::Audit { serial: serial.into(), event, records };
        check(|_, seen| seen.kept[0].issued_records = 0, audit("01", "certificate-issued", 0));
        check(|_, seen| seen.kept[0].issued_records = 2, audit("01", "certificate-issued", 2));
        check(|_, seen| seen.kept[3].revoked_records = 0, audit("04", "certificate-revoked", 0));
        check(|asked, _| asked[6].told.push(Told::Failed(500)), Violation::Failed { name: "e".into(), status: 500 });
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client");
        let (wanted, _) = sound();
        let mut history = History::create(&path);
        for one in &wanted {
            let number = history.asks(&one.name, &one.wish);
            one.told.iter().for_each(|told| history.told(number, told));
        }
        // A client that died after it asked.
        history.asks("f", &Wish::Issue);
        History::append(&path).told(6, &Told::Refused(409));
        let found = read(&path);
        assert_eq!(found.len(), wanted.len() + 1);
        for (found, wanted) in found.iter().zip(&wanted).take(6) {
            assert_eq!((&found.name, &found.wish, &found.told), (&wanted.name, &wanted.wish, &wanted.told));
        }
        assert_eq!(found[6].told, [Told::Unknown, Told::Refused(409)]);
        assert!(found[7].is_unknown());
    }
}
