//! Topic aliases: other names that a device's topics have within its registry (contract §6.3).
//!
//! An alias is a prefix of topic names, and none is a prefix of another, so a topic name belongs to one device at most.

use super::DeviceId;
use crate::error::Violation;
use std::collections::BTreeMap;

/// How many aliases a device has at most.
pub const ALIASES_PER_DEVICE_MAX: usize = 5;
/// The greatest length of an alias and of what it stands for.
pub const ALIAS_CHARACTERS_MAX: usize = 1024;

/// The aliases that a caller asks for, with `{id}` replaced by the device's id, or every rule that they break.
///
/// Clashes with other devices' aliases are the store's to find; those among the given ones are found here.
pub fn parse_aliases(
    given: &BTreeMap<String, String>,
    device: &DeviceId,
) -> Result<BTreeMap<String, String>, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut refuse = |rule, message: String| violations.push(Violation::new("topic_aliases", rule, message));
    if given.len() > ALIASES_PER_DEVICE_MAX {
        refuse("size", format!("a device has at most {ALIASES_PER_DEVICE_MAX} aliases, {} were given", given.len()));
    }
    let mut aliases = BTreeMap::new();
    for (alias, prefix) in given {
        let prefix = prefix.replace("{id}", device.as_str());
        if let Some(problem) = problem_of_alias(alias) {
            refuse("alias", format!("the alias \"{alias}\" {problem}"));
        } else if !is_prefix_of_device(&prefix, device) {
            refuse(
                "topic_prefix",
                format!("the alias \"{alias}\" stands for \"{prefix}\"; it must be for \"$devices/{device}/…\""),
            );
        }
        aliases.insert(alias.clone(), prefix);
    }
    for (alias, other) in pairs(&aliases) {
        if clash(alias, other) {
            refuse("prefix", format!("of the aliases \"{alias}\" and \"{other}\" one is a prefix of the other"));
        }
    }
    if violations.is_empty() { Ok(aliases) } else { Err(violations) }
}

/// Whether two aliases cannot be in one registry: one is a prefix of the other.
pub fn clash(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The canonical topic that a name under an alias stands for.
pub fn resolve(alias: &str, prefix: &str, name: &str) -> Option<String> {
    name.strip_prefix(alias).map(|rest| format!("{prefix}{rest}"))
}

fn problem_of_alias(alias: &str) -> Option<&'static str> {
    if alias.is_empty() {
        Some("is empty")
    } else if alias.chars().count() > ALIAS_CHARACTERS_MAX {
        Some("is longer than 1024 characters")
    } else if alias.starts_with('$') {
        Some("begins with \"$\", which is for the server's own topics")
    } else if alias.contains(['+', '#', '\0']) {
        Some("contains \"+\", \"#\" or U+0000")
    } else {
        None
    }
}

/// `$devices/<id>` with `/` and anything after it, without wildcards.
fn is_prefix_of_device(prefix: &str, device: &DeviceId) -> bool {
    let rest = prefix.strip_prefix("$devices/").and_then(|rest| rest.strip_prefix(device.as_str()));
    let is_bounded = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_bounded && !prefix.contains(['+', '#', '\0']) && prefix.chars().count() <= ALIAS_CHARACTERS_MAX
}

fn pairs(aliases: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    aliases
        .keys()
        .enumerate()
        .flat_map(|(position, alias)| aliases.keys().skip(position + 1).map(move |other| (alias, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(of: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Vec<Violation>> {
        let given = of.iter().map(|(alias, prefix)| ((*alias).to_owned(), (*prefix).to_owned())).collect();
        parse_aliases(&given, &DeviceId::from("dev1"))
    }

    #[test]
    fn the_id_is_put_in_and_the_prefix_is_the_devices_own() {
        assert_eq!(aliases(&[("my/", "$devices/{id}/")]).unwrap()["my/"], "$devices/dev1/");
        assert_eq!(aliases(&[("commands", "$devices/dev1/commands")]).unwrap().len(), 1);
        for (alias, prefix) in [
            ("a", "$devices/dev2/"),
            ("a", "$devices/dev10/"),
            ("a", "devices/{id}/"),
            ("a", "$registries/{id}/"),
            ("a", "$monitoring/{id}/json"),
            ("a", "$devices/{id}/#"),
            ("a", ""),
            ("", "$devices/{id}/"),
            ("$a", "$devices/{id}/"),
            ("a/+", "$devices/{id}/"),
            ("#", "$devices/{id}/"),
            ("a\0", "$devices/{id}/"),
        ] {
            assert_eq!(aliases(&[(alias, prefix)]).unwrap_err().len(), 1, "{alias} → {prefix}");
        }
    }

    #[test]
    fn no_alias_is_a_prefix_of_another() {
        for (other, is_refused) in
            [("my/", true), ("my/ali", true), ("my/alias/2/", true), ("my/alias1/", false), ("my/ali/", false)]
        {
            assert_eq!(clash("my/alias/", other), is_refused, "{other}");
            let both = aliases(&[("my/alias/", "$devices/{id}/"), (other, "$devices/{id}/")]);
            assert_eq!(both.is_err(), is_refused, "{other}");
        }
    }

    #[test]
    fn there_are_five_at_most() {
        let many: Vec<(String, String)> = (0..6).map(|n| (format!("a{n}"), "$devices/{id}/".to_owned())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(alias, prefix)| (alias.as_str(), prefix.as_str())).collect();
        assert!(aliases(&many[..5]).is_ok());
        assert!(aliases(&many).is_err());
    }
}
