//! Reads what these calls are asked with: members of a JSON object or parameters of a query, in lowerCamelCase or in the
//! names of messages. What is wrong is collected; unknown members are left alone, unknown parameters are refused
//! (contract §2.2).

use crate::check::Checks;
use crate::rest::percent_decoded;
use serde_json::{Map, Value};
use services::registry::PageRequest;
use std::collections::BTreeMap;

/// What a call is asked with, and what is wrong with it so far.
pub(super) struct Fields {
    values: Map<String, Value>,
    is_query: bool,
    /// The prefix of field names in what is said of them.
    within: String,
    pub(super) checks: Checks,
}

impl Fields {
    /// The members of a body. An empty one is an empty object.
    pub(super) fn of_body(octets: &[u8]) -> Self {
        let mut checks = Checks::new();
        let values = match octets.iter().all(u8::is_ascii_whitespace) {
            true => Map::new(),
            false => match serde_json::from_slice(octets) {
                Ok(Value::Object(values)) => values,
                Ok(_) => {
                    checks.wrong("body", "type", "must be a JSON object");
                    Map::new()
                }
                Err(error) => {
                    checks.wrong("body", "json", &format!("is not JSON: {error}"));
                    Map::new()
                }
            },
        };
        Self { values, is_query: false, within: String::new(), checks }
    }

    /// The parameters of a query.
    pub(super) fn of_query(query: &str) -> Self {
        let (mut checks, mut values) = (Checks::new(), Map::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
            match (decoded(name), decoded(text)) {
                (Some(name), Some(text)) => drop(values.insert(name, Value::String(text))),
                _ => checks.wrong(name, "encoding", "is not percent-encoded UTF-8"),
            }
        }
        Self { values, is_query: true, within: String::new(), checks }
    }

    /// Every violation, when there is one.
    pub(super) fn finish(mut self) -> domain::Result<()> {
        if self.is_query {
            for name in self.values.keys() {
                self.checks.wrong(name, "parameter", "is no parameter of this call");
            }
        }
        self.checks.finish()
    }

    /// A text; empty when it is absent.
    pub(super) fn text(&mut self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    /// A text that may be absent.
    pub(super) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.wrong(name, "type", "must be a text");
                None
            }
        }
    }

    /// A whole number that may be absent.
    pub(super) fn number(&mut self, name: &str) -> Option<i64> {
        let number = match self.take(name)? {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(name, "type", "must be a whole number");
        }
        number
    }

    /// An object of texts; empty when it is absent.
    pub(super) fn texts(&mut self, name: &str) -> BTreeMap<String, String> {
        let object = match self.take(name) {
            None => return BTreeMap::new(),
            Some(Value::Object(object)) => object,
            Some(_) => {
                self.wrong(name, "type", "must be an object");
                return BTreeMap::new();
            }
        };
        let mut texts = BTreeMap::new();
        for (key, value) in object {
            match value {
                Value::String(text) if !key.contains('\0') && !text.contains('\0') => drop(texts.insert(key, text)),
                _ => self.wrong(name, "type", "must have texts as its values, without U+0000"),
            }
        }
        texts
    }

    /// An object with fields of its own; empty when it is absent. What is wrong with it comes back by [`Self::take_back`].
    pub(super) fn object(&mut self, name: &str) -> Fields {
        let values = match self.take(name) {
            None => Map::new(),
            Some(Value::Object(values)) => values,
            Some(_) => {
                self.wrong(name, "type", "must be an object");
                Map::new()
            }
        };
        let checks = std::mem::take(&mut self.checks);
        Fields { values, is_query: false, within: format!("{}{name}.", self.within), checks }
    }

    /// Takes back what was found out about an object.
    pub(super) fn take_back(&mut self, object: Fields) {
        self.checks = object.checks;
    }

    /// Which page is asked for.
    pub(super) fn page(&mut self) -> PageRequest {
        const PAGE_SIZE_MAX: u32 = 1000;
        let size = self.number("page_size").unwrap_or(0);
        let token = self.text("page_token");
        self.checks.page_token("page_token", &token);
        PageRequest { size: self.checks.page_size("page_size", size, PAGE_SIZE_MAX), token }
    }

    /// Notes what is wrong with a field.
    pub(super) fn wrong(&mut self, name: &str, rule: &'static str, what: &str) {
        self.checks.wrong(format!("{}{name}", self.within), rule, what);
    }

    /// A field that is there and not null, by either of its names.
    fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.values.remove(name);
        let value = self.values.remove(&camel_case(name)).or(value);
        value.filter(|value| !value.is_null())
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_two_names_and_null_is_absent() {
        let mut fields = Fields::of_body(br#"{"folderId": "a", "registry_id": "b", "csr": null, "other": [1]}"#);
        assert_eq!(
            (&*fields.text("folder_id"), &*fields.text("registry_id"), fields.optional_text("csr")),
            ("a", "b", None)
        );
        assert!(fields.finish().is_ok());
        for empty in [&b""[..], b" \n", b"{}"] {
            assert!(Fields::of_body(empty).finish().is_ok());
        }
        for body in [&b"[]"[..], b"{", b"\xff", b"1"] {
            assert!(Fields::of_body(body).finish().is_err());
        }
        let mut fields = Fields::of_body(br#"{"name": 1, "labels": {"a": 1}, "template": []}"#);
        fields.text("name");
        fields.texts("labels");
        let object = fields.object("template");
        fields.take_back(object);
        assert!(fields.finish().unwrap_err().to_string().split(", ").count() >= 3);
    }

    #[test]
    fn a_parameter_that_nobody_takes_is_refused() {
        let mut fields = Fields::of_query("pageSize=7&page_token=%61&view=FULL");
        let page = fields.page();
        assert_eq!((page.size, &*page.token), (7, "a"));
        assert!(fields.finish().is_err());
        let mut fields = Fields::of_query("page_size=x");
        fields.page();
        assert!(fields.finish().is_err());
    }
}
