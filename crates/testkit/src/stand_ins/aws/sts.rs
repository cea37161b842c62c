//! The Security Token Service of the stand-in, and the keys that it knows.

use super::signature::{Keys, KnownKey};
use super::{ACCOUNT, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// Whoever may call.
pub struct Identities {
    owner: KnownKey,
    lent: Vec<KnownKey>,
    roles: BTreeSet<String>,
}

impl Identities {
    /// One user and no roles.
    pub(super) fn new() -> Self {
        let owner = KnownKey {
            id: "AKIASTANDINEXAMPLE00".into(),
            secret: format!("stand-in/{}", uuid::Uuid::new_v4()),
            token: None,
            owner: format!("arn:aws:iam::{ACCOUNT}:user/owner"),
        };
        Self { owner, lent: Vec::new(), roles: BTreeSet::new() }
    }

    pub(super) fn owner(&self) -> KnownKey {
        self.owner.clone()
    }

    pub(super) fn add_role(&mut self, arn: &str) {
        self.roles.insert(arn.to_owned());
    }

    pub(super) fn run(
        &mut self,
        operation: &str,
        who: &str,
        form: &BTreeMap<String, String>,
    ) -> Result<String, Refusal> {
        if form.get("Version").map(String::as_str) != Some("2011-06-15") {
            return Err(Refusal::new("InvalidAction", "The version is not known."));
        }
        match operation {
            "GetCallerIdentity" => Ok(format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{who}</Arn><UserId>AIDASTANDIN</UserId>\
                 <Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            )),
            "AssumeRole" => self.assume_role(form),
            _ => Err(Refusal::new("InvalidAction", "The action is not known.")),
        }
    }

    fn assume_role(&mut self, form: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let (arn, session) = (field("RoleArn"), field("RoleSessionName"));
        let is_name = |character: char| character.is_ascii_alphanumeric() || "_+=,.@-".contains(character);
        if !(2..=64).contains(&session.len()) || !session.chars().all(is_name) {
            return Err(Refusal::new("ValidationError", "The name of the session is not one."));
        }
        if !self.roles.contains(arn) {
            let message = format!("User: {} is not authorized to perform: sts:AssumeRole on {arn}", self.owner.owner);
            return Err(Refusal { status: 403, code: "AccessDenied", message });
        }
        let role = arn.rsplit('/').next().unwrap_or_default();
        let key = KnownKey {
            id: format!("ASIASTANDIN{:09}", self.lent.len()),
            secret: format!("lent/{}", uuid::Uuid::new_v4()),
            token: Some(format!("token+{}==", uuid::Uuid::new_v4())),
            owner: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}"),
        };
        self.lent.push(key.clone());
        let (KnownKey { id, secret, owner, .. }, token) = (&key, key.token.as_deref().unwrap_or_default());
        Ok(format!(
            "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><Arn>{owner}</Arn></AssumedRoleUser><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>2040-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        ))
    }
}

impl Keys for Identities {
    fn key(&self, id: &str) -> Option<&KnownKey> {
        std::iter::once(&self.owner).chain(&self.lent).find(|key| key.id == id)
    }
}
