//! The shapes of requests and replies: one table that checks what comes in and documents it.
//!
//! A [`Schema`] reads like the table of an endpoint. [`Schema::check`] takes a JSON value apart and gives back a clean one
//! (trimmed, defaults filled, unknown keys dropped, dates as [`domain::Time`]) or every issue with its path, in the shape
//! of contract §1.3. Shapes only: nothing here knows a profile, a policy or a caller.
//!
//! ```
//! use api::schema::*;
//! use serde_json::json;
//!
//! let schema = object([
//!     required("profileId", uuid()),
//!     optional("commonName", template_field()),
//!     optional("limit", integer().at_least(1).at_most(100).default(json!(20))),
//! ])
//! .rule(&[], "limit and commonName exclude each other", |it| it.get("commonName").is_none() || it["limit"] == 20);
//! assert!(schema.check(json!({"profileId": "x"})).is_err());
//! ```

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::check::{self, Source};
use crate::error::ApiError;

pub use crate::check::parse_date;

/// The shape of one value.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) description: &'static str,
    pub(crate) example: Option<Value>,
    pub(crate) rules: Vec<Rule>,
}

/// A named member of an object.
#[derive(Clone, Debug)]
pub struct Field {
    pub(crate) name: &'static str,
    pub(crate) schema: Schema,
    pub(crate) is_required: bool,
}

/// One thing that is wrong with a value, in the shape of contract §1.3.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Issue {
    /// What kind of wrong, with the members that belong to it.
    #[serde(flatten)]
    pub code: Code,
    /// Where: keys and indices from the outside in; empty for the whole value.
    pub path: Vec<Segment>,
    /// The same in words.
    pub message: Cow<'static, str>,
}

/// The kinds of issue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Code {
    /// Another JSON type, or nothing.
    InvalidType {
        /// The type that is asked for.
        expected: Cow<'static, str>,
        /// The type that came, `undefined` when nothing did.
        received: &'static str,
    },
    /// A text that is not one of the listed ones.
    InvalidEnumValue {
        /// What came.
        received: String,
        /// What is accepted.
        options: &'static [&'static str],
    },
    /// A text that does not have the form.
    InvalidString {
        /// The name of the form.
        validation: &'static str,
    },
    /// Below the lower bound.
    TooSmall {
        /// `string`, `number` or `array`.
        r#type: &'static str,
        /// The lower bound.
        minimum: i64,
        /// Whether the bound itself is accepted: always.
        inclusive: bool,
        /// Whether exactly the bound is asked for: never.
        exact: bool,
    },
    /// Above the upper bound.
    TooBig {
        /// `string`, `number` or `array`.
        r#type: &'static str,
        /// The upper bound.
        maximum: i64,
        /// Whether the bound itself is accepted: always.
        inclusive: bool,
        /// Whether exactly the bound is asked for: never.
        exact: bool,
    },
    /// A rule in words.
    Custom,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Segment {
    /// A member of an object.
    Key(Cow<'static, str>),
    /// An item of a list, from 0.
    Index(usize),
}

/// What a value is, with its bounds.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Object(Vec<Field>),
    Text(Text),
    OneOf(&'static [&'static str]),
    Number(Number),
    Boolean(Truth),
    Date,
    List { items: Box<Schema>, length: Bounds },
    Record(Box<Schema>),
    Any,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) length: Bounds,
    pub(crate) form: Option<Form>,
    pub(crate) is_trimmed: bool,
    pub(crate) is_lowered: bool,
    pub(crate) checks: Vec<Check>,
}

#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub(crate) is_whole: bool,
    pub(crate) bounds: Bounds,
}

/// Which spellings of a truth value are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Truth {
    Json,
    JsonOrText,
}

/// Inclusive bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
}

/// The named forms of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Uuid,
    Email,
    Slug,
    ProfileSlug,
    TemplateField,
    Country,
}

/// A rule of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) message: &'static str,
    pub(crate) holds: fn(&str) -> bool,
}

/// A rule over several members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) path: &'static [&'static str],
    pub(crate) message: &'static str,
    pub(crate) holds: fn(&Value) -> bool,
}

/// An object with these members; others are dropped silently.
pub fn object<const N: usize>(fields: [Field; N]) -> Schema {
    Schema::of(Kind::Object(fields.into()))
}

/// A member that has to be there.
pub fn required(name: &'static str, schema: Schema) -> Field {
    Field { name, schema, is_required: true }
}

/// A member that may be absent (but not `null`, unless it is nullable). With a default it is always there afterwards.
pub fn optional(name: &'static str, schema: Schema) -> Field {
    Field { name, schema, is_required: false }
}

/// Any text, with white space at its ends removed.
pub fn text() -> Schema {
    Schema::of(Kind::Text(Text { is_trimmed: true, ..Text::default() }))
}

/// A text that is looked for in others: at most 255 characters, since databases bound the patterns that are made of it.
pub fn search_text() -> Schema {
    text().at_most(255)
}

/// Any text, exactly as it is sent: passwords, secrets.
pub fn verbatim() -> Schema {
    Schema::of(Kind::Text(Text::default()))
}

/// A UUID in its hyphenated form.
pub fn uuid() -> Schema {
    text().form(Form::Uuid)
}

/// An e-mail address, loosely.
pub fn email() -> Schema {
    text().form(Form::Email)
}

/// A slug (contract §1.7): lower-cased, then `a-z`, `0-9` and single inner hyphens, between these lengths.
pub fn slug(min: usize, max: usize) -> Schema {
    let mut schema = text().form(Form::Slug).at_least(min as i64).at_most(max as i64);
    if let Kind::Text(text) = &mut schema.kind {
        text.is_lowered = true;
    }
    schema
}

/// The slug of a profile (contract §1.7): `^[a-z0-9-]+$`, 1 to 255 characters.
pub fn profile_slug() -> Schema {
    text().form(Form::ProfileSlug).at_least(1).at_most(255)
}

/// The "template regex field" (contract §5.1): 1 to 100 of letters, digits, space, `*`, `.`, `@`, `-` and `\`.
pub fn template_field() -> Schema {
    text().form(Form::TemplateField).at_least(1).at_most(100)
}

/// A country code of two capital letters.
pub fn country() -> Schema {
    text().form(Form::Country)
}

/// A point in time as text; the clean value is the number that [`domain::Time`] deserializes from.
pub fn date() -> Schema {
    Schema::of(Kind::Date)
}

/// One of these texts.
pub fn one_of(options: &'static [&'static str]) -> Schema {
    Schema::of(Kind::OneOf(options))
}

/// A whole number.
pub fn integer() -> Schema {
    Schema::of(Kind::Number(Number { is_whole: true, bounds: Bounds::default() }))
}

/// Any number.
pub fn number() -> Schema {
    Schema::of(Kind::Number(Number { is_whole: false, bounds: Bounds::default() }))
}

/// `true` or `false`.
pub fn boolean() -> Schema {
    Schema::of(Kind::Boolean(Truth::Json))
}

/// `true` or `false`, or one of them as text.
pub fn boolean_or_text() -> Schema {
    Schema::of(Kind::Boolean(Truth::JsonOrText))
}

/// A list of such items.
pub fn list(items: Schema) -> Schema {
    Schema::of(Kind::List { items: Box::new(items), length: Bounds::default() })
}

/// An object with any keys and such values.
pub fn record(values: Schema) -> Schema {
    Schema::of(Kind::Record(Box::new(values)))
}

/// Any JSON.
pub fn any() -> Schema {
    Schema::of(Kind::Any)
}

impl Schema {
    fn of(kind: Kind) -> Self {
        Self { kind, nullable: false, default: None, description: "", example: None, rules: Vec::new() }
    }

    fn form(mut self, form: Form) -> Self {
        if let Kind::Text(text) = &mut self.kind {
            text.form = Some(form);
        }
        self
    }

    /// The least value of a number, length of a text or number of items of a list.
    pub fn at_least(mut self, min: i64) -> Self {
        if let Some(bounds) = self.bounds() {
            bounds.min = Some(min);
        }
        self
    }

    /// The greatest value of a number, length of a text or number of items of a list.
    pub fn at_most(mut self, max: i64) -> Self {
        if let Some(bounds) = self.bounds() {
            bounds.max = Some(max);
        }
        self
    }

    fn bounds(&mut self) -> Option<&mut Bounds> {
        match &mut self.kind {
            Kind::Text(text) => Some(&mut text.length),
            Kind::Number(number) => Some(&mut number.bounds),
            Kind::List { length, .. } => Some(length),
            Kind::Object(_) | Kind::OneOf(_) | Kind::Boolean(_) | Kind::Date | Kind::Record(_) | Kind::Any => None,
        }
    }

    /// `null` is accepted too, and stays `null`.
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// What an absent member becomes: a clean value.
    pub fn default(mut self, value: Value) -> Self {
        self.default = Some(value);
        self
    }

    /// What it is, for the documentation.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// A value to show in the documentation.
    pub fn example(mut self, example: impl Into<Value>) -> Self {
        self.example = Some(example.into());
        self
    }

    /// A rule of a text that has no name here; breaking it is a `custom` issue.
    pub fn must(mut self, message: &'static str, holds: fn(&str) -> bool) -> Self {
        if let Kind::Text(text) = &mut self.kind {
            text.checks.push(Check { message, holds });
        }
        self
    }

    /// A rule over several members, asked of the clean value once each member by itself is right.
    /// Breaking it is a `custom` issue at `path`, counted from this value.
    pub fn rule(mut self, path: &'static [&'static str], message: &'static str, holds: fn(&Value) -> bool) -> Self {
        self.rules.push(Rule { path, message, holds });
        self
    }

    /// This object with more members; one of the same name is replaced.
    pub fn with<const N: usize>(mut self, more: [Field; N]) -> Self {
        if let Kind::Object(fields) = &mut self.kind {
            fields.retain(|field| more.iter().all(|new| new.name != field.name));
            fields.extend(more);
        }
        self
    }

    /// This object without these members.
    pub fn without(mut self, names: &[&str]) -> Self {
        if let Kind::Object(fields) = &mut self.kind {
            fields.retain(|field| !names.contains(&field.name));
        }
        self
    }

    /// This object with every member optional and without defaults or rules: the shape of a PATCH.
    pub fn partial(mut self) -> Self {
        if let Kind::Object(fields) = &mut self.kind {
            for field in fields {
                field.is_required = false;
                field.schema.default = None;
            }
        }
        self.rules.clear();
        self
    }

    /// The clean value, or every issue.
    pub fn check(&self, value: Value) -> Result<Value, Vec<Issue>> {
        check::run(self, value, Source::Json)
    }

    /// The clean value of a query or form, whose values are texts: numbers and truth values are read from their text, and
    /// one text is a list of one.
    pub fn check_texts(&self, value: Value) -> Result<Value, Vec<Issue>> {
        check::run(self, value, Source::Texts)
    }

    /// Checks and deserializes.
    ///
    /// # Errors
    /// 422 with every issue; 500 when the schema promises what `T` does not take.
    pub fn parse<T: DeserializeOwned>(&self, value: Value) -> Result<T, ApiError> {
        decode(self.check(value)?)
    }
}

/// Deserializes a clean value.
///
/// # Errors
/// Failed: the schema and the type do not fit each other, which is a defect of ours.
pub fn decode<T: DeserializeOwned>(clean: Value) -> Result<T, ApiError> {
    serde_json::from_value(clean).map_err(|error| {
        domain::Error::failed_because(
            format!("{} does not take what its schema lets through", std::any::type_name::<T>()),
            error,
        )
        .into()
    })
}

/// Tells `null` from absent in a PATCH: `#[serde(default, deserialize_with = "present")] description: Option<Option<String>>`
/// is `None` when absent and `Some(None)` when `null`.
///
/// # Errors
/// Those of `T`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
