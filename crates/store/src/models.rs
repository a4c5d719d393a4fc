//! Embedding models and the state of their collections.

use guildex_types::{Eligibility, ModelSlug};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::sql::unsigned;

/// State of a model's collection.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ModelState {
    /// Updated and searched.
    Active,
    /// Updated, but not searched: a candidate, or kept to switch back.
    Filling,
    /// Not updated: changed sessions are only removed from it.
    Retired,
    /// About to be dropped by a worker.
    Dropping,
}

guildex_types::sql_text!(ModelState);

impl ModelState {
    /// The name as stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether changed sessions are embedded for this model.
    pub fn is_maintained(self) -> bool {
        matches!(self, Self::Active | Self::Filling)
    }
}

/// A model with a collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexModel {
    /// Model name.
    pub slug: ModelSlug,
    /// Length of the vectors.
    pub dimensions: usize,
    /// State of the collection.
    pub state: ModelState,
    /// Index that holds the collection; `None` before it is created.
    pub index_id: Option<Uuid>,
}

/// Returns all models with collections, ordered by name.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<IndexModel>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as("SELECT slug, dimensions, state, index_id FROM models ORDER BY slug")
        .fetch_all(db)
        .await?;
    rows.into_iter().map(IndexModel::try_from).collect()
}

#[derive(FromRow)]
struct Row {
    slug: ModelSlug,
    dimensions: i32,
    state: ModelState,
    index_id: Option<Uuid>,
}

impl TryFrom<Row> for IndexModel {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let dimensions = usize::try_from(row.dimensions).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        Ok(Self { slug: row.slug, dimensions, state: row.state, index_id: row.index_id })
    }
}

/// Returns the model that searches use; `None` before there is one.
pub async fn active(db: impl PgExecutor<'_>) -> Result<Option<ModelSlug>, StoreError> {
    Ok(list(db).await?.into_iter().find(|model| model.state == ModelState::Active).map(|model| model.slug))
}

/// Makes `model` the active one if there is none, and returns the active one.
pub async fn ensure_active(
    pool: &PgPool,
    model: &ModelSlug,
    dimensions: usize,
) -> Result<ModelSlug, StoreError> {
    let none_yet = active(pool).await?;
    if let Some(active) = none_yet {
        return Ok(active);
    }
    sqlx::query(
        "INSERT INTO models (slug, dimensions, state) VALUES ($1, $2, 'active') ON CONFLICT DO NOTHING",
    )
    .bind(model)
    .bind(as_integer(dimensions)?)
    .execute(pool)
    .await?;
    // Another process may have activated another model meanwhile.
    active(pool).await?.ok_or_else(|| StoreError::Corrupt("no model is active".to_owned()))
}

/// Starts to fill the model's collection beside the active one. Records of a retired model stay valid.
///
/// # Errors
/// [`StoreError::Model`] if the collection is being dropped or has other dimensions.
pub async fn start_filling(pool: &PgPool, model: &ModelSlug, dimensions: usize) -> Result<(), StoreError> {
    let filled = sqlx::query(
        "INSERT INTO models AS m (slug, dimensions, state) VALUES ($1, $2, 'filling')
         ON CONFLICT (slug) DO UPDATE SET state = CASE m.state WHEN 'active' THEN 'active' ELSE 'filling' END
         WHERE m.dimensions = $2 AND m.state <> 'dropping'",
    )
    .bind(model)
    .bind(as_integer(dimensions)?)
    .execute(pool)
    .await?;
    if filled.rows_affected() == 1 {
        Ok(())
    } else {
        let problem =
            "is being dropped, or has a collection with other dimensions, which must be dropped first";
        Err(StoreError::Model { model: model.clone(), problem })
    }
}

/// Result of [`switch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// Searches use the model now.
    Yes,
    /// Not switched: this number of sessions is found with the active model, but would not be with this one.
    Missing(u64),
}

/// Switches searches to the model, if its collection lacks no session that searches find now, or if `force`.
/// The previous model is retired, or is still updated with `keep`.
///
/// [`record`](crate::sessions::record) reads the models' states in the transaction that records: a session
/// that is being indexed now is recorded for both models before the switch, or is indexed again for the new
/// one.
///
/// # Errors
/// [`StoreError::Model`] if the model is not being filled.
pub async fn switch(
    pool: &PgPool,
    model: &ModelSlug,
    eligible: Eligibility,
    keep: bool,
    force: bool,
) -> Result<Switched, StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT FROM models ORDER BY slug FOR UPDATE").execute(&mut *tx).await?;
    let states = list(&mut *tx).await?;
    match states.iter().find(|other| other.slug == *model).map(|other| other.state) {
        Some(ModelState::Active) => return Ok(Switched::Yes),
        Some(ModelState::Filling) => {}
        _ => return Err(StoreError::Model { model: model.clone(), problem: "is not being filled" }),
    }
    let missing: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM indexed_sessions a
         JOIN models m ON m.slug = a.model AND m.state = 'active'
         JOIN sessions s ON s.id = a.session_id AND s.deleted_at IS NULL
              AND is_eligible(s.message_count, s.word_count, $2, $3)
              AND a.indexed_revision >= s.last_removal_revision
         LEFT JOIN indexed_sessions f ON f.session_id = a.session_id AND f.model = $1
              AND f.indexed_revision >= a.indexed_revision
         WHERE f.session_id IS NULL",
    )
    .bind(model)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(&mut *tx)
    .await?;
    if missing > 0 && !force {
        return Ok(Switched::Missing(unsigned(missing)));
    }
    sqlx::query(
        "UPDATE models SET state = CASE WHEN $1 THEN 'filling' ELSE 'retired' END WHERE state = 'active'",
    )
    .bind(keep)
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE models SET state = 'active' WHERE slug = $1").bind(model).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Switched::Yes)
}

/// Locks the creation of collections until the transaction ends, which may idle for as long as the index
/// takes.
pub async fn lock(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('guildex/models', 0))").execute(tx).await?;
    Ok(())
}

/// Marks retired models for dropping, and returns all that are marked. Workers drop their collections.
pub async fn drop_unused(pool: &PgPool) -> Result<Vec<ModelSlug>, StoreError> {
    sqlx::query("UPDATE models SET state = 'dropping' WHERE state = 'retired'").execute(pool).await?;
    let models = list(pool).await?;
    Ok(models
        .into_iter()
        .filter(|model| model.state == ModelState::Dropping)
        .map(|model| model.slug)
        .collect())
}

/// Deletes a model, with its records, after its collection was dropped.
pub async fn delete(pool: &PgPool, model: &ModelSlug) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM models WHERE slug = $1 AND state = 'dropping'")
        .bind(model)
        .execute(pool)
        .await?;
    Ok(())
}

fn as_integer(dimensions: usize) -> Result<i32, StoreError> {
    i32::try_from(dimensions).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Returns the index that holds the model's collection; `None` before it is created.
pub async fn index_id(pool: &PgPool, model: &ModelSlug) -> Result<Option<Uuid>, StoreError> {
    let id: Option<Option<Uuid>> = sqlx::query_scalar("SELECT index_id FROM models WHERE slug = $1")
        .bind(model)
        .fetch_optional(pool)
        .await?;
    Ok(id.flatten())
}

/// Replaces the model's index by a new, empty one, deletes the records of the previous one and returns their
/// number. Searches do not find these sessions until they are indexed again.
pub async fn replace_index(
    tx: &mut PgConnection,
    model: &ModelSlug,
    index_id: Uuid,
) -> Result<u64, StoreError> {
    sqlx::query("UPDATE models SET index_id = $2 WHERE slug = $1")
        .bind(model)
        .bind(index_id)
        .execute(&mut *tx)
        .await?;
    let deleted =
        sqlx::query("DELETE FROM indexed_sessions WHERE model = $1").bind(model).execute(tx).await?;
    Ok(deleted.rows_affected())
}
