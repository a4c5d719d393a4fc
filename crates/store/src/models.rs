//! The embedding models whose collections are kept.

use guildex_types::ModelSlug;
use sqlx::PgPool;

use crate::StoreError;

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

/// Strikes out all that the books say of a model's collection, which was lost; returns how many sessions that
/// was. Nothing of them is found until they are indexed again.
///
/// # Errors
/// If Postgres fails.
pub async fn forget_indexed(pool: &PgPool, model: &ModelSlug) -> Result<u64, StoreError> {
    let deleted = sqlx::query("DELETE FROM indexed_sessions WHERE model = $1")
        .bind(model.as_str())
        .execute(pool)
        .await?;
    Ok(deleted.rows_affected())
}
