//! Job kinds, one file each: what the kind is for, its queue, limits and deduplication key, and how it runs.
//!
//! Payloads are defined in `guildex_types::job`, since producers write them. They hold ids and no content: a job reads
//! the current state when it runs, so it may run any number of times.

pub mod backfill_channel;
pub mod delete_session;
pub mod index_session;
pub mod remove_points;

#[cfg(test)]
mod tests {
    use guildex_types::{GuildId, Job, SessionId, Task};

    use super::*;

    #[test]
    fn constants_agree_with_the_payloads_that_producers_write() {
        let (guild, channel, first) = (1.try_into().unwrap(), 2.try_into().unwrap(), 3.try_into().unwrap());
        let session = SessionId::new(guild, channel, first);
        let job = |guild_id: GuildId, task: Task| Job { guild_id, task };
        for (job, kind, version, retries_forever, dedup_key) in [
            (
                job(guild, Task::IndexSession { session_id: session }),
                index_session::KIND,
                index_session::VERSION,
                index_session::RETRIES_FOREVER,
                Some(index_session::dedup_key(guild, session)),
            ),
            (
                job(guild, Task::DeleteSession { session_id: session }),
                delete_session::KIND,
                delete_session::VERSION,
                delete_session::RETRIES_FOREVER,
                Some(delete_session::dedup_key(guild, session)),
            ),
            (
                job(guild, Task::RemovePoints { sessions: Vec::new() }),
                remove_points::KIND,
                remove_points::VERSION,
                remove_points::RETRIES_FOREVER,
                None,
            ),
            (
                job(guild, Task::BackfillChannel { channel_id: channel }),
                backfill_channel::KIND,
                backfill_channel::VERSION,
                backfill_channel::RETRIES_FOREVER,
                Some(backfill_channel::dedup_key(guild, channel)),
            ),
        ] {
            assert_eq!(job.kind(), kind);
            assert_eq!(job.dedup_key(), dedup_key, "{kind}");
            assert_eq!(kind.retries_forever(), retries_forever, "{kind}");
            assert_eq!(job.encode().unwrap()["v"], version, "{kind}");
        }
    }
}
