//! What a node tells the others at the moment of a commit: that it wrote letters for them, that access ended somewhere, or that
//! a certificate was revoked or is good again.
//!
//! PostgreSQL carries it, within the transaction of what it tells of. What is told while nobody listens is lost, so whoever
//! listens looks into the tables now and then, too. SQLite has one server, which has nobody to tell.

use domain::AuthorityKeyId;
use std::fmt;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The channel of PostgreSQL; each database has its own.
pub(crate) const CHANNEL: &str = "chancery_nodes";
/// Listens to it.
pub(crate) const LISTEN: &str = "LISTEN chancery_nodes";
/// Tells something there once the transaction is committed.
pub(crate) const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// How much is kept of what was told and not looked at yet; the rest is found by looking.
pub(crate) const HEARD_MAX: usize = 1024;

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// It wrote letters. Their ids grow, and these are the first and the last of them.
    Letters {
        /// The node.
        node: String,
        /// The id of the first.
        first: Uuid,
        /// The id of the last.
        last: Uuid,
    },
    /// Access ended: there are new rows of `access_ends`.
    AccessEnds,
    /// The configuration changed, and has this number now. The store takes note of it itself.
    Configuration {
        /// The number.
        epoch: i64,
    },
    /// A certificate was revoked, for this or another reason, or its hold was ended.
    Status {
        /// The key that signed it.
        key: AuthorityKeyId,
        /// The contents of the INTEGER of its serial number.
        serial: Vec<u8>,
    },
}

impl fmt::Display for Announcement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letters { node, first, last } => {
                write!(formatter, "letters {node} {} {}", first.simple(), last.simple())
            }
            Self::AccessEnds => formatter.write_str("access-ends"),
            Self::Configuration { epoch } => write!(formatter, "configuration {epoch}"),
            Self::Status { key, serial } => {
                write!(formatter, "status {} ", key.0.simple())?;
                serial.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
            }
        }
    }
}

impl Announcement {
    /// Reads what was told; nothing when a later release tells more.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match *words {
            ["letters", node, first, last] => Some(Self::Letters {
                node: node.to_owned(),
                first: Uuid::parse_str(first).ok()?,
                last: Uuid::parse_str(last).ok()?,
            }),
            ["access-ends"] => Some(Self::AccessEnds),
            ["configuration", epoch] => Some(Self::Configuration { epoch: epoch.parse().ok()? }),
            ["status", key, serial] => {
                Some(Self::Status { key: AuthorityKeyId(Uuid::parse_str(key).ok()?), serial: octets_of_hex(serial)? })
            }
            _ => None,
        }
    }
}

fn octets_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// What somebody who listens finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is listened from now on. What was told before may not have been heard.
    Listening,
    /// Somebody told this, perhaps this node itself.
    Told(Announcement),
}

/// Hears what the nodes of a database tell, for as long as it is kept. It connects again by itself.
pub struct Ear(mpsc::Receiver<Heard>);

impl Ear {
    pub(crate) fn new(heard: mpsc::Receiver<Heard>) -> Self {
        Self(heard)
    }

    /// What is heard next.
    pub async fn next(&mut self) -> Heard {
        match self.0.recv().await {
            Some(heard) => heard,
            // Who handed it on is gone, and nothing is heard any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let letters =
            Announcement::Letters { node: "n1".into(), first: Uuid::from_u128(7), last: Uuid::from_u128(u128::MAX) };
        let status = Announcement::Status { key: AuthorityKeyId(Uuid::from_u128(9)), serial: vec![0, 0x80, 0xff] };
        for told in [letters, Announcement::AccessEnds, Announcement::Configuration { epoch: 7 }, status] {
            assert_eq!(Announcement::parse(&told.to_string()), Some(told));
        }
        for unknown in
            ["", "letters", "letters n1 x y", "access-ends now", "status x 00", "configuration", "something-else"]
        {
            assert_eq!(Announcement::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_channel_is_the_one_that_is_listened_to() {
        assert_eq!(LISTEN.strip_prefix("LISTEN "), Some(CHANNEL));
    }
}
