//! The embedding models whose collections are kept.

use guildex_types::{InvalidModelSlug, ModelSlug};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::StoreError;

/// What becomes of a model's collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Kept in step, and searched.
    Active,
    /// Kept in step, so that it can be searched one day, or be compared.
    Filling,
    /// Only shrinks: what changes is taken out of it.
    Retired,
}

/// A model with a collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
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
pub async fn kept(db: impl PgExecutor<'_>) -> Result<Vec<Kept>, StoreError> {
    let rows: Vec<(String, i32, ModelState, Option<Uuid>)> =
        sqlx::query_as("SELECT slug, dimensions, state, index_id FROM models ORDER BY slug")
            .fetch_all(db)
            .await?;
    rows.into_iter()
        .map(|(slug, dimensions, state, index_id)| {
            let corrupt = |error: String| StoreError::Corrupt(error);
            Ok(Kept {
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
    Ok(kept(db).await?.into_iter().find(|model| model.state == ModelState::Active).map(|model| model.slug))
}

/// Makes `model` the active one if none is yet.
///
/// # Errors
/// If another model is active, or Postgres fails.
pub async fn ensure_active(pool: &PgPool, model: &ModelSlug, dimensions: usize) -> Result<(), StoreError> {
    let dimensions = i32::try_from(dimensions).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    sqlx::query(
        "INSERT INTO models (slug, dimensions, state) VALUES ($1, $2, 'active') ON CONFLICT DO NOTHING",
    )
    .bind(model.as_str())
    .bind(dimensions)
    .execute(pool)
    .await?;
    let active: String =
        sqlx::query_scalar("SELECT slug FROM models WHERE state = 'active'").fetch_one(pool).await?;
    if active == model.as_str() {
        Ok(())
    } else {
        Err(StoreError::OtherModel { active, configured: model.to_string() })
    }
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
pub async fn move_to(tx: &mut PgConnection, model: &ModelSlug, index_id: Uuid) -> Result<u64, StoreError> {
    sqlx::query("UPDATE models SET index_id = $2 WHERE slug = $1")
        .bind(model.as_str())
        .bind(index_id)
        .execute(&mut *tx)
        .await?;
    let deleted =
        sqlx::query("DELETE FROM indexed_sessions WHERE model = $1").bind(model.as_str()).execute(tx).await?;
    Ok(deleted.rows_affected())
}
