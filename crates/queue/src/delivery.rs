//! Deliveries, and their encoding in Redis.

use std::convert::Infallible;

use apalis::prelude::Codec;
use guildex_types::JobId;

/// Argument of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Job to claim in Postgres. May be delivered twice, and for a job that is completed.
    Job(JobId),
    /// Bytes that are no job id, as found in Redis. They are not delivered again.
    Undecodable(Vec<u8>),
}

impl Delivery {
    /// Job id, unless the delivery is undecodable.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Job(id) => Some(*id),
            Self::Undecodable(_) => None,
        }
    }
}

/// Encodes a job id as a JSON string. Decoding never fails: an error would end the worker, and each worker after it, for as
/// long as the payload exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobIdCodec;

impl Codec<Delivery> for JobIdCodec {
    type Error = Infallible;
    type Compact = Vec<u8>;

    fn encode(&self, delivery: &Delivery) -> Result<Vec<u8>, Infallible> {
        Ok(match delivery {
            Delivery::Job(id) => format!("\"{id}\"").into_bytes(),
            Delivery::Undecodable(bytes) => bytes.clone(),
        })
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<Delivery, Infallible> {
        Ok(serde_json::from_slice(bytes).map_or_else(|_| Delivery::Undecodable(bytes.clone()), Delivery::Job))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn job_ids_round_trip(id: u128) {
            let delivery = Delivery::Job(JobId::from(uuid::Uuid::from_u128(id)));
            let Ok(bytes) = JobIdCodec.encode(&delivery);
            prop_assert_eq!(JobIdCodec.decode(&bytes), Ok(delivery));
        }

        #[test]
        fn other_bytes_are_delivered_unchanged(bytes: Vec<u8>) {
            prop_assert_eq!(JobIdCodec.decode(&bytes), Ok(Delivery::Undecodable(bytes)));
        }
    }
}
