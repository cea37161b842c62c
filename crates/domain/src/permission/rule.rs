//! One rule: read from JSON with every mistake named, kept as it was sent, shown the same way.
//!
//! `action` is a name or a list of names. Conditions are `{ field: value }` or `{ field: { operator: value } }` with
//! `$eq`, `$ne`, `$in` and `$glob`; several are all meant. In `$glob` a `*` is any run of characters, as in policies.

use super::{Action, Field, Subject};
use crate::error::Violation;
use crate::policy::pattern::glob_matches;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most rules of one role.
const RULES_MAX: usize = 500;

/// The most values of an `$in`.
const VALUES_MAX: usize = 1000;

/// The longest value of a condition, in octets.
const VALUE_OCTETS_MAX: usize = 1024;

/// A rule that grants actions on a subject, or takes them when it is inverted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Rule {
    actions: Vec<Action>,
    inverted: bool,
    conditions: Vec<Condition>,
    document: Value,
}

/// One thing that must be so of an object for a rule to match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The field of the object.
    pub field: Field,
    /// What must hold for its value.
    pub operator: Operator,
}

/// What a condition says about a value. Character by character, upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `$eq`: it is this.
    Equals(String),
    /// `$ne`: it is not this.
    Differs(String),
    /// `$in`: it is one of these.
    OneOf(Vec<String>),
    /// `$glob`: this pattern covers it.
    Glob(String),
}

impl Rule {
    /// A rule that grants, on any object, those of these actions that are on this subject.
    pub fn allow(subject: Subject, actions: impl IntoIterator<Item = Action>) -> Self {
        let actions = actions.into_iter().filter(|action| action.subject() == subject).collect::<Vec<_>>();
        let names = actions.iter().map(|action| action.as_str()).collect::<Vec<_>>();
        let document = json!({ "subject": subject.as_str(), "action": names, "inverted": false });
        Self { actions, inverted: false, conditions: Vec::new(), document }
    }

    /// A rule that grants those of these actions that are on this subject, on objects whose field is one of these values.
    pub fn allow_where(
        subject: Subject,
        actions: impl IntoIterator<Item = Action>,
        field: Field,
        values: Vec<String>,
    ) -> Self {
        let mut rule = Self::allow(subject, actions);
        rule.document["conditions"] = json!({ field.as_str(): { "$in": values } });
        rule.conditions = vec![Condition { field, operator: Operator::OneOf(values) }];
        rule
    }

    /// The rule that this JSON is, or everything that is wrong with it. Keys that a rule does not have are dropped.
    pub fn parse(value: &Value) -> Result<Self, Vec<Violation>> {
        let mut mistakes = Mistakes { path: Vec::new(), found: Vec::new() };
        match read_rule(value, &mut mistakes) {
            Some(rule) if mistakes.found.is_empty() => Ok(rule),
            Some(_) | None => Err(mistakes.found),
        }
    }

    /// The actions that it grants or takes.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// Whether it is about this action.
    pub fn names(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// Whether it takes instead of granting.
    pub fn is_inverted(&self) -> bool {
        self.inverted
    }

    /// What must all be so for it to match.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

impl Operator {
    /// Whether it holds for this value.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equals(wanted) => value == wanted,
            Self::Differs(unwanted) => value != unwanted,
            Self::OneOf(wanted) => wanted.iter().any(|wanted| value == wanted),
            Self::Glob(pattern) => glob_matches(pattern, value),
        }
    }
}

/// The rules of a role that this JSON array is, or everything that is wrong with them. `field` is the array's name in
/// the request; each mistake names its path below it, with dots: `permissions.0.action.1`.
pub fn parse_rules(field: &str, value: &Value) -> Result<Vec<Rule>, Vec<Violation>> {
    let mut mistakes = Mistakes { path: vec![field.to_owned()], found: Vec::new() };
    let Some(array) = value.as_array() else {
        mistakes.say("type", "must be an array of rules");
        return Err(mistakes.found);
    };
    if array.len() > RULES_MAX {
        mistakes.say("too-big", format!("at most {RULES_MAX} rules"));
        return Err(mistakes.found);
    }
    let mut rules = Vec::with_capacity(array.len());
    for (index, value) in array.iter().enumerate() {
        rules.extend(mistakes.within(index.to_string(), |mistakes| read_rule(value, mistakes)));
    }
    if mistakes.found.is_empty() { Ok(rules) } else { Err(mistakes.found) }
}

impl TryFrom<Value> for Rule {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        Self::parse(&value).map_err(|mistakes| {
            mistakes
                .iter()
                .map(|mistake| format!("{}: {}", mistake.field, mistake.message))
                .collect::<Vec<_>>()
                .join(", ")
        })
    }
}

impl From<Rule> for Value {
    fn from(rule: Rule) -> Self {
        rule.document
    }
}

/// What is wrong so far, and where the reading is.
struct Mistakes {
    path: Vec<String>,
    found: Vec<Violation>,
}

impl Mistakes {
    fn say(&mut self, rule: &'static str, message: impl Into<String>) {
        self.found.push(Violation::new(self.path.join("."), rule, message));
    }

    fn within<T>(&mut self, key: impl Into<String>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.into());
        let result = read(self);
        self.path.pop();
        result
    }
}

fn read_rule(value: &Value, mistakes: &mut Mistakes) -> Option<Rule> {
    let Some(object) = value.as_object() else {
        mistakes.say("type", "must be an object with action and subject");
        return None;
    };
    let subject = mistakes.within("subject", |mistakes| read_subject(object.get("subject"), mistakes));
    let inverted = match object.get("inverted") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(inverted)) => *inverted,
        Some(_) => {
            mistakes.within("inverted", |mistakes| mistakes.say("type", "must be true or false"));
            false
        }
    };
    let subject = subject?;
    let actions = mistakes.within("action", |mistakes| read_actions(subject, object.get("action"), mistakes));
    let conditions =
        mistakes.within("conditions", |mistakes| read_conditions(subject, object.get("conditions"), mistakes));
    let mut document = Map::new();
    for key in ["subject", "action"] {
        document.insert(key.to_owned(), object.get(key).cloned().unwrap_or_default());
    }
    document.insert("inverted".to_owned(), Value::Bool(inverted));
    if let Some(sent) = object.get("conditions").filter(|_| !conditions.is_empty()) {
        document.insert("conditions".to_owned(), sent.clone());
    }
    Some(Rule { actions, inverted, conditions, document: Value::Object(document) })
}

fn read_subject(value: Option<&Value>, mistakes: &mut Mistakes) -> Option<Subject> {
    let Some(name) = value.and_then(Value::as_str) else {
        mistakes.say("type", "must be the name of a subject");
        return None;
    };
    let subject = Subject::parse(name);
    if subject.is_none() {
        let known = Subject::ALL.iter().map(|subject| subject.as_str()).collect::<Vec<_>>().join(", ");
        mistakes.say("unknown-subject", format!("{} is no subject, which are {known}", shown(name)));
    }
    subject
}

fn read_actions(subject: Subject, value: Option<&Value>, mistakes: &mut Mistakes) -> Vec<Action> {
    let known = || subject.actions().map(Action::as_str).collect::<Vec<_>>().join(", ");
    let mut actions = Vec::new();
    let mut read = |value: &Value, mistakes: &mut Mistakes| match value
        .as_str()
        .map(|name| (name, Action::parse(subject, name)))
    {
        Some((_, Some(action))) => {
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        Some((name, None)) => mistakes.say(
            "unknown-action",
            format!("{} is no action on {}, which are {}", shown(name), subject.as_str(), known()),
        ),
        None => mistakes.say("type", "must be the name of an action"),
    };
    match value {
        Some(Value::Array(names)) if names.is_empty() => mistakes.say("too-small", "must name at least one action"),
        Some(Value::Array(names)) if names.len() > VALUES_MAX => {
            mistakes.say("too-big", format!("must name at most {VALUES_MAX} actions"));
        }
        Some(Value::Array(names)) => {
            for (index, name) in names.iter().enumerate() {
                mistakes.within(index.to_string(), |mistakes| read(name, mistakes));
            }
        }
        Some(name) => read(name, mistakes),
        None => mistakes.say("type", "must be the name of an action, or an array of names"),
    }
    actions
}

fn read_conditions(subject: Subject, value: Option<&Value>, mistakes: &mut Mistakes) -> Vec<Condition> {
    let object = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(object)) => object,
        Some(_) => {
            mistakes.say("type", "must be an object of fields");
            return Vec::new();
        }
    };
    let mut conditions = Vec::new();
    for (name, value) in object {
        mistakes.within(shown_key(name), |mistakes| {
            let Some(field) = Field::parse(name).filter(|field| subject.fields().contains(field)) else {
                let known = subject.fields().iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none" } else { &known };
                let message = format!("is no field for conditions on {}, which are {known}", subject.as_str());
                return mistakes.say("unknown-field", message);
            };
            for operator in read_operators(value, mistakes) {
                conditions.push(Condition { field, operator });
            }
        });
    }
    conditions
}

fn read_operators(value: &Value, mistakes: &mut Mistakes) -> Vec<Operator> {
    let object = match value {
        Value::String(_) => return read_text(value, mistakes).map(Operator::Equals).into_iter().collect(),
        Value::Object(object) if !object.is_empty() => object,
        _ => {
            mistakes.say("type", "must be a text, or an object with at least one of $eq, $ne, $in, $glob");
            return Vec::new();
        }
    };
    let mut operators = Vec::new();
    for (name, value) in object {
        let operator = mistakes.within(shown_key(name), |mistakes| match name.as_str() {
            "$eq" => read_text(value, mistakes).map(Operator::Equals),
            "$ne" => read_text(value, mistakes).map(Operator::Differs),
            "$glob" => read_text(value, mistakes).map(Operator::Glob),
            "$in" => read_texts(value, mistakes).map(Operator::OneOf),
            _ => {
                mistakes.say("unknown-operator", "is no operator, which are $eq, $ne, $in, $glob");
                None
            }
        });
        operators.extend(operator);
    }
    operators
}

fn read_text(value: &Value, mistakes: &mut Mistakes) -> Option<String> {
    match value.as_str() {
        Some(text) if text.len() <= VALUE_OCTETS_MAX => return Some(text.to_owned()),
        Some(_) => mistakes.say("too-big", format!("must have at most {VALUE_OCTETS_MAX} octets")),
        None => mistakes.say("type", "must be a text"),
    }
    None
}

fn read_texts(value: &Value, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    let Some(array) = value.as_array().filter(|array| (1..=VALUES_MAX).contains(&array.len())) else {
        mistakes.say("type", format!("must be an array of 1 to {VALUES_MAX} texts"));
        return None;
    };
    let texts = array
        .iter()
        .enumerate()
        .map(|(index, value)| mistakes.within(index.to_string(), |mistakes| read_text(value, mistakes)));
    texts.collect::<Vec<_>>().into_iter().collect()
}

/// A name from a request, safe to show.
fn shown(name: &str) -> String {
    format!("{:?}", shown_key(name))
}

/// A key from a request, short enough for a path.
fn shown_key(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_as_it_was_sent() {
        for (sent, shown) in [
            (
                json!({"action": "read", "subject": "certificates"}),
                json!({"action": "read", "subject": "certificates", "inverted": false}),
            ),
            (
                json!({"action": ["list", "issue-ca-certificate"], "subject": "certificate-authorities", "other": 1,
                       "inverted": true, "conditions": {"name": {"$glob": "web-*"}}}),
                json!({"action": ["list", "issue-ca-certificate"], "subject": "certificate-authorities",
                       "inverted": true, "conditions": {"name": {"$glob": "web-*"}}}),
            ),
            (
                json!({"action": "read", "subject": "certificate-policies", "inverted": null, "conditions": {}}),
                json!({"action": "read", "subject": "certificate-policies", "inverted": false}),
            ),
        ] {
            let rule: Rule = serde_json::from_value(sent).unwrap();
            assert_eq!(serde_json::to_value(&rule).unwrap(), shown);
            assert_eq!(serde_json::from_value::<Rule>(shown).unwrap(), rule);
        }
    }

    #[test]
    fn every_mistake_in_a_rule_is_named_with_its_path() {
        let many = vec!["x"; VALUES_MAX + 1];
        let long = "x".repeat(VALUE_OCTETS_MAX + 1);
        for (rules, mistakes) in [
            (json!({}), &[("permissions", "type")][..]),
            (json!([1]), &[("permissions.0", "type")]),
            (json!([{}]), &[("permissions.0.subject", "type")]),
            (json!([{"subject": "secrets", "action": "read"}]), &[("permissions.0.subject", "unknown-subject")]),
            (json!([{"subject": "certificates"}]), &[("permissions.0.action", "type")]),
            (json!([{"subject": "certificates", "action": []}]), &[("permissions.0.action", "too-small")]),
            (json!([{"subject": "certificates", "action": many}]), &[("permissions.0.action", "too-big")]),
            (
                json!([{"subject": "certificates", "action": ["read", "renew", 7]}]),
                &[("permissions.0.action.1", "unknown-action"), ("permissions.0.action.2", "type")],
            ),
            (
                json!([{"subject": "certificates", "action": "read"},
                       {"subject": "pki-alerts", "action": "issue-cert"}]),
                &[("permissions.1.action", "unknown-action")],
            ),
            (
                json!([{"subject": "certificates", "action": "read", "inverted": "yes", "conditions": {
                    "name": "x", "status": {"$regex": "x", "$in": []}, "commonName": {}, "altNames": {"$in": ["a", 1]},
                    "serialNumber": {"$eq": null}, "friendlyName": {"$ne": long},
                }}]),
                &[
                    ("permissions.0.inverted", "type"),
                    ("permissions.0.conditions.altNames.$in.1", "type"),
                    ("permissions.0.conditions.commonName", "type"),
                    ("permissions.0.conditions.friendlyName.$ne", "too-big"),
                    ("permissions.0.conditions.name", "unknown-field"),
                    ("permissions.0.conditions.serialNumber.$eq", "type"),
                    ("permissions.0.conditions.status.$in", "type"),
                    ("permissions.0.conditions.status.$regex", "unknown-operator"),
                ],
            ),
            (
                json!([{"subject": "pki-alerts", "action": "read", "conditions": {"name": "x"}}]),
                &[("permissions.0.conditions.name", "unknown-field")],
            ),
            (
                json!([{"subject": "pki-alerts", "action": "read", "conditions": []}]),
                &[("permissions.0.conditions", "type")],
            ),
            (json!(vec![json!({}); RULES_MAX + 1]), &[("permissions", "too-big")]),
        ] {
            let mut found = parse_rules("permissions", &rules).unwrap_err();
            found.sort_by(|left, right| left.field.cmp(&right.field));
            let found = found.iter().map(|one| (one.field.as_str(), one.rule)).collect::<Vec<_>>();
            let mut expected = mistakes.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{rules}");
        }
    }

    #[test]
    fn an_operator_holds_for_its_values() {
        for (operator, value, expected) in [
            (Operator::Equals("a".into()), "a", true),
            (Operator::Equals("a".into()), "A", false),
            (Operator::Differs("a".into()), "b", true),
            (Operator::Differs("a".into()), "a", false),
            (Operator::OneOf(vec!["a".into(), "b".into()]), "b", true),
            (Operator::OneOf(vec!["a".into(), "b".into()]), "c", false),
            (Operator::Glob("web-*".into()), "web-1", true),
            (Operator::Glob("web-*".into()), "xweb-1", false),
        ] {
            assert_eq!(operator.holds(value), expected, "{operator:?} {value}");
        }
    }
}
