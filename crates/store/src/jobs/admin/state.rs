use serde::Serialize;

/// State of a job.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum JobState {
    /// Waits in Postgres until it is due and the queue has room.
    Pending,
    /// Waits in Redis.
    Queued,
    /// Claimed by a worker.
    Running,
    /// Succeeded.
    Completed,
    /// Cannot succeed.
    Dead,
}

guildex_types::sql_text!(JobState);

impl JobState {
    /// States of unfinished jobs.
    pub const UNFINISHED: [Self; 3] = [Self::Pending, Self::Queued, Self::Running];

    /// The name as stored and displayed.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the job is completed or dead.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Dead)
    }
}
