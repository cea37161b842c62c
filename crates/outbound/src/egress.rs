//! Where connections may go: to public addresses, and to those that the operator allowed. The address that was looked at is
//! the one that is connected to, so a name that changes its mind in between gains nothing (invariant B1).

use crate::DeliveryError;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long looking up a name may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;

/// Where connections may go.
#[derive(Clone, Debug)]
pub struct EgressRules(Arc<Rules>);

#[derive(Debug)]
enum Rules {
    /// Public addresses, and these.
    Public { and: Vec<IpNet> },
    /// Everywhere: for addresses that the operator wrote into the configuration.
    Everywhere,
}

impl EgressRules {
    /// Public addresses, and what the operator allowed beside them.
    pub fn public_and(allowed: Vec<IpNet>) -> Self {
        Self(Arc::new(Rules::Public { and: allowed }))
    }

    /// Everywhere: only for addresses that the operator wrote into the configuration.
    pub fn everywhere() -> Self {
        Self(Arc::new(Rules::Everywhere))
    }

    /// Whether a connection may go to that address.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &*self.0 {
            Rules::Everywhere => true,
            Rules::Public { and } => is_public(address) || and.iter().any(|net| net.contains(&address)),
        }
    }

    /// The addresses of a host that a connection may go to.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DeliveryError> {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => match tokio::time::timeout(LOOK_UP_TIMEOUT, tokio::net::lookup_host((host, port))).await {
                Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
                Ok(Err(error)) => {
                    return Err(DeliveryError::Connection(format!("the host {host} cannot be looked up: {error}")));
                }
                Err(_) => return Err(DeliveryError::Connection(format!("looking up the host {host} took too long"))),
            },
        };
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|address| self.allow(address.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, None) => Err(DeliveryError::Connection(format!("the host {host} has no address"))),
            (true, Some(address)) => Err(DeliveryError::Connection(format!(
                "{host} is at {}, which is not a public address: an operator may allow it with CHANCERY_EGRESS_ALLOW",
                address.ip()
            ))),
        }
    }
}

/// Whether an address is one of the public internet (IANA's special-purpose registries left out).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast is 2000::/3; what is embedded in it (6to4, Teredo) or reserved for documents is not taken.
    (segments[0] & 0xe000) == 0x2000
        && segments[0] != 0x2002
        && !(segments[0] == 0x2001 && segments[1] < 0x200)
        && !(segments[0] == 0x2001 && segments[1] == 0xdb8)
        && !(segments[0] == 0x3fff && segments[1] < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed_by_themselves() {
        let rules = EgressRules::public_and(vec!["10.1.0.0/16".parse().unwrap()]);
        for (address, allowed) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("192.168.1.1", false),
            ("172.16.0.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(rules.allow(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(EgressRules::everywhere().allow("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_with_its_address() {
        let rules = EgressRules::public_and(vec![]);
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let error = rules.resolve(host, 80).await.unwrap_err();
            assert!(error.to_string().contains("CHANCERY_EGRESS_ALLOW"), "{error}");
        }
        let allowed = EgressRules::public_and(vec!["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(allowed.resolve("127.0.0.1", 80).await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
    }
}
