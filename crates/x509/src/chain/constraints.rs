//! Names held against the name constraints of the authorities above them (RFC 5280 §4.2.1.10, §6.1.3 (b) and (c)).
//!
//! The same check serves the validation of a chain and the issuance of a certificate: nothing here reads a certificate.
//! Every authority's constraints are applied on their own, which is the intersection that RFC 5280 §6.1.4 (g) asks for.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::name_match::ComparableName;
use crate::dns_name::DnsName;
use crate::extension::{EmailSubtree, NameConstraints, Subtree, UriSubtree};
use crate::general_name::{EmailAddress, GeneralName, choice};
use crate::name::{AttributeType, DistinguishedName};
use crate::uri::{Uri, UriHost};

/// The most comparisons of one name with one subtree that a validation makes.
pub const COMPARISONS_MAX: u32 = 250_000;

/// A name that the constraints of an authority do not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintViolation {
    /// Which of the authorities, as an index into the stack.
    pub authority: usize,
    /// The name with its kind, cut off when it is long: `DNS name "a.example"`.
    pub name: String,
    /// What the constraints say about it.
    pub kind: ViolationKind,
}

/// Why a name is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// It is in this excluded subtree, or for a wildcard: a name that it stands for is.
    Excluded(String),
    /// It is in none of the permitted subtrees of its kind, which are these.
    NotPermitted(String),
    /// Names of its kind are constrained, and the name or the constraint is one that cannot be compared.
    NotComparable(&'static str),
    /// There are more names and subtrees than [`COMPARISONS_MAX`] allows to compare.
    TooManyComparisons,
}

/// Holds a subject and its alternative names against the constraints of all authorities above it, in any order. An
/// e-mail address in the subject counts as a mailbox also where alternative names are there: some readers take it so.
pub fn check_names(
    stack: &[NameConstraints],
    subject: &DistinguishedName,
    alternative_names: &[GeneralName],
) -> Result<(), ConstraintViolation> {
    let mut comparisons = Comparisons::new();
    let names = ConstrainedName::all(subject, alternative_names.iter());
    for (authority, constraints) in stack.iter().enumerate() {
        let constraints = PreparedConstraints::new(constraints);
        constraints.check(&names, &mut comparisons).map_err(|(name, kind)| ConstraintViolation {
            authority,
            name,
            kind,
        })?;
    }
    Ok(())
}

/// How many comparisons are left.
#[derive(Clone, Debug)]
pub(super) struct Comparisons {
    left: u32,
}

impl Comparisons {
    pub(super) fn new() -> Self {
        Self { left: COMPARISONS_MAX }
    }

    fn spend(&mut self) -> Result<(), ViolationKind> {
        self.left = self.left.checked_sub(1).ok_or(ViolationKind::TooManyComparisons)?;
        Ok(())
    }
}

/// A name of a certificate in the form in which it is compared.
pub(super) enum ConstrainedName<'a> {
    Dns(&'a DnsName),
    Ip(IpAddr),
    Email(Cow<'a, EmailAddress>),
    /// An e-mail attribute of a subject that is no mailbox.
    BadEmail(&'a str),
    Uri(&'a Uri),
    Directory(&'a DistinguishedName, ComparableName),
    /// A kind that is not interpreted: its identifier octet.
    Other(u8, &'a GeneralName),
}

impl<'a> ConstrainedName<'a> {
    /// All names that constraints apply to.
    pub(super) fn all(
        subject: &'a DistinguishedName,
        alternative_names: impl Iterator<Item = &'a GeneralName>,
    ) -> Vec<Self> {
        let mut names: Vec<Self> = alternative_names.map(Self::general).collect();
        // RFC 5280 §4.2.1.10: directoryName applies to a subject that is not empty.
        if !subject.is_empty() {
            names.push(Self::Directory(subject, ComparableName::new(subject)));
        }
        for (kind, value) in subject.attributes() {
            if kind == AttributeType::EmailAddress {
                names.push(match EmailAddress::parse(value) {
                    Ok(address) => Self::Email(Cow::Owned(address)),
                    Err(_) => Self::BadEmail(value),
                });
            }
        }
        names
    }

    fn general(name: &'a GeneralName) -> Self {
        match name {
            GeneralName::Dns(dns) => Self::Dns(dns),
            GeneralName::Ip(address) => Self::Ip(address.address()),
            GeneralName::Email(address) => Self::Email(Cow::Borrowed(address)),
            GeneralName::Uri(uri) => Self::Uri(uri),
            GeneralName::Directory(directory) => Self::Directory(directory, ComparableName::new(directory)),
            GeneralName::RegisteredId(_) => Self::Other(choice::REGISTERED_ID, name),
            GeneralName::Other { tag, .. } => Self::Other(*tag, name),
        }
    }
}

/// Constraints whose directory names are ready to be compared.
pub(super) struct PreparedConstraints<'a> {
    permitted: Vec<PreparedSubtree<'a>>,
    excluded: Vec<PreparedSubtree<'a>>,
}

struct PreparedSubtree<'a> {
    subtree: &'a Subtree,
    directory: Option<ComparableName>,
}

/// How a name and a subtree stand to each other.
enum Relation {
    OtherKind,
    Outside,
    Inside,
    /// Some of the names that a wildcard stands for are inside.
    Partly,
    Unknown(&'static str),
}

impl<'a> PreparedConstraints<'a> {
    pub(super) fn new(constraints: &'a NameConstraints) -> Self {
        let prepare = |subtrees: &'a [Subtree]| subtrees.iter().map(PreparedSubtree::new).collect();
        Self { permitted: prepare(&constraints.permitted), excluded: prepare(&constraints.excluded) }
    }

    /// The first name that is not allowed, and why.
    pub(super) fn check(
        &self,
        names: &[ConstrainedName<'_>],
        comparisons: &mut Comparisons,
    ) -> Result<(), (String, ViolationKind)> {
        names.iter().try_for_each(|name| {
            self.check_excluded(name, comparisons)
                .and_then(|()| self.check_permitted(name, comparisons))
                .map_err(|kind| (shown(&name.to_string()), kind))
        })
    }

    fn check_excluded(&self, name: &ConstrainedName<'_>, comparisons: &mut Comparisons) -> Result<(), ViolationKind> {
        for subtree in &self.excluded {
            comparisons.spend()?;
            match subtree.relation(name) {
                Relation::OtherKind | Relation::Outside => {}
                Relation::Inside | Relation::Partly => return Err(ViolationKind::Excluded(subtree.shown())),
                Relation::Unknown(why) => return Err(ViolationKind::NotComparable(why)),
            }
        }
        Ok(())
    }

    fn check_permitted(&self, name: &ConstrainedName<'_>, comparisons: &mut Comparisons) -> Result<(), ViolationKind> {
        let mut of_this_kind: Vec<&PreparedSubtree<'_>> = Vec::new();
        for subtree in &self.permitted {
            comparisons.spend()?;
            match subtree.relation(name) {
                Relation::OtherKind => {}
                Relation::Inside => return Ok(()),
                // A wildcard must be inside as a whole.
                Relation::Outside | Relation::Partly => of_this_kind.push(subtree),
                Relation::Unknown(why) => return Err(ViolationKind::NotComparable(why)),
            }
        }
        if of_this_kind.is_empty() {
            return Ok(());
        }
        let mut list: Vec<String> = of_this_kind.iter().take(SHOWN_SUBTREES_MAX).map(|one| one.shown()).collect();
        if of_this_kind.len() > SHOWN_SUBTREES_MAX {
            list.push("…".to_owned());
        }
        Err(ViolationKind::NotPermitted(list.join(", ")))
    }
}

impl<'a> PreparedSubtree<'a> {
    fn new(subtree: &'a Subtree) -> Self {
        let directory = match subtree {
            Subtree::Directory(name) => Some(ComparableName::new(name)),
            Subtree::Dns(_) | Subtree::Ip(_) | Subtree::Email(_) | Subtree::Uri(_) | Subtree::Other { .. } => None,
        };
        Self { subtree, directory }
    }

    fn relation(&self, name: &ConstrainedName<'_>) -> Relation {
        let relation = |inside| if inside { Relation::Inside } else { Relation::Outside };
        match (self.subtree, name) {
            (Subtree::Dns(subtree), ConstrainedName::Dns(name)) => dns_relation(subtree, name),
            (Subtree::Ip(network), ConstrainedName::Ip(address)) => relation(is_in_network(*network, *address)),
            (Subtree::Email(subtree), ConstrainedName::Email(address)) => relation(is_in_mailboxes(subtree, address)),
            (Subtree::Email(_), ConstrainedName::BadEmail(_)) => Relation::Unknown("it is not a mailbox"),
            (Subtree::Uri(subtree), ConstrainedName::Uri(uri)) => uri_relation(subtree, uri),
            (Subtree::Directory(_), ConstrainedName::Directory(_, name)) => {
                relation(self.directory.as_ref().is_some_and(|directory| name.begins_with(directory)))
            }
            (Subtree::Other { tag, .. }, ConstrainedName::Other(name_tag, _)) if tag == name_tag => {
                Relation::Unknown("names of this kind are constrained, and such a constraint is not understood")
            }
            _ => Relation::OtherKind,
        }
    }

    fn shown(&self) -> String {
        let text = match self.subtree {
            Subtree::Dns(host) => Cow::Borrowed(host.as_str()),
            Subtree::Ip(network) => Cow::Owned(network.to_string()),
            Subtree::Email(EmailSubtree::Mailbox(address)) => Cow::Borrowed(address.as_str()),
            Subtree::Email(EmailSubtree::Host(host)) | Subtree::Uri(UriSubtree::Host(host)) => {
                Cow::Borrowed(host.as_str())
            }
            Subtree::Email(EmailSubtree::Domain(domain)) | Subtree::Uri(UriSubtree::Domain(domain)) => {
                Cow::Owned(format!(".{domain}"))
            }
            Subtree::Directory(name) => Cow::Owned(name.render()),
            Subtree::Other { der, .. } => Cow::Owned(format!("#{}", crate::hex(der))),
        };
        format!("\"{}\"", shown(&text))
    }
}

/// A wildcard stands for all names with one more label: it is partly inside `a.example.com` when it is `*.example.com`
/// (CVE-2025-61727).
fn dns_relation(subtree: &str, name: &DnsName) -> Relation {
    let host = name.without_wildcard();
    if subtree.is_empty() || host == subtree || is_below(host, subtree) {
        return Relation::Inside;
    }
    let parent = subtree.split_once('.').map_or("", |(_, parent)| parent);
    if name.is_wildcard() && host == parent { Relation::Partly } else { Relation::Outside }
}

/// An IPv4 address written as IPv6 was read as IPv4; a network of such addresses means the same ones.
fn is_in_network(network: IpNet, address: IpAddr) -> bool {
    match (network, address) {
        (IpNet::V6(network), IpAddr::V4(address)) => {
            network.prefix_len() >= 96
                && network.network().to_ipv4_mapped().is_some()
                && network.contains(&address.to_ipv6_mapped())
        }
        (network, address) => network.contains(&address),
    }
}

fn is_in_mailboxes(subtree: &EmailSubtree, address: &EmailAddress) -> bool {
    match subtree {
        EmailSubtree::Mailbox(mailbox) => mailbox == address,
        EmailSubtree::Host(host) => address.host() == host,
        EmailSubtree::Domain(domain) => is_below(address.host(), domain),
    }
}

fn uri_relation(subtree: &UriSubtree, uri: &Uri) -> Relation {
    // RFC 5280 §4.2.1.10: what has no host name cannot be held against a constraint and is refused.
    let Some(UriHost::Name(host)) = uri.host() else {
        return Relation::Unknown("URIs are constrained, and it has no host name");
    };
    let inside = match subtree {
        UriSubtree::Host(name) => host == name,
        UriSubtree::Domain(domain) => is_below(host, domain),
    };
    if inside { Relation::Inside } else { Relation::Outside }
}

/// Whether a host has more labels in front of this domain.
fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

/// How many permitted subtrees a message lists.
const SHOWN_SUBTREES_MAX: usize = 5;
/// How many characters of a name a message repeats.
const SHOWN_CHARACTERS_MAX: usize = 120;

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for ConstrainedName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(formatter, "DNS name \"{name}\""),
            Self::Ip(address) => write!(formatter, "IP address \"{address}\""),
            Self::Email(address) => write!(formatter, "e-mail address \"{address}\""),
            Self::BadEmail(value) => write!(formatter, "e-mail address \"{}\"", value.escape_debug()),
            Self::Uri(uri) => write!(formatter, "URI \"{uri}\""),
            Self::Directory(name, _) => write!(formatter, "directory name \"{name}\""),
            Self::Other(_, name) => write!(formatter, "{} \"{}\"", name.kind(), name.text()),
        }
    }
}

impl fmt::Display for ConstraintViolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.kind {
            ViolationKind::Excluded(subtree) => {
                write!(formatter, "the {name} is in the subtree {subtree}, which an issuer's name constraints exclude")
            }
            ViolationKind::NotPermitted(subtrees) => {
                write!(
                    formatter,
                    "the {name} is in none of the subtrees that an issuer's name constraints permit: {subtrees}"
                )
            }
            ViolationKind::NotComparable(why) => {
                write!(formatter, "the {name} cannot be held against an issuer's name constraints: {why}")
            }
            ViolationKind::TooManyComparisons => {
                write!(
                    formatter,
                    "there are too many names and name constraints to compare; at most {COMPARISONS_MAX} comparisons are made"
                )
            }
        }
    }
}

impl std::error::Error for ConstraintViolation {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::general_name::IpAddress;

    fn dns(name: &str) -> GeneralName {
        GeneralName::Dns(DnsName::parse(name).unwrap())
    }

    fn email(address: &str) -> GeneralName {
        GeneralName::Email(EmailAddress::parse(address).unwrap())
    }

    fn uri(text: &str) -> GeneralName {
        GeneralName::Uri(Uri::parse(text).unwrap())
    }

    fn ip(address: &str) -> GeneralName {
        GeneralName::Ip(IpAddress::parse(address).unwrap())
    }

    fn directory(attributes: &[(AttributeType, &str)]) -> DistinguishedName {
        DistinguishedName::build(attributes).unwrap()
    }

    fn permit(subtrees: Vec<Subtree>) -> NameConstraints {
        NameConstraints { permitted: subtrees, excluded: vec![] }
    }

    fn exclude(subtrees: Vec<Subtree>) -> NameConstraints {
        NameConstraints { permitted: vec![], excluded: subtrees }
    }

    /// What becomes of a name where one subtree is permitted, and where it is excluded.
    fn allowed(subtree: Subtree, name: GeneralName) -> (bool, bool) {
        let check =
            |constraints| check_names(&[constraints], &DistinguishedName::empty(), std::slice::from_ref(&name)).is_ok();
        (check(permit(vec![subtree.clone()])), check(exclude(vec![subtree])))
    }

    #[test]
    fn hosts_are_compared_label_by_label() {
        let cases = [
            ("example.com", "example.com", (true, false)),
            ("example.com", "WWW.Example.COM", (true, false)),
            ("Example.COM", "a.b.example.com", (true, false)),
            ("example.com", "notexample.com", (false, true)),
            ("example.com", "example.com.evil.example", (false, true)),
            ("www.example.com", "example.com", (false, true)),
            ("", "anything.example", (true, false)),
            ("example.com", "*.example.com", (true, false)),
            ("example.com", "*.a.example.com", (true, false)),
            ("bar.example.com", "*.example.com", (false, false)),
            ("a.bar.example.com", "*.example.com", (false, true)),
            ("example.com", "*.com.example", (false, true)),
            ("", "*.example.com", (true, false)),
        ];
        for (subtree, name, expected) in cases {
            assert_eq!(allowed(Subtree::dns(subtree).unwrap(), dns(name)), expected, "{subtree} {name}");
        }
    }

    #[test]
    fn addresses_are_compared_with_networks() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", (true, false)),
            ("10.0.0.0/8", "11.0.0.1", (false, true)),
            ("10.0.0.0/8", "::ffff:10.0.0.1", (true, false)),
            ("10.0.0.0/8", "2001:db8::1", (false, true)),
            ("::ffff:10.0.0.0/104", "10.1.2.3", (true, false)),
            ("::ffff:10.0.0.0/104", "11.1.2.3", (false, true)),
            ("::/0", "10.1.2.3", (false, true)),
            ("::/0", "2001:db8::1", (true, false)),
            ("0.0.0.0/0", "10.1.2.3", (true, false)),
            ("2001:db8::/33", "2001:db8:8000::1", (false, true)),
        ];
        for (network, address, expected) in cases {
            assert_eq!(allowed(Subtree::Ip(network.parse().unwrap()), ip(address)), expected, "{network} {address}");
        }
    }

    #[test]
    fn mailboxes_are_compared_by_mailbox_host_or_domain() {
        let cases = [
            ("jo@example.com", "jo@EXAMPLE.com", (true, false)),
            ("jo@example.com", "Jo@example.com", (false, true)),
            ("*@example.com", "jo@example.com", (false, true)),
            ("*@example.com", "*@example.com", (true, false)),
            ("example.com", "jo@example.com", (true, false)),
            ("example.com", "jo@mail.example.com", (false, true)),
            (".example.com", "jo@mail.example.com", (true, false)),
            (".example.com", "jo@example.com", (false, true)),
            (".example.com", "jo@mail.notexample.com", (false, true)),
        ];
        for (subtree, address, expected) in cases {
            assert_eq!(allowed(Subtree::email(subtree).unwrap(), email(address)), expected, "{subtree} {address}");
        }
    }

    #[test]
    fn uris_are_compared_by_host_and_refused_without_one() {
        let cases = [
            ("example.com", "https://EXAMPLE.com:8443/a", (true, false)),
            ("example.com", "https://user@www.example.com/", (false, true)),
            (".example.com", "spiffe://a.example.com/x", (true, false)),
            (".example.com", "https://example.com/", (false, true)),
            ("example.com", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", (false, false)),
            ("example.com", "https://192.0.2.1/", (false, false)),
        ];
        for (subtree, text, expected) in cases {
            assert_eq!(allowed(Subtree::uri(subtree).unwrap(), uri(text)), expected, "{subtree} {text}");
        }
    }

    #[test]
    fn directory_names_are_compared_by_their_beginning() {
        use AttributeType::{CommonName, Country, Organization};
        let acme = directory(&[(Country, "DE"), (Organization, "Acme  Works")]);
        let cases = [
            (vec![(Country, "DE"), (Organization, "ACME works"), (CommonName, "x")], true),
            (vec![(Country, "de"), (Organization, " acme   works ")], true),
            (vec![(Country, "DE"), (CommonName, "x"), (Organization, "Acme Works")], false),
            (vec![(Country, "DE")], false),
            (vec![(Country, "DE"), (Organization, "Acme Works 2")], false),
        ];
        for (attributes, inside) in cases {
            let subject = directory(&attributes);
            for constraints in
                [permit(vec![Subtree::Directory(acme.clone())]), exclude(vec![Subtree::Directory(acme.clone())])]
            {
                let expected = inside == constraints.excluded.is_empty();
                assert_eq!(check_names(&[constraints], &subject, &[]).is_ok(), expected, "{subject}");
            }
            let name = GeneralName::Directory(subject);
            assert_eq!(allowed(Subtree::Directory(acme.clone()), name), (inside, !inside));
        }
        // A subject without attributes is not constrained, and a subtree without any holds all names.
        assert_eq!(check_names(&[permit(vec![Subtree::Directory(acme)])], &DistinguishedName::empty(), &[]), Ok(()));
        let everything = Subtree::Directory(DistinguishedName::empty());
        assert!(check_names(&[exclude(vec![everything])], &directory(&[(CommonName, "x")]), &[]).is_err());
    }

    #[test]
    fn kinds_that_are_not_understood_are_refused_only_where_they_are_constrained() {
        let other = GeneralName::Other { tag: choice::OTHER_NAME, der: vec![choice::OTHER_NAME, 3, 6, 1, 0x2a] };
        let subtree = Subtree::Other { tag: choice::OTHER_NAME, der: vec![choice::OTHER_NAME, 3, 6, 1, 0x2a] };
        assert_eq!(allowed(subtree.clone(), other.clone()), (false, false));
        assert_eq!(allowed(subtree, dns("example.com")), (true, true));
        assert_eq!(allowed(Subtree::dns("example.com").unwrap(), other), (true, true));
    }

    #[test]
    fn an_address_in_the_subject_is_constrained() {
        let stack = [permit(vec![Subtree::email("example.com").unwrap()])];
        let subject = |value| directory(&[(AttributeType::EmailAddress, value)]);
        assert!(check_names(&stack, &subject("jo@example.com"), &[]).is_ok());
        assert!(check_names(&stack, &subject("jo@example.org"), &[]).is_err());
        assert!(check_names(&stack, &subject("jo@example.org"), &[email("jo@example.com")]).is_err());
        assert!(check_names(&stack, &subject("not a mailbox"), &[]).is_err());
        assert!(check_names(&[], &subject("not a mailbox"), &[]).is_ok());
    }

    #[test]
    fn each_authority_is_heard_and_exclusion_wins() {
        let stack = [
            permit(vec![Subtree::dns("a.example").unwrap(), Subtree::dns("b.example").unwrap()]),
            permit(vec![Subtree::dns("b.example").unwrap()]),
            exclude(vec![Subtree::dns("secret.b.example").unwrap()]),
        ];
        let check = |name| check_names(&stack, &DistinguishedName::empty(), &[dns("ok.b.example"), dns(name)]);
        assert!(check("b.example").is_ok());
        assert!(check("a.example").is_err_and(|violation| violation.authority == 1));
        let excluded = check("x.secret.b.example").unwrap_err();
        assert_eq!(
            (excluded.authority, &excluded.kind),
            (2, &ViolationKind::Excluded("\"secret.b.example\"".to_owned()))
        );
        assert_eq!(
            excluded.to_string(),
            "the DNS name \"x.secret.b.example\" is in the subtree \"secret.b.example\", which an issuer's name constraints exclude"
        );
        let both = NameConstraints { permitted: stack[1].permitted.clone(), excluded: stack[1].permitted.clone() };
        assert!(check_names(&[both], &DistinguishedName::empty(), &[dns("b.example")]).is_err());
    }

    #[test]
    fn the_work_is_bounded() {
        let subtrees =
            |count: usize| (0..count).map(|index| Subtree::dns(&format!("s{index}.example")).unwrap()).collect();
        let names = |count: usize| (0..count).map(|index| dns(&format!("n{index}.example"))).collect::<Vec<_>>();
        let check = |count| check_names(&[exclude(subtrees(count))], &DistinguishedName::empty(), &names(count));
        assert_eq!(check(500), Ok(()));
        assert!(check(501).is_err_and(|violation| violation.kind == ViolationKind::TooManyComparisons));
    }
}
