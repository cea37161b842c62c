//! Which certificates an alert is about: rules that must all be met, each by one of its values.

use serde::{Deserialize, Serialize};

/// How many rules an alert has at most.
pub const FILTERS_MAX: usize = 20;
/// How many values a rule has at most.
pub const VALUES_MAX: usize = 50;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What it looks at.
    pub field: Field,
    /// How it compares.
    pub operator: Operator,
    /// What it compares with.
    pub value: FilterValue,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The slug of the profile.
    ProfileName,
    /// The common name.
    CommonName,
    /// Any of the alternative names.
    San,
    /// Whether certificates of authorities are listed, too.
    IncludeCas,
}

impl Field {
    /// The names on the wire.
    pub const NAMES: &'static [&'static str] = &["profile_name", "common_name", "san", "include_cas"];
}

/// How a rule compares; upper and lower case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The whole text.
    Equals,
    /// The whole text, where `*` stands for any text.
    Matches,
    /// A part of it.
    Contains,
    /// Its beginning.
    StartsWith,
    /// Its end.
    EndsWith,
}

impl Operator {
    /// The names on the wire.
    pub const NAMES: &'static [&'static str] = &["equals", "matches", "contains", "starts_with", "ends_with"];

    fn holds(self, text: &str, value: &str) -> bool {
        let (text, value) = (text.to_lowercase(), value.to_lowercase());
        match self {
            Self::Equals => text == value,
            Self::Matches => matches(&text, &value),
            Self::Contains => text.contains(&value),
            Self::StartsWith => text.starts_with(&value),
            Self::EndsWith => text.ends_with(&value),
        }
    }
}

/// What a rule compares with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    /// Yes or no.
    Truth(bool),
    /// A text.
    Text(String),
    /// One of these texts.
    Texts(Vec<String>),
}

impl FilterValue {
    fn any(&self, holds: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Truth(_) => false,
            Self::Text(text) => holds(text),
            Self::Texts(texts) => texts.iter().any(|text| holds(text)),
        }
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The slug of the profile.
    pub profile_name: Option<&'a str>,
    /// The common name.
    pub common_name: &'a str,
    /// The alternative names.
    pub alt_names: &'a [String],
}

/// Whether all rules are met.
pub fn are_met(filters: &[Filter], facts: Facts<'_>) -> bool {
    filters.iter().all(|filter| {
        let holds = |text: &str| filter.value.any(|value| filter.operator.holds(text, value));
        match filter.field {
            Field::ProfileName => facts.profile_name.is_some_and(holds),
            Field::CommonName => holds(facts.common_name),
            Field::San => facts.alt_names.iter().any(|name| holds(name)),
            // It widens what is listed and narrows nothing.
            Field::IncludeCas => true,
        }
    })
}

/// Whether certificates of authorities are listed, too.
pub fn includes_authorities(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| filter.field == Field::IncludeCas && filter.value == FilterValue::Truth(true))
}

/// Whether a text is like a pattern in which `*` stands for any text. Takes the first place that each part fits.
fn matches(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn met(filters: Value) -> bool {
        let filters: Vec<Filter> = serde_json::from_value(filters).unwrap();
        let names = ["www.example.com".to_owned(), "api.example.com".to_owned()];
        are_met(&filters, Facts { profile_name: Some("web"), common_name: "WWW.example.com", alt_names: &names })
    }

    #[test]
    fn rules_are_all_met_and_each_by_one_of_its_values() {
        let rule =
            |field: &str, operator: &str, value: Value| json!({"field": field, "operator": operator, "value": value});
        for (filters, expected) in [
            (json!([]), true),
            (json!([rule("common_name", "equals", json!("www.example.com"))]), true),
            (json!([rule("common_name", "equals", json!("example.com"))]), false),
            (json!([rule("common_name", "contains", json!("EXAMPLE"))]), true),
            (json!([rule("common_name", "starts_with", json!(["api.", "www."]))]), true),
            (json!([rule("common_name", "starts_with", json!(["api.", "ftp."]))]), false),
            (json!([rule("san", "ends_with", json!(".example.com"))]), true),
            (json!([rule("san", "starts_with", json!("api."))]), true),
            (json!([rule("san", "starts_with", json!("ftp."))]), false),
            (json!([rule("common_name", "matches", json!("*.example.*"))]), true),
            (json!([rule("common_name", "matches", json!("*.example"))]), false),
            (json!([rule("common_name", "matches", json!("w*w.ex*"))]), true),
            (json!([rule("common_name", "matches", json!("*"))]), true),
            (json!([rule("profile_name", "equals", json!("web")), rule("san", "contains", json!("api"))]), true),
            (json!([rule("profile_name", "equals", json!("web")), rule("san", "contains", json!("ftp"))]), false),
            (json!([rule("include_cas", "equals", json!(true))]), true),
            (json!([rule("include_cas", "equals", json!(false))]), true),
        ] {
            assert_eq!(met(filters.clone()), expected, "{filters}");
        }
    }
}
