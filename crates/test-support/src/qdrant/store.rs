//! Collections in memory, with the features that the index uses.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CollectionStatus, CreateCollection, Filter,
    GetCollectionInfoResponse, HnswConfigDiff, OptimizerStatus, PayloadSchemaInfo, PointStruct,
    QuantizationConfig, UpdateCollection, UpsertPoints, Value, quantization_config, quantization_config_diff,
    vector, vectors, vectors_config, vectors_config_diff,
};
use tonic::Status;
use uuid::Uuid;

use super::filter;
use super::ids::id;

#[derive(Clone)]
pub struct Stored {
    pub config: CollectionConfig,
    pub schema: HashMap<String, PayloadSchemaInfo>,
    pub points: BTreeMap<Uuid, StoredPoint>,
}

#[derive(Clone)]
pub struct StoredPoint {
    /// Vector of length 1.
    pub dense: Vec<f32>,
    pub bm25: Vec<(u32, f32)>,
    pub payload: HashMap<String, Value>,
    pub given: PointStruct,
}

impl Stored {
    pub fn new(request: CreateCollection) -> Self {
        let config = CollectionConfig {
            params: Some(CollectionParams {
                vectors_config: request.vectors_config,
                sparse_vectors_config: request.sparse_vectors_config,
                ..CollectionParams::default()
            }),
            hnsw_config: request.hnsw_config,
            optimizer_config: request.optimizers_config,
            quantization_config: request.quantization_config,
            strict_mode_config: request.strict_mode_config,
            metadata: request.metadata,
            ..CollectionConfig::default()
        };
        Self { config, schema: HashMap::new(), points: BTreeMap::new() }
    }

    pub fn info(&self) -> CollectionInfo {
        CollectionInfo {
            status: CollectionStatus::Green.into(),
            optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
            config: Some(self.config.clone()),
            payload_schema: self.schema.clone(),
            points_count: Some(self.points.len() as u64),
            ..CollectionInfo::default()
        }
    }

    pub fn update(&mut self, change: UpdateCollection) {
        if let Some(diff) = change.hnsw_config {
            let config = self.config.hnsw_config.get_or_insert_default();
            merge_graphs(config, &diff);
        }
        if let Some(diff) = change.optimizers_config {
            let config = self.config.optimizer_config.get_or_insert_default();
            config.indexing_threshold = diff.indexing_threshold.or(config.indexing_threshold);
        }
        if let Some(diff) = change.quantization_config.and_then(|diff| diff.quantization) {
            self.config.quantization_config = requantized(diff);
        }
        if let Some(limits) = change.strict_mode_config {
            self.config.strict_mode_config = Some(limits);
        }
        let diffs = change.vectors_config.and_then(|diff| diff.config);
        if let (Some(vectors_config_diff::Config::ParamsMap(diffs)), Some(vectors)) = (diffs, self.vectors())
        {
            for (name, diff) in diffs.map {
                let Some(vector) = vectors.get_mut(&name) else { continue };
                #[allow(deprecated)]
                {
                    vector.on_disk = diff.on_disk.or(vector.on_disk);
                }
                if let Some(diff) = diff.hnsw_config {
                    merge_graphs(vector.hnsw_config.get_or_insert_default(), &diff);
                }
                if let Some(diff) = diff.quantization_config.and_then(|diff| diff.quantization) {
                    vector.quantization_config = requantized(diff);
                }
            }
        }
        self.config.metadata.extend(change.metadata);
    }

    fn vectors(&mut self) -> Option<&mut HashMap<String, qdrant_client::qdrant::VectorParams>> {
        match self.config.params.as_mut()?.vectors_config.as_mut()?.config.as_mut()? {
            vectors_config::Config::ParamsMap(vectors) => Some(&mut vectors.map),
            vectors_config::Config::Params(_) => None,
        }
    }

    /// Points that match the filter, in the order of ids.
    pub fn find(&self, wanted: Option<&Filter>) -> Result<Vec<(Uuid, &StoredPoint)>, Status> {
        let Some(wanted) = wanted else { return Ok(self.points.iter().map(|(id, p)| (*id, p)).collect()) };
        filter::check(wanted, &self.schema)?;
        let mut found = vec![];
        for (id, point) in &self.points {
            if filter::admits(wanted, *id, &point.payload)? {
                found.push((*id, point));
            }
        }
        Ok(found)
    }

    pub fn upsert(&mut self, points: Vec<PointStruct>, condition: Option<&Filter>) -> Result<(), Status> {
        let dims = self.vectors().and_then(|vectors| vectors.get("dense")).map_or(0, |dense| dense.size);
        let mut checked = vec![];
        for point in points {
            checked.push((id(point.id.clone())?, stored(point, dims as usize)?));
        }
        for (id, point) in checked {
            if let (Some(condition), Some(old)) = (condition, self.points.get(&id)) {
                filter::check(condition, &self.schema)?;
                if !filter::admits(condition, id, &old.payload)? {
                    continue;
                }
            }
            self.points.insert(id, point);
        }
        Ok(())
    }

    pub fn to_file(&self) -> Vec<u8> {
        let info = GetCollectionInfoResponse { result: Some(self.info()), time: 0.0 };
        let points = self.points.values().map(|point| point.given.clone()).collect();
        let points = UpsertPoints { points, ..UpsertPoints::default() };
        [info.encode_length_delimited_to_vec(), points.encode_length_delimited_to_vec()].concat()
    }

    pub fn from_file(mut file: &[u8]) -> Option<Self> {
        let info = GetCollectionInfoResponse::decode_length_delimited(&mut file).ok()?.result?;
        let points = UpsertPoints::decode_length_delimited(&mut file).ok()?.points;
        let mut stored = Self { config: info.config?, schema: info.payload_schema, points: BTreeMap::new() };
        stored.upsert(points, None).ok()?;
        Some(stored)
    }
}

fn merge_graphs(config: &mut HnswConfigDiff, diff: &HnswConfigDiff) {
    config.m = diff.m.or(config.m);
    config.payload_m = diff.payload_m.or(config.payload_m);
}

fn requantized(diff: quantization_config_diff::Quantization) -> Option<QuantizationConfig> {
    use quantization_config::Quantization as Config;
    use quantization_config_diff::Quantization as Diff;
    let quantization = match diff {
        Diff::Scalar(scalar) => Config::Scalar(scalar),
        Diff::Product(product) => Config::Product(product),
        Diff::Binary(binary) => Config::Binary(binary),
        Diff::Turboquant(turbo) => Config::Turboquant(turbo),
        Diff::Disabled(_) => return None,
    };
    Some(QuantizationConfig { quantization: Some(quantization) })
}

fn stored(given: PointStruct, dims: usize) -> Result<StoredPoint, Status> {
    let Some(vectors::VectorsOptions::Vectors(named)) =
        given.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref())
    else {
        return Err(Status::invalid_argument("Wrong input: no named vectors"));
    };
    let of = |name: &str| named.vectors.get(name).and_then(|vector| vector.vector.clone());
    let Some(vector::Vector::Dense(dense)) = of("dense") else {
        return Err(Status::invalid_argument("Wrong input: no dense vector"));
    };
    if dense.data.len() != dims {
        let given = dense.data.len();
        let message = format!("Wrong input: Vector dimension error: expected dim: {dims}, got {given}");
        return Err(Status::invalid_argument(message));
    }
    let Some(vector::Vector::Sparse(words)) = of("bm25") else {
        return Err(Status::invalid_argument("Wrong input: no words"));
    };
    let length = dense.data.iter().map(|value| value * value).sum::<f32>().sqrt();
    // Like the server, keeps a vector unchanged if its length is 1 already.
    let unit = if length == 0.0 || (length - 1.0).abs() < 1e-6 { 1.0 } else { length };
    Ok(StoredPoint {
        dense: dense.data.iter().map(|value| value / unit).collect(),
        bm25: words.indices.into_iter().zip(words.values).collect(),
        payload: given.payload.clone(),
        given,
    })
}
