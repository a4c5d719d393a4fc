//! Compares a collection with the books and the truth, and mends what does not agree.

use std::collections::{BTreeSet, HashMap};

use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::ingest::{Ingest, IngestError};
use guildex_store::{StoreError, books, channels, jobs, sessions};
use guildex_types::{GuildId, JobClass, ModelSlug, Revision, SessionId, Task};
use serde::{Deserialize, Serialize};

/// Points, books and sessions handled at a time.
const PAGE: usize = 1_000;

/// Why a repair did not come to its end. It can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is missing could not be asked for.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// What a repair found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Sessions whose points are as the books say.
    pub sound: u64,
    /// Sessions that are indexed again, since points and books did not agree.
    pub broken: u64,
    /// Sessions that are no more, whose points were removed.
    pub strays: u64,
}

/// What a collection holds of a session.
struct Found {
    revision: Revision,
    points: u32,
    /// Points of several revisions.
    is_mixed: bool,
}

/// Goes through every guild that the index or the database knows. What is removed is removed at once, what is to be
/// indexed again is asked for. Jobs may go on meanwhile; what they change while it is looked at is at worst indexed
/// once more.
///
/// # Errors
/// If index or Postgres fail.
pub async fn repair(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    collection: &CollectionName,
    model: &ModelSlug,
) -> Result<Repaired, RepairError> {
    let mut guilds: BTreeSet<GuildId> = index.guilds(collection).await?.into_iter().collect();
    let mut db = ingest.pool().acquire().await.map_err(StoreError::from)?;
    guilds.extend(channels::guilds(&mut db).await?);
    drop(db);
    let mut repaired = Repaired::default();
    for guild in guilds {
        let of_guild = Guild { ingest, index, collection, model, guild };
        of_guild.repair(&mut repaired).await?;
        backfill::plan(ingest, guild, None).await?;
    }
    Ok(repaired)
}

struct Guild<'a> {
    ingest: &'a Ingest,
    index: &'a dyn VectorIndex,
    collection: &'a CollectionName,
    model: &'a ModelSlug,
    guild: GuildId,
}

impl Guild<'_> {
    async fn repair(&self, repaired: &mut Repaired) -> Result<(), RepairError> {
        // Whatever is made from now on has a higher revision, and is not touched.
        let mut db = self.ingest.pool().acquire().await.map_err(StoreError::from)?;
        let now = sessions::next_revision(&mut db).await?;
        drop(db);
        let mut found = self.found().await?;
        let mut broken = Vec::new();
        let mut after = None;
        loop {
            let page =
                books::of_guild(self.ingest.pool(), self.guild, self.model, after, PAGE as i64).await?;
            let Some(last) = page.last().map(|book| book.session_id) else { break };
            for book in page {
                let agrees = found.remove(&book.session_id).is_some_and(|found| {
                    !found.is_mixed && found.revision == book.point_revision && found.points == book.points
                });
                if agrees {
                    repaired.sound += 1;
                } else {
                    broken.push(book.session_id);
                }
            }
            after = Some(last);
        }
        // No book tells of what is left.
        let unknown: Vec<SessionId> = found.into_keys().collect();
        for page in unknown.chunks(PAGE) {
            broken.extend(self.sweep(page, now, repaired).await?);
        }
        for page in broken.chunks(PAGE) {
            self.index_again(page).await?;
        }
        repaired.broken += broken.len() as u64;
        Ok(())
    }

    /// What the collection holds of the guild's sessions.
    async fn found(&self) -> Result<HashMap<SessionId, Found>, RepairError> {
        let mut sessions: HashMap<SessionId, Found> = HashMap::new();
        let mut after = None;
        loop {
            let page = self.index.scroll(self.collection, self.guild, after, PAGE).await?;
            for point in page.points {
                let revision = point.payload.revision;
                let found = sessions.entry(point.payload.session_id);
                let found = found.or_insert(Found { revision, points: 0, is_mixed: false });
                found.points += 1;
                found.is_mixed |= found.revision != revision;
            }
            after = page.next;
            if after.is_none() {
                return Ok(sessions);
            }
        }
    }

    /// Removes the points of sessions that are no more, and returns those that live.
    async fn sweep(
        &self,
        sessions: &[SessionId],
        now: Revision,
        repaired: &mut Repaired,
    ) -> Result<Vec<SessionId>, RepairError> {
        let living = books::living(self.ingest.pool(), self.guild, sessions).await?;
        let gone: Vec<_> = sessions
            .iter()
            .filter(|session| !living.contains(session))
            .map(|&session| (session, now))
            .collect();
        if !gone.is_empty() {
            self.index.delete_below(self.collection, self.guild, &gone).await?;
        }
        repaired.strays += gone.len() as u64;
        Ok(living.into_iter().collect())
    }

    /// Strikes sessions out of the books, so that nothing of them is found or taken for unchanged, and asks for them.
    async fn index_again(&self, sessions: &[SessionId]) -> Result<(), RepairError> {
        let pool = self.ingest.pool();
        let mut tx = pool.begin().await.map_err(StoreError::from)?;
        let struck = books::strike(&mut tx, self.guild, self.model, sessions).await?;
        // Higher than any revision, so that a job that told the books just before runs once more.
        let number = sessions::next_revision(&mut tx).await?;
        let wanted: Vec<_> = struck
            .into_iter()
            .map(|(session_id, _)| {
                let task = Task::IndexSession { session_id };
                self.ingest.job(self.guild, task, JobClass::Backfill, number)
            })
            .collect();
        jobs::enqueue(&mut tx, &wanted, self.ingest.config().max_attempts).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}
