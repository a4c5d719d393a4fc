//! What a queue hands over, and how it is written in Redis.

use std::convert::Infallible;

use apalis::prelude::Codec;
use guildex_types::JobId;

/// What a handler gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A job to claim in the ledger. It may come twice, and for a job that is long done.
    Job(JobId),
    /// Bytes that are no job id, as they lay in Redis; they are not delivered again.
    Undecodable(Vec<u8>),
}

impl Delivery {
    /// The job, if it is one.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Job(id) => Some(*id),
            Self::Undecodable(_) => None,
        }
    }
}

/// A job id as a JSON string. Decoding never fails: an error here would end the worker, and then the next one,
/// for as long as the payload exists.
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
        fn a_job_id_survives_redis(id: u128) {
            let delivery = Delivery::Job(JobId::from(uuid::Uuid::from_u128(id)));
            let Ok(bytes) = JobIdCodec.encode(&delivery);
            prop_assert_eq!(JobIdCodec.decode(&bytes), Ok(delivery));
        }

        #[test]
        fn any_other_bytes_are_handed_over_as_they_are(bytes: Vec<u8>) {
            prop_assert_eq!(JobIdCodec.decode(&bytes), Ok(Delivery::Undecodable(bytes)));
        }
    }
}
