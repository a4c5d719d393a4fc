//! Points and payloads as the engine has them.

use guildex_types::PointId;
use qdrant_edge::{
    PointId as EnginePointId, PointStruct, Record, SparseVector as EngineSparseVector, Vector,
    VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface,
};
use serde::de::DeserializeOwned;

use super::schema::{self, BM25, DENSE};
use crate::{Error, Point, SparseVector};

pub(super) fn fields(names: &[&str]) -> Result<WithPayloadInterface, Error> {
    Ok(WithPayloadInterface::Fields(names.iter().map(|name| schema::field(name)).collect::<Result<_, _>>()?))
}

pub(super) fn to_engine(vector: &SparseVector) -> EngineSparseVector {
    EngineSparseVector { indices: vector.indices().to_vec(), values: vector.values().to_vec() }
}

pub(super) fn to_struct(point: Point) -> Result<PointStruct, Error> {
    let Point { id, dense, bm25, payload } = point;
    let payload = serde_json::to_value(payload).map_err(|_| Error::Payload(id))?;
    let vectors = Vectors::new_named([(DENSE, Vector::from(dense)), (BM25, Vector::from(to_engine(&bm25)))]);
    Ok(PointStruct::new(EnginePointId::Uuid(id.get()), vectors, payload))
}

pub(super) fn to_point(mut record: Record) -> Result<Point, Error> {
    let Some(VectorStructInternal::Named(mut vectors)) = record.vector.take() else {
        return Err(Error::Engine("a point has no named vectors".to_owned()));
    };
    let dense = match vectors.remove(DENSE) {
        Some(VectorInternal::Dense(dense)) => dense,
        _ => vec![],
    };
    let bm25 = match vectors.remove(BM25) {
        Some(VectorInternal::Sparse(words)) => words.indices.into_iter().zip(words.values).collect(),
        _ => SparseVector::default(),
    };
    let (id, payload) = payload(record)?;
    Ok(Point { id, dense, bm25, payload })
}

pub(super) fn payload<T: DeserializeOwned>(record: Record) -> Result<(PointId, T), Error> {
    let id = from_engine_id(record.id)?;
    let map = record.payload.map(|payload| payload.0).unwrap_or_default();
    // What the decoder says could quote content.
    let decoded = serde_json::from_value(serde_json::Value::Object(map)).map_err(|_| Error::Payload(id))?;
    Ok((id, decoded))
}

pub(super) fn from_engine_id(id: EnginePointId) -> Result<PointId, Error> {
    match id {
        EnginePointId::Uuid(id) => Ok(id.into()),
        EnginePointId::NumId(id) => Err(Error::Engine(format!("point {id} is not of this program"))),
    }
}
