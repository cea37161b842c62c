//! Which files a certificate becomes on a host (contract syncs §2.5): their names, contents and modes, and the commands that
//! are told of them. Pure: no file is opened here.
//!
//! For the base name `B`: `B.pem` (the leaf, or leaf and chain), `B.chain.pem`, `B.key`; or `B.crt`, `B.chain.crt`, `B.key`;
//! or `B.pfx`. A base name cannot leave its directory, be hidden, or be longer than a file system takes.

use crate::DeliveryError;
use crate::destination::{Fingerprint, Item};
use crate::pkcs12;
use domain::secret::SecretText;
use domain::sync::SyncOptions;
use domain::sync::config::SyncCredentials;
use zeroize::Zeroizing;

/// The longest base name; with what is added to it, it stays below the 255 octets of a file system.
const BASE_NAME_MAX: usize = 200;
/// The longest path of a directory.
const DIRECTORY_MAX: usize = 4096;
/// The longest command, its values put in.
const COMMAND_CHARACTERS_MAX: usize = 8192;
/// The longest name of a user or group.
const OWNER_MAX: usize = 32;
const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;
/// What the names of temporary files end with, after twelve hex digits.
const TEMPORARY_SUFFIX: &str = ".chancery.tmp";
const TEMPORARY_DIGITS: usize = 12;

/// What a file is in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The private key.
    Key,
    /// The leaf, with its chain when the two are one file.
    Leaf,
    /// The chain.
    Chain,
    /// All in one, sealed.
    Pkcs12,
}

/// The form of a set of files, which the name of its first file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// PEM in `.pem` files.
    Pem,
    /// PEM in `.crt` files.
    Crt,
    /// PKCS#12.
    Pkcs12,
}

/// A file that is to be there.
#[derive(Clone)]
pub struct Wanted {
    /// What it is.
    pub part: Part,
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
    /// Its mode.
    pub mode: u32,
}

/// How a sync wants its files.
pub struct FilePlan {
    form: Form,
    with_key: bool,
    combined: bool,
    certificate_mode: u32,
    key_mode: u32,
    owner: Option<String>,
    password: Option<SecretText>,
}

impl FilePlan {
    /// Reads the options of a sync.
    pub fn new(options: &SyncOptions, secrets: &SyncCredentials) -> Result<Self, DeliveryError> {
        let refused = |text: String| Err(DeliveryError::Refused(text));
        let extension = options.pem_certificate_extension.as_deref().unwrap_or("pem");
        let form = match (options.export_format.as_deref().unwrap_or("pem"), extension) {
            ("pem", "pem") => Form::Pem,
            ("pem", "crt") => Form::Crt,
            ("pkcs12", _) => Form::Pkcs12,
            ("pem", other) => return refused(format!("pemCertificateExtension is pem or crt, not {other}")),
            (other, _) => return refused(format!("exportFormat is pem or pkcs12, not {other}")),
        };
        if form == Form::Pkcs12 && secrets.export_password.is_none() {
            return refused("PKCS#12 files need an exportPassword".into());
        }
        Ok(Self {
            form,
            with_key: options.include_private_key.unwrap_or(true),
            combined: options.combine_certificate_chain.unwrap_or(false),
            certificate_mode: mode("fileMode", options.file_mode.as_deref(), CERTIFICATE_MODE)?,
            key_mode: mode("privateKeyFileMode", options.private_key_file_mode.as_deref(), KEY_MODE)?,
            owner: owner(options.owner.as_deref(), options.group.as_deref())?,
            password: secrets.export_password.clone(),
        })
    }

    /// The form of the files.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whose the files are, as `chown` takes it; none when nothing is said.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The parts that a set of that form may have, in the order in which they are switched: the key before its certificate,
    /// and the chain last, which many certificates have in common, so that it never stands alone.
    pub fn parts(&self, form: Form) -> Vec<Part> {
        match form {
            Form::Pkcs12 => vec![Part::Pkcs12],
            Form::Pem | Form::Crt => [Part::Key, Part::Leaf, Part::Chain]
                .into_iter()
                .filter(|part| match part {
                    Part::Key => self.with_key,
                    Part::Chain => !self.combined,
                    Part::Leaf | Part::Pkcs12 => true,
                })
                .collect(),
        }
    }

    /// The files that an item becomes, in that order.
    pub fn files(&self, item: &Item) -> Result<Vec<Wanted>, DeliveryError> {
        let key = match (self.with_key, &item.key) {
            (false, _) => None,
            (true, Some(key)) => Some(key),
            (true, None) => {
                return Err(DeliveryError::Refused(
                    "the private key is to be written and Chancery does not have it: set includePrivateKey to false, \
                     or have the key generated here"
                        .into(),
                ));
            }
        };
        if self.form == Form::Pkcs12 {
            let mode = if key.is_some() { self.key_mode } else { self.certificate_mode };
            return Ok(vec![Wanted { part: Part::Pkcs12, content: self.sealed(item, key)?, mode }]);
        }
        let file = |part, text: String, mode| Wanted { part, content: Zeroizing::new(text.into_bytes()), mode };
        let chain: String = item.chain.iter().map(|certificate| certificate.to_pem() + "\n").collect();
        let leaf = item.leaf.to_pem() + "\n";
        let mut files = Vec::new();
        if let Some(key) = key {
            files.push(file(Part::Key, format!("{}\n", key.expose().trim_end()), self.key_mode));
        }
        match (self.combined, chain.is_empty()) {
            (true, _) => files.push(file(Part::Leaf, leaf + &chain, self.certificate_mode)),
            (false, true) => files.push(file(Part::Leaf, leaf, self.certificate_mode)),
            (false, false) => {
                files.push(file(Part::Leaf, leaf, self.certificate_mode));
                files.push(file(Part::Chain, chain, self.certificate_mode));
            }
        }
        Ok(files)
    }

    fn sealed(&self, item: &Item, key: Option<&SecretText>) -> Result<Zeroizing<Vec<u8>>, DeliveryError> {
        let password = self.password.as_ref().map(SecretText::expose).unwrap_or_default();
        let key = match key {
            None => None,
            Some(key) => {
                let der = x509::pem::decode_one(key.expose(), &["PRIVATE KEY"])
                    .map_err(|error| DeliveryError::Refused(format!("the private key is not PKCS#8: {error}")))?;
                Some(Zeroizing::new(der))
            }
        };
        let mut certificates = vec![item.leaf.as_der()];
        certificates.extend(item.chain.iter().map(x509::Certificate::as_der));
        Ok(Zeroizing::new(pkcs12::write_again(&pkcs12::Contents {
            certificates: &certificates,
            key: key.as_ref().map(|key| key.as_slice()),
            alias: &item.name,
            password,
        })))
    }

    /// Puts values into a command, each as a literal of the shell. What is not one of the five variables stays as it is.
    pub fn command(&self, template: &str, values: &CommandValues<'_>) -> Result<String, DeliveryError> {
        let password = self.password.as_ref().map(SecretText::expose).unwrap_or_default();
        let all: Vec<String> = values.files.iter().map(|path| shell_literal(path)).collect();
        let mut command = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            command.push_str(before);
            let value = after.split_once("}}").and_then(|(name, after)| {
                let value = match name.trim() {
                    "certificatePath" => shell_literal(values.certificate_path),
                    "certificateDirectory" => shell_literal(values.directory),
                    "certificateFiles" => all.join(" "),
                    "commonName" => shell_literal(values.common_name),
                    "pkcs12Password" => shell_literal(password),
                    _ => return None,
                };
                Some((value, after))
            });
            match value {
                Some((value, after)) => {
                    command.push_str(&value);
                    rest = after;
                }
                None => {
                    command.push_str("{{");
                    rest = after;
                }
            }
        }
        command.push_str(rest);
        if command.contains('\0') {
            return Err(DeliveryError::Refused("a command cannot hold a NUL character".into()));
        }
        if command.chars().count() > COMMAND_CHARACTERS_MAX {
            return Err(DeliveryError::Refused(format!(
                "the command is longer than {COMMAND_CHARACTERS_MAX} characters with its values put in"
            )));
        }
        Ok(command)
    }

    /// Takes the password out of what a command wrote.
    pub fn without_secrets(&self, text: &str) -> String {
        match &self.password {
            Some(password) if !password.expose().is_empty() => text.replace(password.expose(), "…"),
            Some(_) | None => text.to_owned(),
        }
    }
}

/// What a command may be told.
#[derive(Clone, Copy, Debug)]
pub struct CommandValues<'a> {
    /// The path of the first certificate.
    pub certificate_path: &'a str,
    /// The directory.
    pub directory: &'a str,
    /// The paths of all files, each a word of its own.
    pub files: &'a [String],
    /// The common name of the first certificate.
    pub common_name: &'a str,
}

impl Part {
    /// Its name in fingerprints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Leaf => "leaf",
            Self::Chain => "chain",
            Self::Pkcs12 => "pkcs12",
        }
    }

    /// The name of its file.
    pub fn file_name(self, base: &str, form: Form) -> String {
        let extension = if form == Form::Crt { "crt" } else { "pem" };
        match self {
            Self::Key => format!("{base}.key"),
            Self::Leaf => format!("{base}.{extension}"),
            Self::Chain => format!("{base}.chain.{extension}"),
            Self::Pkcs12 => format!("{base}.pfx"),
        }
    }
}

impl Form {
    /// The part whose path is the identifier of the set.
    pub const fn first(self) -> Part {
        match self {
            Self::Pem | Self::Crt => Part::Leaf,
            Self::Pkcs12 => Part::Pkcs12,
        }
    }

    /// The base name and the form of the set whose first file has that name.
    pub fn of(file_name: &str) -> Option<(&str, Self)> {
        let (base, extension) = file_name.rsplit_once('.')?;
        let form = match extension {
            "pem" => Self::Pem,
            "crt" => Self::Crt,
            "pfx" => Self::Pkcs12,
            _ => return None,
        };
        must_be_base_name(base).is_ok().then_some((base, form))
    }
}

/// The fingerprint of a set of files: one part for each, in a fixed order.
pub fn fingerprint<'a>(files: impl Iterator<Item = (Part, &'a [u8])>) -> Fingerprint {
    let mut parts: Vec<(&str, &[u8])> = files.map(|(part, content)| (part.name(), content)).collect();
    parts.sort_by_key(|(name, _)| *name);
    Fingerprint::of(&parts)
}

/// Says why that cannot be the base name of files.
pub fn must_be_base_name(base: &str) -> Result<(), DeliveryError> {
    let takes = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let shown: String = base.chars().take(60).collect();
    if base.is_empty() || base.len() > BASE_NAME_MAX {
        return Err(DeliveryError::Refused(format!(
            "the file name {shown:?} has {} octets, and 1 to {BASE_NAME_MAX} are taken",
            base.len()
        )));
    }
    if !base.chars().all(takes) || base.starts_with('.') {
        return Err(DeliveryError::Refused(format!(
            "{shown:?} is not taken as a file name: letters, digits, '.', '_' and '-' are, and no '.' at its beginning"
        )));
    }
    Ok(())
}

/// A directory's path with its superfluous slashes taken out; refused when it is not absolute or leads back by `..`.
pub fn directory(path: &str) -> Result<String, DeliveryError> {
    let refused = |why: &str| Err(DeliveryError::Refused(format!("destinationPath {why}")));
    if !path.starts_with('/') || path.len() > DIRECTORY_MAX {
        return refused("is an absolute path of at most 4096 octets");
    }
    if path.chars().any(char::is_control) {
        return refused("has no control characters");
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    if segments.contains(&"..") {
        return refused("does not lead back by '..'");
    }
    Ok(format!("/{}", segments.join("/")))
}

/// A path taken apart into directory and file name.
pub fn split_path(path: &str) -> Result<(String, &str), DeliveryError> {
    let (before, name) =
        path.rsplit_once('/').ok_or_else(|| DeliveryError::Refused(format!("{path:?} is not an absolute path")))?;
    Ok((directory(&format!("{before}/"))?, name))
}

/// A path put together.
pub fn join(directory: &str, name: &str) -> String {
    match directory {
        "/" => format!("/{name}"),
        _ => format!("{directory}/{name}"),
    }
}

/// The name of a temporary file for that file.
pub fn temporary_name(file_name: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    // The octets of a version 4 UUID are random but for the version and the variant, which come later.
    format!("{file_name}.{}{TEMPORARY_SUFFIX}", &random[..TEMPORARY_DIGITS])
}

/// Whether that is the name of a temporary file of ours.
pub fn is_temporary_name(file_name: &str) -> bool {
    file_name.strip_suffix(TEMPORARY_SUFFIX).and_then(|rest| rest.rsplit_once('.')).is_some_and(|(target, digits)| {
        !target.is_empty()
            && digits.len() == TEMPORARY_DIGITS
            && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
    })
}

/// A literal of the POSIX shell.
pub fn shell_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Three octal digits, with or without a leading 0.
fn mode(field: &str, text: Option<&str>, default: u32) -> Result<u32, DeliveryError> {
    let Some(text) = text else { return Ok(default) };
    let digits = match text.len() {
        4 => text.strip_prefix('0').unwrap_or_default(),
        _ => text,
    };
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit()) => Ok(mode),
        Ok(_) | Err(_) => Err(DeliveryError::Refused(format!("{field} is three octal digits, not {text:?}"))),
    }
}

/// `owner`, `owner:group` or `:group`.
fn owner(owner: Option<&str>, group: Option<&str>) -> Result<Option<String>, DeliveryError> {
    for (field, name) in [("owner", owner), ("group", group)] {
        let Some(name) = name else { continue };
        let takes = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.');
        let begins_well = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_');
        if name.len() > OWNER_MAX || !begins_well || !name.bytes().all(takes) {
            return Err(DeliveryError::Refused(format!("{field} is not the name of a user or group: {name:?}")));
        }
    }
    Ok(match (owner, group) {
        (None, None) => None,
        (Some(owner), None) => Some(owner.to_owned()),
        (owner, Some(group)) => Some(format!("{}:{group}", owner.unwrap_or_default())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_name_cannot_leave_its_directory() {
        let long = "a".repeat(256);
        for name in ["", "..", ".", "../x", "a/b", "/etc/passwd", "a\0b", ".hidden", "a b", "ä", "a\nb", long.as_str()]
        {
            assert!(must_be_base_name(name).is_err(), "{name:?}");
        }
        for name in ["www.example.com", "_a-b", "CON", "a..b"] {
            assert!(must_be_base_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_directory_is_absolute_and_does_not_lead_back() {
        for path in ["", "a", "./a", "/a/../b", "/..", "/a\0b"] {
            assert!(directory(path).is_err(), "{path:?}");
        }
        assert_eq!(directory("//a/./b//").unwrap(), "/a/b");
        assert_eq!(directory("/").unwrap(), "/");
        assert_eq!(split_path("/a/b.pem").unwrap(), ("/a".to_owned(), "b.pem"));
        assert_eq!(split_path("/b.pem").unwrap(), ("/".to_owned(), "b.pem"));
        assert!(split_path("/a/../b.pem").is_err());
    }

    #[test]
    fn modes_and_owners_are_checked() {
        assert_eq!(mode("fileMode", Some("640"), 0).unwrap(), 0o640);
        assert_eq!(mode("fileMode", Some("0400"), 0).unwrap(), 0o400);
        for text in ["", "64", "1640", "648", "+64", "-rw"] {
            assert!(mode("fileMode", Some(text), 0).is_err(), "{text}");
        }
        assert_eq!(owner(Some("www-data"), Some("ssl")).unwrap().as_deref(), Some("www-data:ssl"));
        assert_eq!(owner(None, Some("ssl")).unwrap().as_deref(), Some(":ssl"));
        for name in ["", "-R", "a:b", "a b", "a;b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(owner(Some(name), None).is_err(), "{name}");
        }
    }

    #[test]
    fn values_are_literals_of_the_shell_and_other_braces_stay() {
        let secrets = SyncCredentials { export_password: Some(SecretText::new("p$w")) };
        let plan = FilePlan::new(&SyncOptions::default(), &secrets).unwrap();
        let files = ["/d/a.pem".to_owned(), "/d/a.key".to_owned()];
        let values = CommandValues {
            certificate_path: "/d/a.pem",
            directory: "/d",
            files: &files,
            common_name: "it's {{commonName}} $(id)",
        };
        let command = plan.command("x {{ certificateFiles }} {{commonName}} {{.State}} {{pkcs12Password}} {{", &values);
        let wanted = r"x '/d/a.pem' '/d/a.key' 'it'\''s {{commonName}} $(id)' {{.State}} 'p$w' {{";
        assert_eq!(command.unwrap(), wanted);
        assert_eq!(plan.without_secrets("bad p$w"), "bad …");
        assert!(plan.command(&"x".repeat(8190), &values).is_ok());
        assert!(plan.command(&format!("{}{{{{commonName}}}}", "x".repeat(8180)), &values).is_err());
        let nul = CommandValues { common_name: "a\0b", ..values };
        assert!(plan.command("{{commonName}}", &nul).is_err());
    }

    #[test]
    fn only_our_own_temporary_names_are_ours() {
        assert!(is_temporary_name(&temporary_name("a.pem")));
        for name in ["a.pem", ".0123456789ab.chancery.tmp", "a.pem.0123456789AB.chancery.tmp", "a.chancery.tmp"] {
            assert!(!is_temporary_name(name), "{name}");
        }
    }
}
