//! Point ids, of which the stand-in accepts UUIDs.

use qdrant_client::qdrant::PointId;
use qdrant_client::qdrant::point_id::PointIdOptions;
use tonic::Status;
use uuid::Uuid;

/// UUID of a point id.
///
/// # Errors
/// If it is none.
pub fn id(id: Option<PointId>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(id)) => id.parse().map_err(|_| Status::invalid_argument("no UUID")),
        _ => Err(Status::invalid_argument("no UUID")),
    }
}
