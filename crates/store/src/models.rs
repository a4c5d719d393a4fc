//! The embedding models whose collections are kept.

use guildex_types::{Eligibility, InvalidModelSlug, ModelSlug};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::StoreError;

/// What becomes of a model's collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// IndexModel in step, and searched.
    Active,
    /// IndexModel in step, so that it can be searched one day, or be compared.
    Filling,
    /// Only shrinks: what changes is taken out of it.
    Retired,
    /// A worker is about to remove it.
    Dropping,
}

impl ModelState {
    /// Whether changed sessions are embedded for it.
    pub fn is_maintained(self) -> bool {
        matches!(self, Self::Active | Self::Filling)
    }
}

/// A model with a collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexModel {
    /// Its name.
    pub slug: ModelSlug,
    /// The length of its vectors.
    pub dimensions: usize,
    /// What becomes of its collection.
    pub state: ModelState,
    /// The index that holds its collection; `None` before there is one.
    pub index_id: Option<Uuid>,
}

/// All models with collections, by name.
///
/// # Errors
/// If Postgres fails.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<IndexModel>, StoreError> {
    let rows: Vec<(String, i32, ModelState, Option<Uuid>)> =
        sqlx::query_as("SELECT slug, dimensions, state, index_id FROM models ORDER BY slug")
            .fetch_all(db)
            .await?;
    rows.into_iter()
        .map(|(slug, dimensions, state, index_id)| {
            let corrupt = |error: String| StoreError::Corrupt(error);
            Ok(IndexModel {
                slug: slug.parse().map_err(|e: InvalidModelSlug| corrupt(e.to_string()))?,
                dimensions: usize::try_from(dimensions).map_err(|e| corrupt(e.to_string()))?,
                state,
                index_id,
            })
        })
        .collect()
}

/// The model whose collection searches read; `None` before there is one.
///
/// # Errors
/// If Postgres fails.
pub async fn active(db: impl PgExecutor<'_>) -> Result<Option<ModelSlug>, StoreError> {
    Ok(list(db).await?.into_iter().find(|model| model.state == ModelState::Active).map(|model| model.slug))
}

/// Makes `model` the active one if none is yet; returns the one that is.
///
/// # Errors
/// If Postgres fails.
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
    .bind(model.as_str())
    .bind(as_integer(dimensions)?)
    .execute(pool)
    .await?;
    // Another process may have been faster, with another model.
    active(pool).await?.ok_or_else(|| StoreError::Corrupt("no model is active".to_owned()))
}

/// From now on the model's collection is filled, beside the active one's; what a retired one still holds counts.
///
/// # Errors
/// [`StoreError::Model`] if its collection is being dropped at the moment or had other dimensions; if Postgres
/// fails.
pub async fn start_filling(pool: &PgPool, model: &ModelSlug, dimensions: usize) -> Result<(), StoreError> {
    let filled = sqlx::query(
        "INSERT INTO models AS m (slug, dimensions, state) VALUES ($1, $2, 'filling')
         ON CONFLICT (slug) DO UPDATE SET state = CASE m.state WHEN 'active' THEN 'active' ELSE 'filling' END
         WHERE m.dimensions = $2 AND m.state <> 'dropping'",
    )
    .bind(model.as_str())
    .bind(as_integer(dimensions)?)
    .execute(pool)
    .await?;
    if filled.rows_affected() == 1 {
        Ok(())
    } else {
        let problem =
            "is being dropped, or has a collection of other dimensions, which must be dropped first";
        Err(StoreError::Model { model: model.clone(), problem })
    }
}

/// What [`switch`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// Searches read the model from now on.
    Yes,
    /// So many sessions are found through the active model and would not be through this one.
    Missing(u64),
}

/// Lets searches read the model, at once, if it lacks nothing that they find now, or if `anyway`. The model before
/// it is retired, or kept in step where `keep` says so.
///
/// Whoever records what a collection holds reads the models' states in the same transaction (see
/// [`record`](crate::sessions::record)): what is being indexed at this moment is recorded for both models before
/// the switch, or is indexed again for the new one.
///
/// # Errors
/// [`StoreError::Model`] if the model is not being filled; if Postgres fails.
pub async fn switch(
    pool: &PgPool,
    model: &ModelSlug,
    eligible: Eligibility,
    keep: bool,
    anyway: bool,
) -> Result<Switched, StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query("SELECT FROM models ORDER BY slug FOR UPDATE").execute(&mut *tx).await?;
    let states = list(&mut *tx).await?;
    match states.iter().find(|kept| kept.slug == *model).map(|kept| kept.state) {
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
    .bind(model.as_str())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(&mut *tx)
    .await?;
    if missing > 0 && !anyway {
        return Ok(Switched::Missing(u64::try_from(missing).unwrap_or(0)));
    }
    sqlx::query(
        "UPDATE models SET state = CASE WHEN $1 THEN 'filling' ELSE 'retired' END WHERE state = 'active'",
    )
    .bind(keep)
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE models SET state = 'active' WHERE slug = $1")
        .bind(model.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Switched::Yes)
}

/// Takes the lock of those who make collections, until the transaction ends. It may stand still for as long as
/// the index takes.
///
/// # Errors
/// If Postgres fails.
pub async fn lock(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('guildex/models', 0))").execute(tx).await?;
    Ok(())
}

/// Gives up models that no search reads; workers remove their collections. Returns which.
///
/// # Errors
/// If Postgres fails.
pub async fn drop_unused(pool: &PgPool) -> Result<Vec<ModelSlug>, StoreError> {
    sqlx::query("UPDATE models SET state = 'dropping' WHERE state = 'retired'").execute(pool).await?;
    let kept = list(pool).await?;
    Ok(kept.into_iter().filter(|model| model.state == ModelState::Dropping).map(|model| model.slug).collect())
}

/// Strikes a model whose collection is gone out of the books.
///
/// # Errors
/// If Postgres fails.
pub async fn delete(pool: &PgPool, model: &ModelSlug) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM models WHERE slug = $1 AND state = 'dropping'")
        .bind(model.as_str())
        .execute(pool)
        .await?;
    Ok(())
}

fn as_integer(dimensions: usize) -> Result<i32, StoreError> {
    i32::try_from(dimensions).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The index that holds the model's collection; `None` before there is one.
///
/// # Errors
/// If Postgres fails.
pub async fn index_id(pool: &PgPool, model: &ModelSlug) -> Result<Option<Uuid>, StoreError> {
    let id: Option<Option<Uuid>> = sqlx::query_scalar("SELECT index_id FROM models WHERE slug = $1")
        .bind(model.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(id.flatten())
}

/// Takes a new, empty index for the model's, and strikes out all that the books say of the one before. Returns
/// how many sessions that was; nothing of them is found until they are indexed again.
///
/// # Errors
/// If Postgres fails.
pub async fn replace_index(
    tx: &mut PgConnection,
    model: &ModelSlug,
    index_id: Uuid,
) -> Result<u64, StoreError> {
    sqlx::query("UPDATE models SET index_id = $2 WHERE slug = $1")
        .bind(model.as_str())
        .bind(index_id)
        .execute(&mut *tx)
        .await?;
    let deleted =
        sqlx::query("DELETE FROM indexed_sessions WHERE model = $1").bind(model.as_str()).execute(tx).await?;
    Ok(deleted.rows_affected())
}
