//! Organisations, projects, machine identities, their credentials and their memberships.

use crate::caller::OrganizationRole;
use crate::{
    AccessTokenId, ClientSecretId, Error, IdentityId, MembershipId, OrganizationId, ProjectId, Result, Time,
    UniversalAuthId,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The outermost tenant.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its short name, unique on the server.
    pub slug: String,
}

/// The kind of project that holds authorities and certificates; others belong to other products.
pub const PROJECT_KIND_CERTIFICATES: &str = "cert-manager";

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// The organisation that it belongs to.
    pub organization: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its short name, unique in the organisation.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its type on the wire: `cert-manager`.
    pub kind: String,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A machine identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub id: IdentityId,
    /// The organisation that it belongs to.
    pub organization: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its role in the organisation.
    pub role: OrganizationRole,
    /// Whether it refuses to be deleted.
    pub has_delete_protection: bool,
    /// Free pairs of key and value.
    pub metadata: Vec<MetadataEntry>,
    /// Whether Universal Auth is configured.
    pub has_universal_auth: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// One free pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataEntry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// The Universal Auth configuration of an identity (contract §2.5).
#[derive(Clone, Debug)]
pub struct UniversalAuth {
    /// Its id.
    pub id: UniversalAuthId,
    /// The identity that logs in with it.
    pub identity: IdentityId,
    /// The public half of the login.
    pub client_id: String,
    /// Lifetimes, limits and addresses.
    pub settings: UniversalAuthSettings,
    /// Failed logins in the running window.
    pub failures: u32,
    /// When the running window ends.
    pub failures_until: Time,
    /// Until when every login is refused.
    pub locked_until: Time,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// Lifetimes in seconds, limits, addresses and lock-out of Universal Auth, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UniversalAuthSettings {
    /// Lifetime of an access token in seconds; 0 is without end.
    #[serde(rename = "accessTokenTTL")]
    pub access_token_ttl: i64,
    /// Seconds from issue after which a token can no longer be renewed; 0 is without end.
    #[serde(rename = "accessTokenMaxTTL")]
    pub access_token_ttl_max: i64,
    /// How often a token may be used; 0 is without limit.
    pub access_token_num_uses_limit: i64,
    /// Seconds of a token that may be renewed for ever; 0 is off.
    pub access_token_period: i64,
    /// Networks that may log in.
    pub client_secret_trusted_ips: Vec<TrustedNetwork>,
    /// Networks that may use a token.
    pub access_token_trusted_ips: Vec<TrustedNetwork>,
    /// Whether failed logins lock the client id.
    pub lockout_enabled: bool,
    /// Failed logins that lock.
    pub lockout_threshold: u32,
    /// Seconds that a lock lasts.
    pub lockout_duration_seconds: i64,
    /// Seconds after which failures are forgotten.
    pub lockout_counter_reset_seconds: i64,
}

impl Default for UniversalAuthSettings {
    fn default() -> Self {
        let anywhere = || vec![TrustedNetwork::ANY_V4.clone(), TrustedNetwork::ANY_V6.clone()];
        Self {
            access_token_ttl: 2_592_000,
            access_token_ttl_max: 2_592_000,
            access_token_num_uses_limit: 0,
            access_token_period: 0,
            client_secret_trusted_ips: anywhere(),
            access_token_trusted_ips: anywhere(),
            lockout_enabled: true,
            lockout_threshold: 3,
            lockout_duration_seconds: 300,
            lockout_counter_reset_seconds: 30,
        }
    }
}

/// A network that callers may come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustedNetwork(IpNet);

impl TrustedNetwork {
    /// 0.0.0.0/0.
    pub const ANY_V4: Self = Self(IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)));
    /// ::/0.
    pub const ANY_V6: Self = Self(IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)));

    /// An address or a network in CIDR notation.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self(network.trunc()));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address))),
            Err(_) => {
                Err(Error::invalid(format!("\"{text}\" is neither an IP address nor a network such as 10.0.0.0/8")))
            }
        }
    }

    /// Whether the address lies in it. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The network's address.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// The length of the prefix in bits, when it is not a single address.
    pub fn prefix(&self) -> Option<u8> {
        (self.0.prefix_len() < self.0.max_prefix_len()).then(|| self.0.prefix_len())
    }
}

/// Whether an address may come in. A caller without an address (the server itself) always may.
pub fn is_trusted(networks: &[TrustedNetwork], address: Option<IpAddr>) -> bool {
    address.is_none_or(|address| networks.iter().any(|network| network.contains(address)))
}

/// Where a caller is: the peer of the connection, or when that is a proxy that we trust, what it and the trusted ones before
/// it say of theirs. `forwarded` are the lists that they wrote, `X-Forwarded-For`, each appending what it saw.
pub fn client_address<'a>(
    proxies: &[TrustedNetwork],
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
) -> IpAddr {
    let peer = peer.to_canonical();
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if !is_proxy(peer) {
        return peer;
    }
    let addresses = forwarded.rev().flat_map(|list| list.rsplit(',')).map(|text| text.trim().parse::<IpAddr>());
    for address in addresses {
        match address.map(|address| address.to_canonical()) {
            Ok(address) if is_proxy(address) => {}
            Ok(address) => return address,
            Err(_) => break,
        }
    }
    peer
}

/// A client secret. The secret itself is kept as its SHA-256 only.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// Its id.
    pub id: ClientSecretId,
    /// The Universal Auth configuration that it belongs to.
    pub universal_auth: UniversalAuthId,
    /// What it is for.
    pub description: String,
    /// The first four characters, for people to tell secrets apart.
    pub prefix: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Logins so far.
    pub uses: i64,
    /// Logins allowed; 0 is without limit.
    pub uses_limit: i64,
    /// Seconds from creation after which it is void; 0 is never.
    pub ttl_seconds: i64,
    /// Whether it was withdrawn.
    pub is_revoked: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl ClientSecret {
    /// Whether its lifetime is over.
    pub fn has_expired(&self, now: Time) -> bool {
        self.ttl_seconds > 0 && self.created_at.plus_seconds(self.ttl_seconds) < now
    }

    /// Whether it was used as often as it may be.
    pub fn is_used_up(&self) -> bool {
        self.uses_limit > 0 && self.uses >= self.uses_limit
    }
}

/// An access token's record.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Its id, which the signed token carries.
    pub id: AccessTokenId,
    /// Who it speaks for.
    pub identity: IdentityId,
    /// The client secret that it was made with.
    pub client_secret: ClientSecretId,
    /// Lifetime in seconds; 0 is without end.
    pub ttl_seconds: i64,
    /// Seconds from issue after which it can no longer be renewed; 0 is without end.
    pub ttl_seconds_max: i64,
    /// Seconds of a token that may be renewed for ever; 0 is off.
    pub period_seconds: i64,
    /// Uses so far; counted only when there is a limit.
    pub uses: i64,
    /// Uses allowed; 0 is without limit.
    pub uses_limit: i64,
    /// Whether it was withdrawn.
    pub is_revoked: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last renewed, or made.
    pub renewed_at: Time,
}

impl AccessToken {
    /// Seconds that the next signed form lives; 0 is without end.
    pub fn lifetime_seconds(&self) -> i64 {
        if self.period_seconds > 0 { self.period_seconds } else { self.ttl_seconds }
    }

    /// Whether its lifetime since the last renewal is over.
    pub fn has_expired(&self, now: Time) -> bool {
        let lifetime = self.lifetime_seconds();
        lifetime > 0 && self.renewed_at.plus_seconds(lifetime) < now
    }

    /// Whether a renewal now would go past its greatest lifetime (contract §2.3).
    pub fn is_past_renewal(&self, now: Time) -> bool {
        self.period_seconds == 0
            && self.ttl_seconds_max > 0
            && now.plus_seconds(self.ttl_seconds) > self.created_at.plus_seconds(self.ttl_seconds_max)
    }

    /// Whether it was used as often as it may be.
    pub fn is_used_up(&self) -> bool {
        self.uses_limit > 0 && self.uses >= self.uses_limit
    }
}

/// An identity in a project.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its id.
    pub id: MembershipId,
    /// The project.
    pub project: ProjectId,
    /// The member.
    pub identity: IdentityId,
    /// The member's name.
    pub identity_name: String,
    /// The roles that it holds.
    pub roles: Vec<RoleAssignment>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// One role of a member: a built-in one or a custom one, for ever or for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleAssignment {
    /// The slug of the role.
    pub role: String,
    /// When it begins, in milliseconds, for a temporary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Time>,
    /// How long it lasts in seconds, for a temporary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_seconds: Option<i64>,
}

impl RoleAssignment {
    /// A role without an end.
    pub fn permanent(role: impl Into<String>) -> Self {
        Self { role: role.into(), starts_at: None, range_seconds: None }
    }

    /// Whether it holds at that time.
    pub fn holds_at(&self, now: Time) -> bool {
        match (self.starts_at, self.range_seconds) {
            (Some(start), Some(range)) => start <= now && now < start.plus_seconds(range),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
