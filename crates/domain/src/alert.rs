//! Alerts: what people want to hear of certificates, and by which channels (contract syncs §5.1).

mod channel;
mod filter;
mod message;

pub use channel::{Channel, ChannelKind, ChannelSettings, RECIPIENTS_MAX, is_https_url, is_slack_url};
pub use filter::{FILTERS_MAX, Facts, Field, Filter, FilterValue, Operator, VALUES_MAX, are_met, includes_authorities};
pub use message::{Message, Subject, ToldCertificate, ToldFailure};

use crate::{AlertDeliveryId, AlertId, AlertRunId, OrganizationId, ProjectId, Time};
use uuid::Uuid;

/// How many channels an alert has at most.
pub const CHANNELS_MAX: usize = 10;
/// How many alerts a project has at most.
pub const ALERTS_MAX: usize = 200;
/// How many certificates one run tells of at most; what is left is told by the next one.
pub const TOLD_MAX: usize = 1_000;
/// How often a message is sent until it is taken.
pub const TRIES_MAX: u32 = 10;
/// How long it is waited between two tries.
pub const TRY_PAUSE_SECONDS: i64 = 30;
/// How often alerts look for what runs out.
pub const LOOK_SECONDS: i64 = 10 * 60;
/// How often they look at everything in their time again, and not only at what came into it.
pub const WHOLE_LOOK_SECONDS: i64 = 24 * 60 * 60;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A certificate runs out.
    Expiration,
    /// A certificate took the place of another one.
    Renewal,
    /// A certificate was issued.
    Issuance,
    /// A certificate was revoked.
    Revocation,
    /// A certificate was asked for, or was to be renewed, and there is none.
    IssuanceFailure,
    /// The certificate of an authority runs out.
    CaExpiration,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Expiration, Self::Renewal, Self::Issuance, Self::Revocation, Self::IssuanceFailure, Self::CaExpiration];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expiration => "expiration",
            Self::Renewal => "renewal",
            Self::Issuance => "issuance",
            Self::Revocation => "revocation",
            Self::IssuanceFailure => "issuance-failure",
            Self::CaExpiration => "ca-expiration",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it is about an end that comes, and not about something that happened.
    pub const fn is_about_an_end(self) -> bool {
        match self {
            Self::Expiration | Self::CaExpiration => true,
            Self::Renewal | Self::Issuance | Self::Revocation | Self::IssuanceFailure => false,
        }
    }
}

/// What people want to hear, without the channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// The organisation.
    pub organization: OrganizationId,
    /// The project.
    pub project: ProjectId,
    /// Its name, which no other one of the project has.
    pub name: String,
    /// What people say about it.
    pub description: Option<String>,
    /// What it is about.
    pub event: EventKind,
    /// How long before the end, as it was written.
    pub before: Option<String>,
    /// What a certificate must be like; all of them.
    pub filters: Vec<Filter>,
    /// Whether it tells anything.
    pub is_enabled: bool,
    /// Whether it tells of the same certificate each day until that is renewed or over.
    pub is_daily: bool,
    /// One more at each change; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

impl Alert {
    /// How long before the end it tells; nothing when it is about something that happened.
    pub fn before_millis(&self) -> i64 {
        self.before.as_deref().and_then(parse_before).unwrap_or(0)
    }
}

/// How far an alert about ends has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Everything that ends until then was told.
    pub until: Time,
    /// When it looked last.
    pub at: Time,
    /// When it last looked at everything.
    pub whole_at: Time,
}

/// Milliseconds of `alertBefore`: digits and `d`, `w`, `m` (30 days) or `y` (365 days), of at most 32 characters.
pub fn parse_before(text: &str) -> Option<i64> {
    const CHARACTERS_MAX: usize = 32;
    const MILLIS_MAX: i64 = 100 * 365 * DAY_MILLIS;
    let days = match text.as_bytes().last()? {
        b'd' => 1,
        b'w' => 7,
        b'm' => 30,
        b'y' => 365,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if text.len() > CHARACTERS_MAX || digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // More than a certificate can live is as good as that.
    let count = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(count.saturating_mul(days).saturating_mul(DAY_MILLIS).min(MILLIS_MAX))
}

/// Whole days from now to an end, rounded up; 0 when it is over.
pub const fn days_until(end: Time, now: Time) -> i64 {
    let millis = end.millis().saturating_sub(now.millis());
    if millis <= 0 { 0 } else { millis.div_euclid(DAY_MILLIS) + (millis.rem_euclid(DAY_MILLIS) != 0) as i64 }
}

/// One time that an alert had something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: AlertRunId,
    /// The alert.
    pub alert: AlertId,
    /// What is told.
    pub subject: Subject,
    /// When it was found.
    pub created_at: Time,
}

/// What becomes of a message on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// It is to be sent.
    Pending,
    /// It was taken.
    Sent,
    /// It was refused, or nobody took it in time.
    Failed,
    /// The alert or the channel was switched off before it was sent.
    Dropped,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Sent, Self::Failed, Self::Dropped];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A message of a run on one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id, which the receiver sees: the same at each try.
    pub id: AlertDeliveryId,
    /// The run.
    pub run: AlertRunId,
    /// The channel.
    pub channel: crate::AlertChannelId,
    /// The kind of the channel.
    pub kind: ChannelKind,
    /// What became of it.
    pub status: DeliveryStatus,
    /// How often it was sent.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When its status changed last.
    pub updated_at: Time,
}

/// What became of the last run, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAlertRun {
    /// When something was found.
    pub at: Time,
    /// Why a channel did not take it; none when all did.
    pub error: Option<String>,
}

/// What the row is called by which an alert tells of a failure once a day.
pub fn failure_key(digest: &[u8; 32]) -> Uuid {
    let mut octets = [0; 16];
    octets.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(octets).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_before_is_digits_and_a_unit() {
        for (text, days) in [
            ("30d", Some(30)),
            ("2w", Some(14)),
            ("1m", Some(30)),
            ("1y", Some(365)),
            ("0d", Some(0)),
            ("007d", Some(7)),
            ("99999999999999999999999999y", Some(36_500)),
            ("", None),
            ("d", None),
            ("30", None),
            ("30h", None),
            ("-1d", None),
            ("1.5d", None),
            ("1é", None),
            (" 1d", None),
            ("1000000000000000000000000000000000d", None),
        ] {
            assert_eq!(parse_before(text), days.map(|days: i64| days * DAY_MILLIS), "{text}");
        }
    }

    #[test]
    fn a_begun_day_counts() {
        let now = Time::from_seconds(1_000_000);
        for (seconds, days) in [(-1, 0), (0, 0), (1, 1), (86_400, 1), (86_401, 2)] {
            assert_eq!(days_until(now.plus_seconds(seconds), now), days, "{seconds}");
        }
    }
}
