//! Packets of clients, of both versions, as one set of requests. The octets are the codec's business; what is here is what a
//! server must see in them, and what it refuses. The answers are in `answer.rs`.

use crate::answer::{bad_client_id, connack_v3, connack_v5, refusal};
use crate::frame::Frame;
use mqtt_protocol_core::mqtt::packet::{self, Property, Qos, RetainHandling, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError};
use services::registry::connect::Refusal;
use services::registry::values::Replay;
use std::fmt;

/// The greatest client id, in characters.
const CLIENT_ID_CHARACTERS_MAX: usize = 1024;
/// The longest silence of a client, in seconds (contract §6.1).
pub const SILENCE_SECONDS_MAX: u64 = 1200;
/// The keep-alive whose half again is that.
const KEEP_ALIVE_MAX: u16 = 800;

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// What a client did that is not allowed.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The reason in MQTT 5.
    pub reason: DisconnectReasonCode,
    /// In words, for the log.
    pub what: String,
}

/// A client that wants a session.
#[derive(Debug)]
pub struct Connect {
    /// Which version it speaks.
    pub version: Version,
    /// Its name for the session.
    pub client_id: String,
    /// Whether it asks to begin anew.
    pub is_clean: bool,
    /// Seconds between its packets at most; 0 is no promise.
    pub keep_alive: u16,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// What is published when it is gone.
    pub will: Option<Will>,
    /// How many messages it takes before it acknowledges.
    pub receive_maximum: u16,
    /// The largest packet that it takes.
    pub packet_octets_max: usize,
    /// Whether it asks for a session that outlives the connection.
    pub wants_session: bool,
    /// Whether it wants to prove itself in a way that is not supported.
    pub has_authentication_method: bool,
}

/// A last will.
#[derive(Clone, Debug)]
pub struct Will {
    /// The topic, as the client names it.
    pub topic: String,
    /// What is published.
    pub payload: Vec<u8>,
    /// Whether readers are to acknowledge it.
    pub is_acknowledged: bool,
}

/// What a client asks for once it has a session.
#[derive(Debug)]
pub enum Request {
    /// To publish.
    Publish(Publish),
    /// It has a message.
    Acknowledge(u16),
    /// To subscribe.
    Subscribe {
        /// The packet's id.
        id: u16,
        /// What to.
        filters: Vec<Wanted>,
    },
    /// To unsubscribe.
    Unsubscribe {
        /// The packet's id.
        id: u16,
        /// What from.
        filters: Vec<String>,
    },
    /// Whether somebody is there.
    Ping,
    /// To go.
    Disconnect {
        /// Whether its will is to be published all the same.
        with_will: bool,
    },
}

/// Something that a client publishes.
#[derive(Debug)]
pub struct Publish {
    /// The topic, as the client names it.
    pub topic: String,
    /// The packet's id, when an answer is wanted.
    pub id: Option<u16>,
    /// The octets that the payload is in, and from where on.
    pub frame: std::sync::Arc<[u8]>,
    /// Where the payload begins.
    pub payload_at: usize,
    /// Where the properties begin, which end where the payload begins.
    pub properties_at: usize,
}

/// A filter that a client wants.
#[derive(Debug)]
pub struct Wanted {
    /// The filter.
    pub filter: String,
    /// Whether messages are to be acknowledged.
    pub is_acknowledged: bool,
    /// Whether what the session publishes itself is not wanted.
    pub is_without_own: bool,
    /// Whether stored values are wanted.
    pub replay: Replay,
}

impl Violation {
    fn new(reason: DisconnectReasonCode, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }

    /// It cannot be read.
    pub fn malformed(what: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::MalformedPacket, what)
    }

    /// It can be read and must not be.
    pub fn protocol(what: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::ProtocolError, what)
    }

    /// It is too large.
    pub fn too_large(octets: usize) -> Self {
        Self::new(DisconnectReasonCode::PacketTooLarge, format!("a packet of {octets} octets is too large"))
    }

    /// It may not be published.
    pub fn forbidden_topic(topic: &str) -> Self {
        Self::new(DisconnectReasonCode::NotAuthorized, format!("publish to topic {topic:?} is not allowed"))
    }

    /// There are too many of something.
    pub fn quota(what: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::QuotaExceeded, what)
    }

    /// It is ours.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::UnspecifiedError, what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl From<MqttError> for Violation {
    fn from(error: MqttError) -> Self {
        match error {
            MqttError::ProtocolError => Self::protocol("a packet breaks the protocol"),
            error => Self::malformed(format!("a packet cannot be read: {error:?}")),
        }
    }
}

/// Why a first packet does not lead to a session before anybody is asked who it is.
#[derive(Debug)]
pub enum NotConnect {
    /// It is answered with these octets.
    Answer(Vec<u8>, String),
    /// It is not answered.
    Violation(Violation),
}

impl From<Violation> for NotConnect {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Reads the first packet of a connection.
pub fn read_connect(frame: &Frame) -> Result<Connect, NotConnect> {
    if frame.kind != 1 || frame.flags != 0 {
        return Err(Violation::protocol("the first packet is not CONNECT").into());
    }
    let body = &*frame.body;
    let name_length = body.get(..2).map(|length| usize::from(length[0]) << 8 | usize::from(length[1]));
    let name = name_length.and_then(|length| body.get(2..2 + length));
    let level = name_length.and_then(|length| body.get(2 + length).copied());
    let flags = name_length.and_then(|length| body.get(3 + length).copied());
    match (name, level, flags) {
        (Some(b"MQTT"), Some(4), Some(flags)) => {
            check_flags(flags)?;
            let (packet, used) = v3_1_1::Connect::parse(body).map_err(|error| unread(error, Version::V3))?;
            must_be_all(body, used)?;
            connect_v3(&packet)
        }
        (Some(b"MQTT"), Some(5), Some(flags)) => {
            check_flags(flags)?;
            if flags & 0xc0 == 0x40 {
                let answer = refusal(Version::V5, Refusal::BadCredentials);
                return Err(NotConnect::Answer(answer, "there is a password without a user name".into()));
            }
            let (packet, used) = v5_0::Connect::parse(body).map_err(|error| unread(error, Version::V5))?;
            must_be_all(body, used)?;
            connect_v5(&packet)
        }
        (Some(b"MQIsdp"), _, _) | (Some(b"MQTT"), Some(0..=3), _) => {
            let code = ConnectReturnCode::UnacceptableProtocolVersion;
            Err(NotConnect::Answer(connack_v3(code), "MQTT 3.1 and older are not spoken".into()))
        }
        (Some(b"MQTT"), Some(_), _) => {
            let code = ConnectReasonCode::UnsupportedProtocolVersion;
            Err(NotConnect::Answer(connack_v5(code), "versions after MQTT 5 are not spoken".into()))
        }
        _ => Err(Violation::malformed("the first packet is not CONNECT of MQTT").into()),
    }
}

/// What the codec leaves alone (MQTT 5 §3.1.2.3 and following).
fn check_flags(flags: u8) -> Result<(), Violation> {
    let (has_will, will_qos, will_retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    match flags & 1 != 0 || will_qos == 3 || (!has_will && (will_qos != 0 || will_retain)) {
        true => Err(Violation::malformed("the flags of CONNECT contradict each other")),
        false => Ok(()),
    }
}

fn must_be_all(body: &[u8], used: usize) -> Result<(), Violation> {
    match body.len() == used {
        true => Ok(()),
        false => Err(Violation::malformed("octets follow the end of a packet")),
    }
}

fn unread(error: MqttError, version: Version) -> NotConnect {
    match error {
        MqttError::ClientIdentifierNotValid => NotConnect::Answer(bad_client_id(version), "bad client id".into()),
        error => NotConnect::Violation(error.into()),
    }
}

fn connect_v3(packet: &v3_1_1::Connect) -> Result<Connect, NotConnect> {
    let will = packet.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: packet.will_payload().unwrap_or_default().to_vec(),
        is_acknowledged: packet.will_qos() != Qos::AtMostOnce,
    });
    checked(Connect {
        version: Version::V3,
        client_id: packet.client_id().to_owned(),
        is_clean: packet.clean_session(),
        keep_alive: packet.keep_alive(),
        username: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        will,
        receive_maximum: u16::MAX,
        packet_octets_max: usize::MAX,
        wants_session: false,
        has_authentication_method: false,
    })
}

fn connect_v5(packet: &v5_0::Connect) -> Result<Connect, NotConnect> {
    let will = packet.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: packet.will_payload().unwrap_or_default().to_vec(),
        is_acknowledged: packet.will_qos() != Qos::AtMostOnce,
    });
    let mut connect = Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        is_clean: packet.clean_start(),
        keep_alive: packet.keep_alive(),
        username: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        will,
        receive_maximum: u16::MAX,
        packet_octets_max: usize::MAX,
        wants_session: false,
        has_authentication_method: false,
    };
    for property in packet.props() {
        match property {
            Property::ReceiveMaximum(maximum) => connect.receive_maximum = maximum.val(),
            Property::MaximumPacketSize(maximum) => {
                connect.packet_octets_max = usize::try_from(maximum.val()).unwrap_or(usize::MAX);
            }
            Property::SessionExpiryInterval(seconds) => connect.wants_session = seconds.val() > 0,
            Property::AuthenticationMethod(_) => connect.has_authentication_method = true,
            _ => {}
        }
    }
    if connect.receive_maximum == 0 || connect.packet_octets_max == 0 {
        return Err(Violation::protocol("a maximum in CONNECT is 0").into());
    }
    checked(connect)
}

fn checked(connect: Connect) -> Result<Connect, NotConnect> {
    let is_short = connect.client_id.chars().count() <= CLIENT_ID_CHARACTERS_MAX && !connect.client_id.contains('\0');
    // MQTT 3.1.1 §3.1.3.1: without a client id there is nothing to come back to.
    let is_named = !connect.client_id.is_empty() || connect.is_clean || connect.version == Version::V5;
    match is_short && is_named {
        true => Ok(connect),
        false => Err(NotConnect::Answer(bad_client_id(connect.version), "bad client id".into())),
    }
}

impl Connect {
    /// How long the client may be silent, in seconds: one and a half of what it says, at most 20 minutes.
    pub fn silence_seconds(&self) -> u64 {
        match self.keep_alive {
            0 => SILENCE_SECONDS_MAX,
            seconds => (u64::from(seconds) * 3).div_ceil(2).min(SILENCE_SECONDS_MAX),
        }
    }

    /// The answer that there is a session. `assigned` is the client id that it got here, if it had none.
    pub fn accepted(&self, assigned: Option<&str>) -> Vec<u8> {
        match self.version {
            Version::V3 => connack_v3(ConnectReturnCode::Accepted),
            Version::V5 => {
                let properties = self.accepted_properties(assigned).unwrap_or_default();
                let packet = v5_0::Connack::builder()
                    .session_present(false)
                    .reason_code(ConnectReasonCode::Success)
                    .props(properties)
                    .build();
                packet.map(|packet| packet.to_continuous_buffer()).unwrap_or_default()
            }
        }
    }

    fn accepted_properties(&self, assigned: Option<&str>) -> Result<Vec<Property>, MqttError> {
        let octets = u32::try_from(crate::frame::PACKET_OCTETS_MAX).unwrap_or(u32::MAX);
        let mut properties = vec![
            Property::MaximumQos(packet::MaximumQos::new(1)?),
            Property::MaximumPacketSize(packet::MaximumPacketSize::new(octets)?),
            Property::SubscriptionIdentifierAvailable(packet::SubscriptionIdentifierAvailable::new(0)?),
            Property::SharedSubscriptionAvailable(packet::SharedSubscriptionAvailable::new(0)?),
        ];
        if self.wants_session {
            properties.push(Property::SessionExpiryInterval(packet::SessionExpiryInterval::new(0)?));
        }
        if self.keep_alive == 0 || self.keep_alive > KEEP_ALIVE_MAX {
            properties.push(Property::ServerKeepAlive(packet::ServerKeepAlive::new(KEEP_ALIVE_MAX)?));
        }
        if let Some(assigned) = assigned {
            properties.push(Property::AssignedClientIdentifier(packet::AssignedClientIdentifier::new(assigned)?));
        }
        Ok(properties)
    }
}

/// Reads a packet of a client that has a session.
pub fn read(version: Version, frame: Frame) -> Result<Request, Violation> {
    let must_have_flags = |expected: u8| match frame.flags == expected {
        true => Ok(()),
        false => Err(Violation::malformed("the flags of a packet are not what they must be")),
    };
    let body = &*frame.body;
    match frame.kind {
        3 => read_publish(version, frame).map(Request::Publish),
        4 => {
            must_have_flags(0)?;
            let id = match version {
                Version::V3 => v3_1_1::Puback::parse(body)?.0.packet_id(),
                Version::V5 => v5_0::Puback::parse(body)?.0.packet_id(),
            };
            Ok(Request::Acknowledge(id))
        }
        8 => {
            must_have_flags(2)?;
            read_subscribe(version, body)
        }
        10 => {
            must_have_flags(2)?;
            let (id, filters) = match version {
                Version::V3 => {
                    let packet = v3_1_1::Unsubscribe::parse(body)?.0;
                    (packet.packet_id(), texts(packet.entries()))
                }
                Version::V5 => {
                    let packet = v5_0::Unsubscribe::parse(body)?.0;
                    (packet.packet_id(), texts(packet.entries()))
                }
            };
            Ok(Request::Unsubscribe { id: must_be_id(id)?, filters })
        }
        12 => must_have_flags(0).map(|()| Request::Ping),
        14 => {
            must_have_flags(0)?;
            let reason = match version {
                Version::V3 => None,
                Version::V5 => v5_0::Disconnect::parse(body)?.0.reason_code(),
            };
            Ok(Request::Disconnect {
                with_will: reason.is_some_and(|code| code != DisconnectReasonCode::NormalDisconnection),
            })
        }
        1 => Err(Violation::protocol("a second CONNECT")),
        5..=7 => Err(Violation::protocol("a packet of QoS 2, which is not supported")),
        15 => Err(Violation::protocol("an exchange of authentication, which is not supported")),
        kind => Err(Violation::protocol(format!("a packet of kind {kind}, which clients do not send"))),
    }
}

fn must_be_id(id: u16) -> Result<u16, Violation> {
    if id == 0 { Err(Violation::protocol("a packet has the id 0")) } else { Ok(id) }
}

fn texts(strings: &[packet::MqttString]) -> Vec<String> {
    strings.iter().map(|text| text.as_str().to_owned()).collect()
}

fn read_publish(version: Version, frame: Frame) -> Result<Publish, Violation> {
    if frame.flags & 6 == 4 {
        return Err(Violation::new(
            DisconnectReasonCode::QosNotSupported,
            "a message with QoS 2, which is not supported",
        ));
    }
    let body = frame.body;
    let (topic, id, payload) = match version {
        Version::V3 => {
            let packet = v3_1_1::Publish::parse(frame.flags, body.clone())?.0;
            (packet.topic_name().to_owned(), packet.packet_id(), packet.payload().len())
        }
        Version::V5 => {
            let packet = v5_0::Publish::parse(frame.flags, body.clone())?.0;
            for property in packet.props() {
                match property {
                    Property::TopicAlias(_) => {
                        let reason = DisconnectReasonCode::TopicAliasInvalid;
                        return Err(Violation::new(reason, "a topic alias, of which none is allowed"));
                    }
                    Property::SubscriptionIdentifier(_) => {
                        return Err(Violation::protocol("a subscription identifier in a message of a client"));
                    }
                    _ => {}
                }
            }
            (packet.topic_name().to_owned(), packet.packet_id(), packet.payload().len())
        }
    };
    let id = id.map(must_be_id).transpose()?;
    let payload_at = body.len() - payload;
    let properties_at = (2 + topic.len() + if id.is_some() { 2 } else { 0 }).min(payload_at);
    Ok(Publish { topic, id, frame: body, payload_at, properties_at })
}

fn read_subscribe(version: Version, body: &[u8]) -> Result<Request, Violation> {
    let (id, entries) = match version {
        Version::V3 => {
            let packet = v3_1_1::Subscribe::parse(body)?.0;
            (packet.packet_id(), packet.entries().clone())
        }
        Version::V5 => {
            let packet = v5_0::Subscribe::parse(body)?.0;
            if packet.props().iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_))) {
                let reason = DisconnectReasonCode::SubscriptionIdentifiersNotSupported;
                return Err(Violation::new(reason, "a subscription identifier, which is not supported"));
            }
            (packet.packet_id(), packet.entries().clone())
        }
    };
    Ok(Request::Subscribe { id: must_be_id(id)?, filters: entries.iter().map(wanted).collect() })
}

fn wanted(entry: &SubEntry) -> Wanted {
    let options = entry.sub_opts();
    Wanted {
        filter: entry.topic_filter().to_owned(),
        // QoS 2 is granted as 1 (contract §6.4).
        is_acknowledged: options.qos() != Qos::AtMostOnce,
        is_without_own: options.nl(),
        replay: match options.rh() {
            RetainHandling::SendRetained => Replay::Always,
            RetainHandling::SendRetainedIfNotExists => Replay::WhenNew,
            RetainHandling::DoNotSendRetained => Replay::Never,
        },
    }
}
