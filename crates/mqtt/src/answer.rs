//! The answers of a server, in either version. What a code means is the contract's (§6.1); the octets are the codec's business.

use crate::packet::Version;
use domain::registry::topic::Refused;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use services::registry::connect::Refusal;

/// What became of a filter.
#[derive(Clone, Copy, Debug)]
pub enum Granted {
    /// It was subscribed to.
    Yes {
        /// Whether messages are to be acknowledged.
        is_acknowledged: bool,
    },
    /// It was refused.
    No(Refused),
    /// There are too many.
    TooMany,
    /// A failure of ours.
    Failed,
}

/// The answer that there is no session.
pub fn refusal(version: Version, refusal: Refusal) -> Vec<u8> {
    match version {
        Version::V3 => connack_v3(match refusal {
            Refusal::BadCredentials => ConnectReturnCode::BadUserNameOrPassword,
            Refusal::NotAuthorized => ConnectReturnCode::NotAuthorized,
            Refusal::Unavailable => ConnectReturnCode::ServerUnavailable,
        }),
        Version::V5 => connack_v5(match refusal {
            Refusal::BadCredentials => ConnectReasonCode::BadUserNameOrPassword,
            Refusal::NotAuthorized => ConnectReasonCode::NotAuthorized,
            Refusal::Unavailable => ConnectReasonCode::ServerUnavailable,
        }),
    }
}

/// The answer to a way of authentication that is not supported.
pub fn bad_authentication_method() -> Vec<u8> {
    connack_v5(ConnectReasonCode::BadAuthenticationMethod)
}

/// The answer to a client id that is not taken.
pub fn bad_client_id(version: Version) -> Vec<u8> {
    match version {
        Version::V3 => connack_v3(ConnectReturnCode::IdentifierRejected),
        Version::V5 => connack_v5(ConnectReasonCode::ClientIdentifierNotValid),
    }
}

/// CONNACK of MQTT 3.1.1 with this code, and without a session.
pub fn connack_v3(code: ConnectReturnCode) -> Vec<u8> {
    let packet = v3_1_1::Connack::builder().session_present(false).return_code(code).build();
    packet.map(|packet| packet.to_continuous_buffer()).unwrap_or_default()
}

/// CONNACK of MQTT 5 with this code, and without a session.
pub fn connack_v5(code: ConnectReasonCode) -> Vec<u8> {
    let packet = v5_0::Connack::builder().session_present(false).reason_code(code).build();
    packet.map(|packet| packet.to_continuous_buffer()).unwrap_or_default()
}

/// The answer to a message with QoS 1.
pub fn puback(version: Version, id: u16) -> Vec<u8> {
    let octets = match version {
        Version::V3 => v3_1_1::Puback::builder().packet_id(id).build().map(|packet| packet.to_continuous_buffer()),
        Version::V5 => v5_0::Puback::builder().packet_id(id).build().map(|packet| packet.to_continuous_buffer()),
    };
    octets.unwrap_or_default()
}

/// The answer to a subscription, one result for each filter.
pub fn suback(version: Version, id: u16, results: &[Granted]) -> Vec<u8> {
    let octets = match version {
        Version::V3 => {
            let codes = results.iter().map(|result| match result {
                Granted::Yes { is_acknowledged: true } => SubackReturnCode::SuccessMaximumQos1,
                Granted::Yes { is_acknowledged: false } => SubackReturnCode::SuccessMaximumQos0,
                Granted::No(_) | Granted::TooMany | Granted::Failed => SubackReturnCode::Failure,
            });
            let packet = v3_1_1::Suback::builder().packet_id(id).return_codes(codes.collect()).build();
            packet.map(|packet| packet.to_continuous_buffer())
        }
        Version::V5 => {
            let codes = results.iter().map(|result| match result {
                Granted::Yes { is_acknowledged: true } => SubackReasonCode::GrantedQos1,
                Granted::Yes { is_acknowledged: false } => SubackReasonCode::GrantedQos0,
                Granted::No(Refused::Forbidden | Refused::Malformed) => SubackReasonCode::NotAuthorized,
                Granted::No(Refused::Shared) => SubackReasonCode::SharedSubscriptionsNotSupported,
                Granted::TooMany => SubackReasonCode::QuotaExceeded,
                Granted::Failed => SubackReasonCode::UnspecifiedError,
            });
            let packet = v5_0::Suback::builder().packet_id(id).reason_codes(codes.collect()).build();
            packet.map(|packet| packet.to_continuous_buffer())
        }
    };
    octets.unwrap_or_default()
}

/// The answer to the end of subscriptions: whether there was one, for each filter.
pub fn unsuback(version: Version, id: u16, were_there: &[bool]) -> Vec<u8> {
    let octets = match version {
        Version::V3 => v3_1_1::Unsuback::builder().packet_id(id).build().map(|packet| packet.to_continuous_buffer()),
        Version::V5 => {
            let codes = were_there.iter().map(|was_there| match was_there {
                true => UnsubackReasonCode::Success,
                false => UnsubackReasonCode::NoSubscriptionExisted,
            });
            let packet = v5_0::Unsuback::builder().packet_id(id).reason_codes(codes.collect()).build();
            packet.map(|packet| packet.to_continuous_buffer())
        }
    };
    octets.unwrap_or_default()
}

/// The answer to a ping.
pub fn pingresp() -> Vec<u8> {
    let packet = v3_1_1::Pingresp::builder().build();
    packet.map(|packet| packet.to_continuous_buffer()).unwrap_or_default()
}

/// The server's goodbye, which only MQTT 5 has.
pub fn disconnect(version: Version, reason: DisconnectReasonCode) -> Vec<u8> {
    match version {
        Version::V3 => Vec::new(),
        Version::V5 => {
            let packet = v5_0::Disconnect::builder().reason_code(reason).build();
            packet.map(|packet| packet.to_continuous_buffer()).unwrap_or_default()
        }
    }
}
