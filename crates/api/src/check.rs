//! The walk of a JSON value along its [`Schema`]: a clean value, or every issue with its path.

use std::borrow::Cow;

use domain::Time;
use serde_json::{Map, Value};

use crate::schema::{Bounds, Code, Field, Form, Issue, Kind, Number, Schema, Segment, Text, Truth};

/// Whether values arrive typed or as texts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Source {
    Json,
    Texts,
}

/// The clean value, or every issue.
pub(crate) fn run(schema: &Schema, value: Value, source: Source) -> Result<Value, Vec<Issue>> {
    let mut checker = Checker { source, issues: Vec::new() };
    let clean = checker.value(schema, value, &Path::Root);
    if checker.issues.is_empty() { Ok(clean) } else { Err(checker.issues) }
}

/// The point in time that a text names: RFC 3339, RFC 2822, a date, or a date and time in UTC, as JavaScript's `Date` does.
pub fn parse_date(text: &str) -> Option<Time> {
    let millis = |timestamp: jiff::Timestamp| Time::from_millis(timestamp.as_millisecond());
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(millis(timestamp));
    }
    // Calendar arithmetic, because a timestamp ends before 9999-12-31T23:59:59Z, which says that there is no end
    // (RFC 5280 §4.1.2.5).
    let in_utc = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let civil = in_utc
        .parse::<jiff::civil::DateTime>()
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    if let Ok(civil) = civil {
        let since_epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).duration_until(civil);
        return i64::try_from(since_epoch.as_millis()).ok().map(Time::from_millis);
    }
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(millis)
}

/// Where we are, linked from the inside out so that a path costs nothing until there is an issue.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'static str),
    Name(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn segments(&self) -> Vec<Segment> {
        let (outer, segment) = match self {
            Path::Root => return Vec::new(),
            Path::Key(outer, key) => (outer, Segment::Key(Cow::Borrowed(key))),
            Path::Name(outer, name) => (outer, Segment::Key(Cow::Owned(name.to_string()))),
            Path::Index(outer, index) => (outer, Segment::Index(*index)),
        };
        let mut segments = outer.segments();
        segments.push(segment);
        segments
    }
}

struct Checker {
    source: Source,
    issues: Vec<Issue>,
}

impl Checker {
    fn value(&mut self, schema: &Schema, value: Value, path: &Path<'_>) -> Value {
        if schema.nullable && value.is_null() {
            return Value::Null;
        }
        let issues_before = self.issues.len();
        let clean = match &schema.kind {
            Kind::Object(fields) => self.object(fields, value, path),
            Kind::Text(text) => self.text(text, value, path),
            Kind::OneOf(options) => self.one_of(options, value, path),
            Kind::Number(number) => self.number(number, value, path),
            Kind::Boolean(truth) => self.boolean(*truth, value, path),
            Kind::Date => self.date(value, path),
            Kind::List { items, length } => self.list(items, *length, value, path),
            Kind::Record(values) => self.record(values, value, path),
            Kind::Any => value,
        };
        if self.issues.len() == issues_before {
            for rule in schema.rules.iter().filter(|rule| !(rule.holds)(&clean)) {
                let mut segments = path.segments();
                segments.extend(rule.path.iter().map(|key| Segment::Key(Cow::Borrowed(key))));
                self.issues.push(Issue { code: Code::Custom, path: segments, message: rule.message.into() });
            }
        }
        clean
    }

    fn object(&mut self, fields: &[Field], value: Value, path: &Path<'_>) -> Value {
        let Value::Object(mut given) = value else {
            return self.wrong_type("object", &value, path);
        };
        let mut clean = Map::new();
        for Field { name, schema, is_required } in fields {
            let path = Path::Key(path, name);
            match (given.remove_entry(*name), &schema.default) {
                (Some((key, value)), _) => {
                    let value = self.value(schema, value, &path);
                    clean.insert(key, value);
                }
                (None, Some(default)) => {
                    clean.insert((*name).to_owned(), default.clone());
                }
                (None, None) if *is_required => {
                    let code = Code::InvalidType { expected: expected(&schema.kind), received: "undefined" };
                    self.issue(code, "Required", &path);
                }
                (None, None) => {}
            }
        }
        Value::Object(clean)
    }

    fn text(&mut self, text: &Text, value: Value, path: &Path<'_>) -> Value {
        let Value::String(mut given) = value else {
            return self.wrong_type("string", &value, path);
        };
        if text.is_trimmed {
            trim(&mut given);
        }
        if text.is_lowered && given.chars().any(char::is_uppercase) {
            given = given.to_lowercase();
        }
        self.bounds("string", text.length, length(&given), path);
        if let Some(form) = text.form
            && !form.holds(&given)
        {
            self.issue(Code::InvalidString { validation: form.name() }, form.message(), path);
        }
        for check in text.checks.iter().filter(|check| !(check.holds)(&given)) {
            self.issue(Code::Custom, check.message, path);
        }
        Value::String(given)
    }

    fn one_of(&mut self, options: &'static [&'static str], value: Value, path: &Path<'_>) -> Value {
        match value {
            Value::String(given) if options.contains(&given.as_str()) => Value::String(given),
            Value::String(received) => {
                let message = format!("Must be one of {}", options.join(", "));
                self.issue(Code::InvalidEnumValue { received, options }, message, path);
                Value::Null
            }
            other => self.wrong_type(expected(&Kind::OneOf(options)), &other, path),
        }
    }

    fn number(&mut self, number: &Number, value: Value, path: &Path<'_>) -> Value {
        let given = match (&value, self.source) {
            (Value::Number(given), _) => given.as_f64(),
            // An empty text is zero to JavaScript's Number, which is what the original coerces with.
            (Value::String(given), Source::Texts) if given.trim().is_empty() => Some(0.0),
            (Value::String(given), Source::Texts) => match given.trim().parse::<f64>() {
                Ok(given) if given.is_finite() => Some(given),
                _ => {
                    let code = Code::InvalidType { expected: "number".into(), received: "nan" };
                    return self.issue(code, "Must be a number", path);
                }
            },
            _ => None,
        };
        let Some(given) = given else {
            return self.wrong_type("number", &value, path);
        };
        if number.is_whole && given.fract() != 0.0 {
            let code = Code::InvalidType { expected: "integer".into(), received: "float" };
            return self.issue(code, "Must be a whole number", path);
        }
        let bounds = if number.is_whole { number.bounds.within_safe_integers() } else { number.bounds };
        if bounds.min.is_some_and(|min| given < min as f64) || bounds.max.is_some_and(|max| given > max as f64) {
            // Rounded outwards: what breaks the bound stays outside of it.
            let outside = if given < 0.0 { given.floor() } else { given.ceil() };
            self.bounds("number", bounds, outside as i64, path);
            return Value::Null;
        }
        if number.is_whole { Value::from(given as i64) } else { Value::from(given) }
    }

    fn boolean(&mut self, truth: Truth, value: Value, path: &Path<'_>) -> Value {
        let text_counts = truth == Truth::JsonOrText || self.source == Source::Texts;
        match value.as_str() {
            Some("true") if text_counts => Value::Bool(true),
            Some("false") if text_counts => Value::Bool(false),
            _ if value.is_boolean() => value,
            _ => self.wrong_type("boolean", &value, path),
        }
    }

    fn date(&mut self, value: Value, path: &Path<'_>) -> Value {
        let Value::String(given) = value else {
            return self.wrong_type("string", &value, path);
        };
        match parse_date(given.trim()) {
            Some(time) => Value::from(time.millis()),
            None => {
                let message = "Must be a date such as 2030-01-31 or 2030-01-31T12:00:00Z";
                self.issue(Code::InvalidString { validation: "datetime" }, message, path)
            }
        }
    }

    fn list(&mut self, items: &Schema, length: Bounds, value: Value, path: &Path<'_>) -> Value {
        let given = match value {
            Value::Array(given) => given,
            Value::String(single) if self.source == Source::Texts => vec![Value::String(single)],
            other => return self.wrong_type("array", &other, path),
        };
        self.bounds("array", length, given.len() as i64, path);
        let clean = given.into_iter().enumerate().map(|(at, item)| self.value(items, item, &Path::Index(path, at)));
        Value::Array(clean.collect())
    }

    fn record(&mut self, values: &Schema, value: Value, path: &Path<'_>) -> Value {
        let Value::Object(mut given) = value else {
            return self.wrong_type("object", &value, path);
        };
        for (name, value) in given.iter_mut() {
            *value = self.value(values, value.take(), &Path::Name(path, name));
        }
        Value::Object(given)
    }

    fn bounds(&mut self, kind: &'static str, bounds: Bounds, given: i64, path: &Path<'_>) {
        if let Some(minimum) = bounds.min.filter(|min| given < *min) {
            let code = Code::TooSmall { r#type: kind, minimum, inclusive: true, exact: false };
            self.issue(code, format!("Must be at least {minimum}{}", unit(kind, minimum)), path);
        }
        if let Some(maximum) = bounds.max.filter(|max| given > *max) {
            let code = Code::TooBig { r#type: kind, maximum, inclusive: true, exact: false };
            self.issue(code, format!("Must be at most {maximum}{}", unit(kind, maximum)), path);
        }
    }

    fn wrong_type(&mut self, expected: impl Into<Cow<'static, str>>, value: &Value, path: &Path<'_>) -> Value {
        let (expected, received) = (expected.into(), received(value));
        let message = format!("Expected {expected}, received {received}");
        self.issue(Code::InvalidType { expected, received }, message, path)
    }

    fn issue(&mut self, code: Code, message: impl Into<Cow<'static, str>>, path: &Path<'_>) -> Value {
        self.issues.push(Issue { code, path: path.segments(), message: message.into() });
        Value::Null
    }
}

impl Bounds {
    // 2^53 - 1, beyond which JSON numbers of most clients are not whole numbers any more.
    fn within_safe_integers(self) -> Self {
        const SAFE: i64 = 9_007_199_254_740_991;
        Self { min: self.min.or(Some(-SAFE)), max: self.max.or(Some(SAFE)) }
    }
}

impl Form {
    fn holds(self, text: &str) -> bool {
        let only = |allowed: fn(u8) -> bool| text.bytes().all(allowed);
        match self {
            Self::Uuid => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
            Self::Email => text.split_once('@').is_some_and(|(mailbox, host)| {
                let is_plain = |part: &str| !part.is_empty() && part.chars().all(|c| !c.is_whitespace() && c != '@');
                is_plain(mailbox) && is_plain(host) && host.contains('.') && !host.ends_with('.')
            }),
            Self::Slug => text
                .split('-')
                .all(|word| !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))),
            Self::ProfileSlug => only(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            Self::TemplateField => {
                only(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'*' | b'.' | b'@' | b'-' | b'\\'))
            }
            Self::Country => text.len() == 2 && only(|byte| byte.is_ascii_uppercase()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Email => "email",
            Self::Slug | Self::ProfileSlug | Self::TemplateField | Self::Country => "regex",
        }
    }

    /// What it is, for the documentation.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Uuid => "UUID",
            Self::Email => "e-mail address",
            Self::Slug | Self::ProfileSlug => "slug",
            Self::TemplateField => "plain text",
            Self::Country => "country code",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Uuid => "Must be a UUID",
            Self::Email => "Must be an e-mail address",
            Self::Slug => "Must be a slug: lower-case letters, digits and single hyphens between them",
            Self::ProfileSlug => "Must consist of lower-case letters, digits and hyphens",
            Self::TemplateField => "Must consist of letters, digits, spaces and * . @ - \\",
            Self::Country => "Must be a country code of two capital letters",
        }
    }
}

/// The type that a missing or mistyped value is told to have; the options of an enumeration, quoted.
fn expected(kind: &Kind) -> Cow<'static, str> {
    match kind {
        Kind::Object(_) | Kind::Record(_) => "object".into(),
        Kind::Text(_) | Kind::Date => "string".into(),
        Kind::OneOf(options) => format!("'{}'", options.join("' | '")).into(),
        Kind::Number(_) => "number".into(),
        Kind::Boolean(_) => "boolean".into(),
        Kind::List { .. } => "array".into(),
        Kind::Any => "any".into(),
    }
}

/// What a bound of this type counts.
fn unit(kind: &str, count: i64) -> &'static str {
    match (kind, count) {
        ("string", 1) => " character",
        ("string", _) => " characters",
        ("array", 1) => " item",
        ("array", _) => " items",
        _ => "",
    }
}

fn received(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn trim(text: &mut String) {
    text.truncate(text.trim_end().len());
    let lead = text.len() - text.trim_start().len();
    text.drain(..lead);
}

/// Length as JavaScript counts it: UTF-16 units.
fn length(text: &str) -> i64 {
    if text.is_ascii() { text.len() as i64 } else { text.encode_utf16().count() as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::*;
    use serde_json::json;

    /// A shape with one member of each kind.
    fn everything() -> Schema {
        object([
            required("profileId", uuid()),
            optional("name", slug(2, 8)),
            optional("commonName", template_field()),
            optional("country", country()),
            optional("contact", email()),
            optional("secret", verbatim()),
            optional("ttl", text().at_least(1).must("Must be a duration above zero", |text| text.ends_with('d'))),
            optional("notAfter", date()),
            optional("count", integer().at_least(-1).at_most(30)),
            optional("share", number()),
            optional("enabled", boolean()),
            optional("withoutRoot", boolean_or_text()),
            optional("limit", integer().default(json!(25))),
            optional("usages", list(one_of(&["crl_sign", "key_agreement"])).at_least(1).at_most(2)),
            optional("altNames", list(object([required("value", text().at_least(1))]))),
            optional("labels", record(text().at_most(3))),
            optional(
                "defaults",
                object([optional("a", any()), optional("b", any())])
                    .nullable()
                    .rule(&["b"], "b needs a", |it| it.get("b").is_none() || it.get("a").is_some()),
            ),
        ])
        .rule(&[], "ttl and notAfter exclude each other", |it| it.get("ttl").is_none() || it.get("notAfter").is_none())
    }

    const ID: &str = "0198c5f2-7b1e-7c30-9d41-5a6f0e2b8c17";

    /// Checks the body made of a right `profileId` and these members; `Ok` names the clean members beside the default.
    fn check(members: Value, expected: Result<Value, Value>) {
        let with_id = |mut members: Value| {
            members["profileId"] = json!(ID);
            members
        };
        let found = everything().check(with_id(members.clone()));
        match expected {
            Ok(mut clean) => {
                clean["limit"] = clean.get("limit").cloned().unwrap_or(json!(25));
                assert_eq!(found, Ok(with_id(clean)), "{members}");
            }
            Err(issues) => {
                let mut found = json!(found.expect_err(&format!("{members} is refused")));
                for issue in found.as_array_mut().expect("a list") {
                    let words = issue.as_object_mut().expect("an object").remove("message").expect("it has words");
                    assert!(words.as_str().is_some_and(|words| !words.is_empty()));
                }
                assert_eq!(found, issues, "{members}");
            }
        }
    }

    #[test]
    fn what_fits_comes_out_clean() {
        for (members, clean) in [
            (json!({}), json!({})),
            (json!({"unknown": {"deep": [1]}}), json!({})),
            (json!({"name": " Web-1 \n"}), json!({"name": "web-1"})),
            (json!({"commonName": "*.a-b.example"}), json!({"commonName": "*.a-b.example"})),
            (json!({"country": "DE", "contact": "a@b.example"}), json!({"country": "DE", "contact": "a@b.example"})),
            (json!({"secret": " s "}), json!({"secret": " s "})),
            (json!({"notAfter": "1970-01-02"}), json!({"notAfter": 86_400_000})),
            (json!({"count": 30, "share": 0.5}), json!({"count": 30, "share": 0.5})),
            (json!({"count": 2.0}), json!({"count": 2})),
            (json!({"withoutRoot": "true", "enabled": false}), json!({"withoutRoot": true, "enabled": false})),
            (json!({"limit": 3}), json!({"limit": 3})),
            (json!({"usages": ["crl_sign"]}), json!({"usages": ["crl_sign"]})),
            (json!({"altNames": [{"value": " a ", "x": 1}]}), json!({"altNames": [{"value": "a"}]})),
            (json!({"labels": {"any": " abc "}}), json!({"labels": {"any": "abc"}})),
            (json!({"defaults": null}), json!({"defaults": null})),
            (json!({"defaults": {"a": [1, {"b": null}]}}), json!({"defaults": {"a": [1, {"b": null}]}})),
        ] {
            check(members, Ok(clean));
        }
    }

    #[test]
    fn each_kind_of_issue_has_its_code_path_and_members() {
        let too_small = |kind: &str, minimum: i64, path: Value| json!({"code": "too_small", "type": kind, "minimum": minimum, "inclusive": true, "exact": false, "path": path});
        let too_big = |kind: &str, maximum: i64, path: Value| json!({"code": "too_big", "type": kind, "maximum": maximum, "inclusive": true, "exact": false, "path": path});
        let wrong = |expected: &str, received: &str, path: Value| json!({"code": "invalid_type", "expected": expected, "received": received, "path": path});
        let form =
            |validation: &str, path: Value| json!({"code": "invalid_string", "validation": validation, "path": path});
        let custom = |path: Value| json!({"code": "custom", "path": path});
        for (members, issues) in [
            (json!({"name": null}), json!([wrong("string", "null", json!(["name"]))])),
            (json!({"name": "a"}), json!([too_small("string", 2, json!(["name"]))])),
            (json!({"name": "a--b"}), json!([form("regex", json!(["name"]))])),
            (json!({"name": "-ab"}), json!([form("regex", json!(["name"]))])),
            (json!({"commonName": "a".repeat(101)}), json!([too_big("string", 100, json!(["commonName"]))])),
            (json!({"commonName": "a_b"}), json!([form("regex", json!(["commonName"]))])),
            (json!({"country": "de"}), json!([form("regex", json!(["country"]))])),
            (json!({"contact": "a@b@c.d"}), json!([form("email", json!(["contact"]))])),
            (json!({"ttl": " "}), json!([too_small("string", 1, json!(["ttl"])), custom(json!(["ttl"]))])),
            (json!({"notAfter": "soon"}), json!([form("datetime", json!(["notAfter"]))])),
            (json!({"notAfter": 1}), json!([wrong("string", "number", json!(["notAfter"]))])),
            (json!({"count": "3"}), json!([wrong("number", "string", json!(["count"]))])),
            (json!({"count": 1.5}), json!([wrong("integer", "float", json!(["count"]))])),
            (json!({"count": -2}), json!([too_small("number", -1, json!(["count"]))])),
            (json!({"count": 1e300}), json!([too_big("number", 30, json!(["count"]))])),
            (json!({"limit": 1e300}), json!([too_big("number", 9_007_199_254_740_991, json!(["limit"]))])),
            (json!({"enabled": "true"}), json!([wrong("boolean", "string", json!(["enabled"]))])),
            (json!({"withoutRoot": "yes"}), json!([wrong("boolean", "string", json!(["withoutRoot"]))])),
            (json!({"usages": []}), json!([too_small("array", 1, json!(["usages"]))])),
            (
                json!({"usages": ["crl_sign", "x", 7]}),
                json!([
                    too_big("array", 2, json!(["usages"])),
                    {"code": "invalid_enum_value", "received": "x", "options": ["crl_sign", "key_agreement"],
                     "path": ["usages", 1]},
                    wrong("'crl_sign' | 'key_agreement'", "number", json!(["usages", 2])),
                ]),
            ),
            (
                json!({"altNames": [{"value": "a"}, {}, []]}),
                json!([
                    wrong("string", "undefined", json!(["altNames", 1, "value"])),
                    wrong("object", "array", json!(["altNames", 2])),
                ]),
            ),
            (json!({"labels": {"k": "long"}}), json!([too_big("string", 3, json!(["labels", "k"]))])),
            (json!({"defaults": {"b": 1}}), json!([custom(json!(["defaults", "b"]))])),
            (json!({"ttl": "1d", "notAfter": "2030-01-01"}), json!([custom(json!([]))])),
            // Rules over several members wait until each member is right.
            (
                json!({"ttl": "1d", "notAfter": "2030-01-01", "count": []}),
                json!([wrong("number", "array", json!(["count"]))]),
            ),
        ] {
            check(members, Err(issues));
        }
    }

    #[test]
    fn what_is_missing_is_called_required() {
        for (body, path) in [(json!({}), json!(["profileId"])), (json!(null), json!([]))] {
            let issues = json!(everything().check(body.clone()).expect_err("it is refused"));
            let words = if body.is_null() { "Expected object, received null" } else { "Required" };
            assert_eq!(issues[0]["message"], words);
            assert_eq!(issues[0]["path"], path);
        }
        assert_eq!(
            everything().check(json!({"profileId": ID.replace('-', "")})).expect_err("it is refused")[0].code,
            Code::InvalidString { validation: "uuid" }
        );
    }

    #[test]
    fn texts_of_a_query_are_read_as_the_numbers_and_truth_values_they_spell() {
        let schema = object([
            optional("limit", integer().at_least(1).at_most(100)),
            optional("active", boolean()),
            optional("ids", list(text())),
            optional("search", text()),
        ]);
        for (given, clean) in [
            (
                json!({"limit": "20", "active": "true", "ids": "a"}),
                Ok(json!({"limit": 20, "active": true, "ids": ["a"]})),
            ),
            (json!({"ids": ["a", "b"], "limit": "1e2"}), Ok(json!({"ids": ["a", "b"], "limit": 100}))),
            (json!({"limit": "ten"}), Err("nan")),
            (json!({"limit": "inf"}), Err("nan")),
            (json!({"limit": ""}), Err("too_small")),
            (json!({"limit": ["1", "2"]}), Err("array")),
            (json!({"active": "1"}), Err("string")),
            (json!({"search": ["a", "b"]}), Err("array")),
        ] {
            let found = schema.check_texts(given.clone()).map_err(|issues| json!(issues).to_string());
            match clean {
                Ok(clean) => assert_eq!(found, Ok(clean)),
                Err(word) => assert!(found.expect_err("it is refused").contains(&format!("\"{word}\"")), "{given}"),
            }
        }
    }

    #[test]
    fn dates_are_read_as_javascript_reads_them() {
        let noon = Some(1_896_091_200_000);
        for (text, millis) in [
            ("2030-01-31T12:00:00Z", noon),
            ("2030-01-31T12:00:00.000Z", noon),
            ("2030-01-31T14:00:00+02:00", noon),
            ("2030-01-31 12:00:00Z", noon),
            ("2030-01-31T12:00:00", noon),
            ("2030-01-31T12:00", noon),
            ("Thu, 31 Jan 2030 12:00:00 GMT", noon),
            ("2030-01-31", noon.map(|millis| millis - 43_200_000)),
            ("2030-02-30", None),
            ("2030-01-31T25:00:00Z", None),
            ("90d", None),
            ("", None),
            ("999999999999-01-01", None),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799_000)),
            ("9999-12-31", Some(253_402_214_400_000)),
            ("10000-01-01", None),
        ] {
            assert_eq!(parse_date(text).map(Time::millis), millis, "{text}");
        }
    }

    #[test]
    fn a_patch_has_no_required_members_and_no_defaults() {
        let patch = everything().partial();
        assert_eq!(patch.check(json!({})), Ok(json!({})));
        assert_eq!(everything().without(&["profileId", "limit"]).check(json!({"limit": 1})), Ok(json!({})));

        #[derive(serde::Deserialize)]
        struct Patch {
            #[serde(default, deserialize_with = "present")]
            defaults: Option<Option<Value>>,
        }
        let parsed = |body: Value| patch.parse::<Patch>(body).expect("it fits").defaults;
        assert_eq!(parsed(json!({})), None);
        assert_eq!(parsed(json!({"defaults": null})), Some(None));
        assert_eq!(parsed(json!({"defaults": {}})), Some(Some(json!({}))));
    }

    #[test]
    fn a_type_that_does_not_fit_its_schema_is_a_failure_of_ours() {
        let error = object([optional("count", integer())]).parse::<Vec<u8>>(json!({})).expect_err("it does not fit");
        assert!(matches!(error, crate::error::ApiError::Said(domain::Error::Failed(_))), "{error:?}");
    }
}
