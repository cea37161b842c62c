//! Who may do what: actions on subjects, rules that grant or take them, and the answer to "may this be done".
//!
//! A rule is `{ action, subject, inverted?, conditions? }` as it is sent and stored (contract §2.7). Rules grant;
//! nothing is allowed by silence; an inverted rule that applies wins over every grant. Roles, which are named lists of
//! rules, are in `role.rs`; the table of actions is in `permission/action.rs`, the reading of rules in
//! `permission/rule.rs`.

mod action;
mod rule;

pub use action::{Action, Field, Subject};
pub use rule::{Condition, Operator, Rule, parse_rules};

use std::collections::BTreeMap;

/// What is known of the object that an action is for, as far as conditions can ask.
///
/// A field that was never set is unknown; a field that was set to no values is known to be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFields(BTreeMap<Field, Vec<String>>);

/// Whether an action is allowed.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// It is.
    Allowed,
    /// It is not.
    Denied {
        /// The rules that name the action, in their order; none grants it, or one takes it.
        considered: Vec<&'a Rule>,
    },
}

impl ObjectFields {
    /// An object of which nothing is known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// An object with this one field.
    pub fn with(field: Field, value: impl Into<String>) -> Self {
        Self::default().and(field, [value.into()])
    }

    /// This object with the values of one more field.
    pub fn and(mut self, field: Field, values: impl IntoIterator<Item = String>) -> Self {
        self.0.insert(field, values.into_iter().collect());
        self
    }
}

/// Whether these rules, of all roles together, allow the action on this object.
///
/// Both directions fail closed. A rule that grants must hold for every value of a field and does not match an object
/// whose field is unknown or empty. A rule that takes matches with any value, and when the field is unknown.
pub fn evaluate<'a>(rules: impl IntoIterator<Item = &'a Rule>, action: Action, object: &ObjectFields) -> Verdict<'a> {
    let considered = rules.into_iter().filter(|rule| rule.names(action)).collect::<Vec<_>>();
    let granted = considered.iter().any(|rule| !rule.is_inverted() && grant_matches(rule, object));
    let taken = considered.iter().any(|rule| rule.is_inverted() && taking_matches(rule, object));
    if granted && !taken { Verdict::Allowed } else { Verdict::Denied { considered } }
}

/// Whether these rules allow the action on some object: what a list asks before it asks [`evaluate`] for each entry.
pub fn is_possible<'a>(rules: impl IntoIterator<Item = &'a Rule>, action: Action) -> bool {
    let mut granted = false;
    for rule in rules.into_iter().filter(|rule| rule.names(action)) {
        match (rule.is_inverted(), rule.conditions().is_empty()) {
            (true, true) => return false,
            (true, false) => {}
            (false, _) => granted = true,
        }
    }
    granted
}

/// Whether someone with `actor` rules may give someone `given` rules without giving more than they have.
///
/// Conservative: conditions are compared, not understood. Each granted action must be held without conditions or under
/// the same conditions, and whatever is taken from the actor must be taken from the given rules as well.
pub fn is_within(actor: &[Rule], given: &[Rule]) -> bool {
    given.iter().filter(|rule| !rule.is_inverted()).all(|grant| {
        grant.actions().iter().filter(|action| !is_taken(given, **action, &[])).all(|action| {
            let mut held = actor.iter().filter(|rule| rule.names(*action) && !rule.is_inverted());
            let mut taken = actor.iter().filter(|rule| rule.names(*action) && rule.is_inverted());
            held.any(|rule| rule.conditions().is_empty() || same_conditions(rule.conditions(), grant.conditions()))
                && taken.all(|rule| is_taken(given, *action, rule.conditions()))
        })
    })
}

/// Whether an inverted rule takes the action under these conditions, or always.
fn is_taken(rules: &[Rule], action: Action, conditions: &[Condition]) -> bool {
    rules
        .iter()
        .filter(|rule| rule.is_inverted() && rule.names(action))
        .any(|rule| rule.conditions().is_empty() || same_conditions(rule.conditions(), conditions))
}

fn same_conditions(left: &[Condition], right: &[Condition]) -> bool {
    left.iter().all(|condition| right.contains(condition)) && right.iter().all(|condition| left.contains(condition))
}

fn grant_matches(rule: &Rule, object: &ObjectFields) -> bool {
    rule.conditions().iter().all(|condition| {
        let values = object.0.get(&condition.field).map(Vec::as_slice).unwrap_or_default();
        !values.is_empty() && values.iter().all(|value| condition.operator.holds(value))
    })
}

fn taking_matches(rule: &Rule, object: &ObjectFields) -> bool {
    rule.conditions().iter().all(|condition| match object.0.get(&condition.field) {
        None => true,
        Some(values) => values.iter().any(|value| condition.operator.holds(value)),
    })
}

#[cfg(test)]
mod tests;
