//! Discord's ids: 64-bit snowflakes, one Rust type for each kind of thing.
//!
//! An id is a positive number below 2^63, so it fits a Postgres `bigint`. It is written as a string wherever
//! it leaves the program (JSON numbers lose snowflakes beyond 2^53), and read from one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text or number that is not a snowflake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an id: expected a whole number from 1 to 9223372036854775807")]
pub struct InvalidId {
    given: String,
}

macro_rules! snowflake {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// The id as Postgres stores it.
            pub fn get(self) -> i64 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = InvalidId;

            fn try_from(id: i64) -> Result<Self, InvalidId> {
                if id > 0 { Ok(Self(id)) } else { Err(InvalidId { given: id.to_string() }) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId { given: text.chars().take(40).collect() };
                // `parse` alone would take "+5", which is no id.
                if !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(invalid());
                }
                text.parse::<i64>().ok().and_then(|id| Self::try_from(id).ok()).ok_or_else(invalid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

snowflake! {
    /// A guild: the tenant. Nothing is read or deleted without one.
    GuildId
}
snowflake! {
    /// A text channel or a thread; Discord makes no difference between the two in a message.
    ChannelId
}
snowflake! {
    /// A message.
    MessageId
}
snowflake! {
    /// A member, a bot or a webhook.
    UserId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_beyond_the_floats_survives_json() {
        let id: MessageId = "1234567890123456789".parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"1234567890123456789\"");
        assert_eq!(serde_json::from_str::<MessageId>(&json).unwrap(), id);
    }

    #[test]
    fn what_is_no_positive_number_is_refused() {
        for text in ["", "0", "-1", "+5", "1.0", "12a", " 7", "9223372036854775808", "٣"] {
            assert!(text.parse::<GuildId>().is_err(), "{text:?} was taken");
        }
        assert!(serde_json::from_str::<GuildId>("12").is_err(), "a JSON number was taken");
    }
}
