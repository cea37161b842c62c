//! What one node tells the others, and how it is written: a line with the version of the form and the node, a line of JSON, and
//! then, of a message, its properties and its payload as they are.

use crate::registry::outbox::Message;
use bytes::Bytes;
use domain::Time;
use domain::registry::{Owner, OwnerKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// What one node tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Letter {
    /// A message was published.
    Message {
        /// The registry or broker whose topics these are.
        space: String,
        /// The message.
        message: Arc<Message>,
        /// Whether it is acknowledged (QoS 1).
        is_acknowledged: bool,
    },
    /// A session was opened: one of the same owner and client id that is older ends.
    Opened {
        /// The registry or broker.
        space: String,
        /// Whose it is.
        owner: Owner,
        /// The client's own name for it.
        client_id: String,
        /// How it stands to others of that name: the greatest stays.
        rank: Uuid,
    },
    /// Somebody on the node that writes reads the monitoring of devices of a registry.
    Watching {
        /// The registry.
        space: String,
    },
    /// The node that writes may have missed what was told since then.
    Missed {
        /// Since when.
        since: Time,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Head {
    Message { space: String, topic: String, is_acknowledged: bool, properties: usize },
    Opened { space: String, owner_kind: String, owner: String, client_id: String, rank: String },
    Watching { space: String },
    Missed { since: i64 },
}

/// The form that is written and read here. What a later release writes in another one is not read.
const FORM: &str = "1";

impl Letter {
    /// What it weighs where it waits, in octets.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Message { message, .. } => message.payload.len() + message.properties.len() + message.topic.len(),
            Self::Opened { client_id, .. } => client_id.len() + 100,
            Self::Watching { .. } | Self::Missed { .. } => 100,
        }
    }

    /// The letter as it goes on its way.
    pub(super) fn write(&self, node: &str) -> Vec<u8> {
        let (head, octets): (Head, [&[u8]; 2]) = match self {
            Self::Message { space, message, is_acknowledged } => (
                Head::Message {
                    space: space.clone(),
                    topic: message.topic.to_string(),
                    is_acknowledged: *is_acknowledged,
                    properties: message.properties.len(),
                },
                [&message.properties, &message.payload],
            ),
            Self::Opened { space, owner, client_id, rank } => (
                Head::Opened {
                    space: space.clone(),
                    owner_kind: owner.kind().as_str().to_owned(),
                    owner: owner.id().to_owned(),
                    client_id: client_id.clone(),
                    rank: rank.to_string(),
                },
                [&[], &[]],
            ),
            Self::Watching { space } => (Head::Watching { space: space.clone() }, [&[], &[]]),
            Self::Missed { since } => (Head::Missed { since: since.millis() }, [&[], &[]]),
        };
        let head = serde_json::to_string(&head).expect("texts and numbers have a form in JSON");
        let mut written = format!("{FORM} {node}\n{head}\n").into_bytes();
        written.extend(octets.concat());
        written
    }
}

/// Reads a letter and the name of the node that wrote it. Payloads are not copied.
pub(super) fn read(octets: &Bytes) -> Result<(&str, Letter), &'static str> {
    let (first, rest_at) = line(octets, 0).ok_or("it has no first line")?;
    let (form, node) = first.split_once(' ').ok_or("it names no node")?;
    if form != FORM {
        return Err("it has another form");
    }
    let (head, body_at) = line(octets, rest_at).ok_or("it has no second line")?;
    let head = serde_json::from_str(head).map_err(|_| "its second line is not one of ours")?;
    let letter = match head {
        Head::Message { space, topic, is_acknowledged, properties } => {
            let body = octets.slice(body_at..);
            if properties > body.len() {
                return Err("it is cut off");
            }
            let (payload, properties) = (body.slice(properties..), body.slice(..properties));
            let message = Message { topic: topic.into(), payload, properties, origin: 0 };
            Letter::Message { space, message: Arc::new(message), is_acknowledged }
        }
        Head::Opened { space, owner_kind, owner, client_id, rank } => {
            let kind = OwnerKind::parse(&owner_kind).ok_or("it names nobody")?;
            let rank = Uuid::parse_str(&rank).map_err(|_| "it names no rank")?;
            Letter::Opened { space, owner: Owner::of(kind, owner), client_id, rank }
        }
        Head::Watching { space } => Letter::Watching { space },
        Head::Missed { since } => Letter::Missed { since: Time::from_millis(since) },
    };
    Ok((node, letter))
}

/// The line that begins there, and where the next one does.
fn line(octets: &Bytes, at: usize) -> Option<(&str, usize)> {
    let rest = octets.get(at..)?;
    let length = rest.iter().position(|octet| *octet == b'\n')?;
    Some((std::str::from_utf8(&rest[..length]).ok()?, at + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = |payload: &'static [u8], properties: &'static [u8]| Letter::Message {
            space: "are1".into(),
            message: Arc::new(Message {
                topic: "$devices/are2/events/\u{e9}\n\"".into(),
                payload: Bytes::from_static(payload),
                properties: Bytes::from_static(properties),
                origin: 0,
            }),
            is_acknowledged: true,
        };
        for letter in [
            message(b"", b""),
            message(b"\n\n\xff", b"\x02\x01\x01"),
            Letter::Opened {
                space: "are1".into(),
                owner: Owner::Device("are2".into()),
                client_id: "a \"name\"\nof two lines".into(),
                rank: Uuid::from_u128(7),
            },
            Letter::Watching { space: "are1".into() },
            Letter::Missed { since: Time::from_millis(-5) },
        ] {
            let written = Bytes::from(letter.write("n1"));
            assert_eq!(read(&written), Ok(("n1", letter)));
        }
    }

    #[test]
    fn what_is_not_a_letter_is_not_read() {
        let cut_off = r#"{"kind":"message","space":"s","topic":"t","is_acknowledged":true,"properties":9}"#;
        for text in [
            "",
            "1",
            "1 n",
            "1 n\n",
            "1 n\n{}\n",
            "1 n\n{\"kind\":\"later\"}\n",
            "2 n\n{\"kind\":\"watching\",\"space\":\"s\"}\n",
            "1n\n{\"kind\":\"watching\",\"space\":\"s\"}\n",
            &format!("1 n\n{cut_off}\nshort"),
        ] {
            assert!(read(&Bytes::from(text.to_owned())).is_err(), "{text:?}");
        }
        assert!(read(&Bytes::from_static(b"\xff \n{}\n")).is_err());
    }
}
