//! What may go wrong on the way, told apart by what it says about the other side.

use std::fmt;

/// Why something was not done at a destination. Each text is for people, names the cause and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// The other system was not reached or does not believe us. Nothing was changed, and nothing else will fare better.
    Connection(String),
    /// The other system refuses this one, and will again until somebody changes something.
    Refused(String),
    /// Another object has the name already.
    Taken(String),
    /// It was not done, and may well be done later.
    Unavailable(String),
    /// It may have been done or not: the answer was lost, or spoke of a failure of its own.
    Unknown(String),
}

impl DeliveryError {
    /// Whether it is about the whole destination, not about one object.
    pub const fn is_of_connection(&self) -> bool {
        matches!(self, Self::Connection(_))
    }

    /// Whether trying again by itself may help.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Unavailable(_) | Self::Unknown(_) => true,
            Self::Refused(_) | Self::Taken(_) => false,
        }
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(text)
            | Self::Refused(text)
            | Self::Taken(text)
            | Self::Unavailable(text)
            | Self::Unknown(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for DeliveryError {}
