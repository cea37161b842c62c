//! The rules that the contract's tables name in brackets, for handlers: what is wrong is collected, and said at once.
//!
//! ```
//! # use iot::check::Checks;
//! # fn handler(folder_id: &str, name: &str, page_size: i64) -> Result<(), domain::Error> {
//! let mut checks = Checks::new();
//! checks.id("folder_id", folder_id);
//! checks.name("name", name);
//! let limit = checks.page_size("page_size", page_size, 1000);
//! checks.finish()?;
//! # Ok(())
//! # }
//! ```

use domain::registry::RESOURCE_ID_CHARACTERS_MAX;
use domain::registry::credential::{FINGERPRINT_CHARACTERS_MAX, check_password};
use domain::registry::topic::{PAYLOAD_OCTETS_MAX, TOPIC_CHARACTERS_MAX};
use domain::{Reason, Refusal, Violation};
use prost_types::FieldMask;
use std::collections::BTreeMap;

/// What was found wrong with one request so far.
#[derive(Debug, Default)]
pub struct Checks(Vec<Violation>);

/// Which fields an update changes (contract §2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Every field that can be changed.
    Everything,
    /// These, by their paths.
    Only(Vec<String>),
}

/// What a mask may name of log options beside all of them.
pub const LOG_OPTIONS: [&str; 5] = [
    "log_options",
    "log_options.log_group_id",
    "log_options.folder_id",
    "log_options.disabled",
    "log_options.min_level",
];

const NAME_CHARACTERS_MAX: usize = 50;
const DESCRIPTION_CHARACTERS_MAX: usize = 256;
const LABELS_MAX: usize = 64;
const LABEL_CHARACTERS_MAX: usize = 63;
const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_TOKEN_CHARACTERS_MAX: usize = 100;
const FILTER_CHARACTERS_MAX: usize = 1000;

impl Checks {
    /// Nothing is wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// INVALID_ARGUMENT with every violation, when there is one.
    pub fn finish(self) -> domain::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Refusal::violations(Reason::Malformed, self.0).into())
    }

    /// Adds what the caller found by itself.
    pub fn wrong(&mut self, field: impl Into<String>, rule: &'static str, what: &str) {
        let field = field.into();
        let message = format!("{field} {what}");
        self.0.push(Violation::new(field, rule, message));
    }

    /// `[R, ≤max]`: there, and not longer than this.
    pub fn required(&mut self, field: &str, text: &str, characters_max: usize) {
        if text.is_empty() {
            return self.wrong(field, "required", "is required");
        }
        self.at_most(field, text, characters_max);
    }

    /// `[≤max]`. U+0000 is in no text of ours: neither database keeps it.
    pub fn at_most(&mut self, field: &str, text: &str, characters_max: usize) {
        if text.contains('\0') {
            return self.wrong(field, "characters", "must not contain U+0000");
        }
        if text.chars().count() > characters_max {
            self.wrong(field, "length", &format!("must have at most {characters_max} characters"));
        }
    }

    /// `[ID]`.
    pub fn id(&mut self, field: &str, text: &str) {
        self.required(field, text, RESOURCE_ID_CHARACTERS_MAX);
    }

    /// `[NAME]`; an empty one passes.
    pub fn name(&mut self, field: &str, text: &str) {
        if !text.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-')) {
            return self.wrong(field, "pattern", "must be made of letters, digits, _ and -");
        }
        self.at_most(field, text, NAME_CHARACTERS_MAX);
    }

    /// `[R, NAME]`.
    pub fn required_name(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            return self.wrong(field, "required", "is required");
        }
        self.name(field, text);
    }

    /// `[≤256]`, of a description.
    pub fn description(&mut self, field: &str, text: &str) {
        self.at_most(field, text, DESCRIPTION_CHARACTERS_MAX);
    }

    /// `[LBL]`.
    pub fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        if labels.len() > LABELS_MAX {
            return self.wrong(field, "size", &format!("must have at most {LABELS_MAX} entries"));
        }
        let is_of_labels = |text: &str| {
            text.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
                && text.len() <= LABEL_CHARACTERS_MAX
        };
        for (key, value) in labels {
            let entry = format!("{field}.{key}");
            if !(is_of_labels(key) && key.starts_with(|first: char| first.is_ascii_lowercase())) {
                self.wrong(&entry, "key", "must have a key of 1 to 63 of a-z, 0-9, _ and - that begins with a letter");
            }
            if !is_of_labels(value) {
                self.wrong(&entry, "value", "must have a value of at most 63 of a-z, 0-9, _ and -");
            }
        }
    }

    /// `[LOGID]`: empty, or a letter and at most 63 of letters, digits, `-`, `_` and `.`.
    pub fn log_id(&mut self, field: &str, text: &str) {
        let mut letters = text.bytes();
        let is_good = letters.next().is_none_or(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.'));
        if !is_good || text.len() > 64 {
            self.wrong(field, "pattern", "must begin with a letter and have at most 64 of letters, digits, -, _ and .");
        }
    }

    /// `[0..max]`, of a page: how many to show; 0 means 100 (contract §2.4).
    pub fn page_size(&mut self, field: &str, size: i64, size_max: u32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => PAGE_SIZE_DEFAULT.min(size_max),
            Ok(size) if size <= size_max => size,
            Ok(_) | Err(_) => {
                self.wrong(field, "range", &format!("must be between 0 and {size_max}"));
                PAGE_SIZE_DEFAULT
            }
        }
    }

    /// `[≤100]`, of a page token.
    pub fn page_token(&mut self, field: &str, text: &str) {
        self.at_most(field, text, PAGE_TOKEN_CHARACTERS_MAX);
    }

    /// `[≤1000]`, of the filter of operations: nothing, or the name in `name = "x"` (contract §2.4).
    pub fn filter(&mut self, field: &str, text: &str) -> Option<String> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        self.at_most(field, text, FILTER_CHARACTERS_MAX);
        let value = text.strip_prefix("name").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        let value = value
            .map(str::trim)
            .map(|value| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value));
        let is_value = |value: &&str| {
            !value.is_empty()
                && value.bytes().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'-'))
        };
        match value.filter(is_value) {
            Some(value) => Some(value.to_owned()),
            None => {
                self.wrong(field, "filter", "can only be of the form name = \"x\"");
                None
            }
        }
    }

    /// `[R, ≤128, §5.2]`: SHA-256 or SHA-1 in hex. In lower case and without colons, for a look-up.
    pub fn fingerprint(&mut self, field: &str, text: &str) -> String {
        self.required(field, text, FINGERPRINT_CHARACTERS_MAX);
        let digits: String = text.chars().filter(|letter| *letter != ':').collect();
        digits.to_ascii_lowercase()
    }

    /// `[≥14]`, and three classes of four (contract §5.3).
    pub fn password(&mut self, field: &str, text: &str) {
        if let Err(broken) = check_password(text) {
            self.0.push(Violation::new(field, broken.rule, broken.message));
        }
    }

    /// `[R, ≤1024]`, of a topic.
    pub fn topic(&mut self, field: &str, text: &str) {
        self.required(field, text, TOPIC_CHARACTERS_MAX);
    }

    /// `[≤262144]`, of a payload.
    pub fn payload(&mut self, field: &str, octets: &[u8]) {
        if octets.len() > PAYLOAD_OCTETS_MAX {
            self.wrong(field, "size", &format!("must have at most {PAYLOAD_OCTETS_MAX} bytes"));
        }
    }

    /// A mask, whose paths are among these.
    pub fn mask(&mut self, field: &str, mask: Option<FieldMask>, allowed: &[&str]) -> Mask {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            return Mask::Everything;
        }
        for path in paths.iter().filter(|path| !allowed.contains(&path.as_str())) {
            self.wrong(field, "path", &format!("must not name \"{path}\"; it may name {}", allowed.join(", ")));
        }
        Mask::Only(paths)
    }
}

impl Mask {
    /// Whether the update changes this field, as a whole or, for a path such as `log_options.disabled`, that part of it.
    pub fn covers(&self, field: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(paths) => paths.iter().any(|path| {
                field.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts which rules a check finds broken.
    #[track_caller]
    fn check(run: impl FnOnce(&mut Checks), rules: &[&str]) {
        let mut checks = Checks::new();
        run(&mut checks);
        let found: Vec<&str> = checks.0.iter().map(|violation| violation.rule).collect();
        assert_eq!(found, rules, "{checks:?}");
        assert_eq!(checks.finish().is_err(), !rules.is_empty());
    }

    #[test]
    fn ids_names_and_descriptions_have_their_lengths_and_letters() {
        let long = |count| "ж".repeat(count);
        check(|checks| checks.id("id", "b1g Ж"), &[]);
        check(|checks| checks.id("id", &long(50)), &[]);
        check(|checks| checks.id("id", &long(51)), &["length"]);
        check(|checks| checks.id("id", ""), &["required"]);
        check(|checks| checks.name("name", ""), &[]);
        check(|checks| checks.name("name", "Ab-_9"), &[]);
        check(|checks| checks.name("name", &"a".repeat(51)), &["length"]);
        check(|checks| checks.name("name", "a.b"), &["pattern"]);
        check(|checks| checks.name("name", "a\n"), &["pattern"]);
        check(|checks| checks.required_name("name", ""), &["required"]);
        check(|checks| checks.required_name("name", "ж"), &["pattern"]);
        check(|checks| checks.description("description", &long(256)), &[]);
        check(|checks| checks.description("description", &long(257)), &["length"]);
    }

    #[test]
    fn labels_and_log_ids_have_their_letters() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let (max, more) = ("a".repeat(63), "a".repeat(64));
        check(|checks| checks.labels("labels", &labels(&[("a", ""), ("a-_9", "9_-a"), (&max, &max)])), &[]);
        check(
            |checks| checks.labels("labels", &labels(&[("", "A"), (&more, &more)])),
            &["key", "value", "key", "value"],
        );
        check(|checks| checks.labels("labels", &labels(&[("9", ""), ("A", ""), ("_", "")])), &["key"; 3]);
        let many: BTreeMap<_, _> = (0..65).map(|number| (format!("k{number}"), String::new())).collect();
        check(|checks| checks.labels("labels", &many), &["size"]);
        for good in ["", "a", "Z.-_9", &more] {
            check(|checks| checks.log_id("log_group_id", good), &[]);
        }
        for bad in ["9", "-", "a b", "ж", &"a".repeat(65)] {
            check(|checks| checks.log_id("log_group_id", bad), &["pattern"]);
        }
    }

    #[test]
    fn pages_have_a_size_and_filters_a_name() {
        for (size, size_max, shown, rules) in [
            (0, 1000, 100, &[][..]),
            (1000, 1000, 1000, &[]),
            (20_000, 20_000, 20_000, &[]),
            (1001, 1000, 100, &["range"]),
            (-1, 1000, 100, &["range"]),
            (i64::MAX, 1000, 100, &["range"]),
        ] {
            check(|checks| assert_eq!(checks.page_size("page_size", size, size_max), shown), rules);
        }
        check(|checks| checks.page_token("page_token", &"a".repeat(101)), &["length"]);
        for (text, name) in
            [("", None), ("name=x", Some("x")), ("name = \"x-1\"", Some("x-1")), (" name =x ", Some("x"))]
        {
            check(|checks| assert_eq!(checks.filter("filter", text).as_deref(), name), &[]);
        }
        for text in ["name", "name=", "name=\"x", "id=x", "name!=x", "name=x AND name=y", "name IN (x)"] {
            check(|checks| assert_eq!(checks.filter("filter", text), None), &["filter"]);
        }
    }

    #[test]
    fn passwords_have_length_and_classes_and_payloads_a_size() {
        for (password, rules) in [
            ("Abcdefghijklm1", &[][..]),
            ("abcdefghijkl-1", &[]),
            ("Abcdefghijkl-m", &[]),
            ("Abcdefghijklmn", &["classes"]),
            ("Abcdefghijkl1", &["length"]),
            ("", &["length"]),
            ("Пароль-который", &[]),
        ] {
            let rules = if password.starts_with('П') { &["classes"][..] } else { rules };
            check(|checks| checks.password("password", password), rules);
        }
        check(|checks| checks.password("password", &"Aa1".repeat(86)), &["length"]);
        check(|checks| checks.payload("data", &vec![0; 262_144]), &[]);
        check(|checks| checks.payload("data", &vec![0; 262_145]), &["size"]);
        check(|checks| checks.topic("topic", ""), &["required"]);
        check(|checks| assert_eq!(checks.fingerprint("fingerprint", "AB:cd"), "abcd"), &[]);
        check(|checks| assert_eq!(checks.fingerprint("fingerprint", ""), ""), &["required"]);
    }

    #[test]
    fn a_mask_says_what_changes() {
        let allowed = [&["name", "labels"][..], &LOG_OPTIONS].concat();
        let mask = |paths: &[&str]| Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        for (given, covered, not_covered) in [
            (None, &["name", "labels"][..], &[][..]),
            (mask(&[]), &["name", "log_options.disabled"], &[]),
            (mask(&["name"]), &["name"], &["labels", "nam", "names"]),
            (mask(&["log_options"]), &["log_options", "log_options.disabled"], &["name"]),
            (mask(&["log_options.disabled"]), &["log_options.disabled"], &["log_options", "log_options.min_level"]),
        ] {
            check(
                |checks| {
                    let mask = checks.mask("update_mask", given, &allowed);
                    assert!(covered.iter().all(|field| mask.covers(field)), "{mask:?}");
                    assert!(!not_covered.iter().any(|field| mask.covers(field)), "{mask:?}");
                },
                &[],
            );
        }
        check(|checks| drop(checks.mask("update_mask", mask(&["id", "labels.a", "name"]), &allowed)), &["path"; 2]);
    }
}
