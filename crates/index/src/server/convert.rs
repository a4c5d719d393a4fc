//! Points as the server has them.

use std::collections::HashMap;

use guildex_types::PointId;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vector_output::Vector as Stored;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadSelector;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorSelector;
use qdrant_client::qdrant::{
    DenseVector, NamedVectors, PayloadIncludeSelector, PointId as ServerPointId, PointStruct, RetrievedPoint,
    SparseVector as ServerSparseVector, Value, Vector, Vectors, WithPayloadSelector, WithVectorsSelector,
    vector, vectors,
};
use serde::de::DeserializeOwned;

use super::schema::{BM25, DENSE};
use crate::{Error, Point, SparseVector};

/// The whole payload.
pub(super) fn all_fields() -> WithPayloadSelector {
    WithPayloadSelector { selector_options: Some(PayloadSelector::Enable(true)) }
}

/// A part of the payload.
pub(super) fn fields(names: &[&str]) -> WithPayloadSelector {
    let fields = names.iter().map(|&name| name.to_owned()).collect();
    WithPayloadSelector {
        selector_options: Some(PayloadSelector::Include(PayloadIncludeSelector { fields })),
    }
}

/// All vectors.
pub(super) fn all_vectors() -> WithVectorsSelector {
    WithVectorsSelector { selector_options: Some(VectorSelector::Enable(true)) }
}

pub(super) fn id_to_server(id: PointId) -> ServerPointId {
    ServerPointId { point_id_options: Some(PointIdOptions::Uuid(id.get().to_string())) }
}

pub(super) fn id_from_server(id: Option<ServerPointId>) -> Result<PointId, Error> {
    let foreign = |id: String| Error::Engine(format!("point {id} is not of this program"));
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(id)) => match id.parse::<uuid::Uuid>() {
            Ok(id) => Ok(id.into()),
            Err(_) => Err(foreign(id)),
        },
        Some(PointIdOptions::Num(id)) => Err(foreign(id.to_string())),
        None => Err(Error::Engine("a point has no id".to_owned())),
    }
}

pub(super) fn sparse(vector: &SparseVector) -> ServerSparseVector {
    ServerSparseVector { indices: vector.indices().to_vec(), values: vector.values().to_vec() }
}

pub(super) fn to_server(point: &Point) -> Result<PointStruct, Error> {
    let named = |vector| Vector { vector: Some(vector), ..Vector::default() };
    let dense = vector::Vector::Dense(DenseVector { data: point.dense.clone() });
    let bm25 = vector::Vector::Sparse(sparse(&point.bm25));
    let vectors = HashMap::from([(DENSE.to_owned(), named(dense)), (BM25.to_owned(), named(bm25))]);
    let serde_json::Value::Object(payload) =
        serde_json::to_value(&point.payload).map_err(|_| Error::Payload(point.id))?
    else {
        return Err(Error::Payload(point.id));
    };
    Ok(PointStruct {
        id: Some(id_to_server(point.id)),
        payload: payload.into_iter().map(|(name, value)| (name, value.into())).collect(),
        vectors: Some(Vectors {
            vectors_options: Some(vectors::VectorsOptions::Vectors(NamedVectors { vectors })),
        }),
    })
}

pub(super) fn from_server(point: RetrievedPoint) -> Result<Point, Error> {
    let id = id_from_server(point.id)?;
    let stored = |name| point.vectors.as_ref().and_then(|vectors| vectors.get_vector_by_name(name));
    let dense = match stored(DENSE) {
        Some(Stored::Dense(dense)) => dense.data,
        _ => vec![],
    };
    let bm25 = match stored(BM25) {
        Some(Stored::Sparse(words)) => words.indices.into_iter().zip(words.values).collect(),
        _ => SparseVector::default(),
    };
    Ok(Point { id, dense, bm25, payload: payload(id, point.payload)? })
}

/// Decodes the payload of a point.
pub(super) fn payload<T: DeserializeOwned>(id: PointId, payload: HashMap<String, Value>) -> Result<T, Error> {
    let payload = payload.into_iter().map(|(name, value)| (name, json(value))).collect();
    // What the decoder says could quote content.
    serde_json::from_value(serde_json::Value::Object(payload)).map_err(|_| Error::Payload(id))
}

/// A value as JSON. Numbers that JSON does not have become null.
pub(super) fn json(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::IntegerValue(value)) => value.into(),
        Some(Kind::DoubleValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => serde_json::Value::Object(
            fields.fields.into_iter().map(|(name, value)| (name, json(value))).collect(),
        ),
    }
}
