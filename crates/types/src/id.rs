//! Discord ids: 64-bit snowflakes, one type per kind.
//!
//! An id is a positive number below 2^63, so it fits a Postgres `bigint`. JSON holds it as a string, since
//! JSON numbers lose precision above 2^53.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sql::sql_bigint;

/// A string or number that is not a snowflake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {given:?}: expected an integer from 1 to 9223372036854775807")]
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
                // `parse` would accept "+5".
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

        sql_bigint!($name);
    };
}

snowflake! {
    /// Guild id: the tenant. Every query that reads or deletes a tenant's data takes one.
    GuildId
}
snowflake! {
    /// Id of a text channel or a thread. Messages do not distinguish the two.
    ChannelId
}
snowflake! {
    /// Message id.
    MessageId
}
snowflake! {
    /// Id of a member, bot or webhook.
    UserId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_above_2_to_the_53_round_trip_through_json() {
        let id: MessageId = "1234567890123456789".parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"1234567890123456789\"");
        assert_eq!(serde_json::from_str::<MessageId>(&json).unwrap(), id);
    }

    #[test]
    fn only_positive_integers_in_strings_are_ids() {
        for text in ["", "0", "-1", "+5", "1.0", "12a", " 7", "9223372036854775808", "٣"] {
            assert!(text.parse::<GuildId>().is_err(), "{text:?} was accepted");
        }
        assert!(serde_json::from_str::<GuildId>("12").is_err(), "a JSON number was accepted");
    }
}
