//! What a collection looks like on the server.
#![allow(deprecated, reason = "servers before 1.19 know no other word for what is kept on disk or in memory")]

use std::collections::HashMap;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{
    BinaryQuantization, CollectionInfo, CreateCollection, DatetimeIndexParams, Disabled, Distance, FieldType,
    HnswConfigDiff, IntegerIndexParams, KeywordIndexParams, Modifier, OptimizersConfigDiff,
    PayloadIndexParams, PayloadSchemaType, QuantizationConfig, QuantizationConfigDiff, QuantizationType,
    ScalarQuantization, SparseVectorConfig, SparseVectorParams, StrictModeConfig, VectorParams,
    VectorParamsMap, VectorsConfig, quantization_config, quantization_config_diff, vectors_config,
};

use super::Quantization;
use crate::Collection;

/// The name of the dense vectors.
pub(super) const DENSE: &str = "dense";
/// The name of the sparse vectors.
pub(super) const BM25: &str = "bm25";

/// From how many KiB of dense vectors on a segment gets graphs: the server's own default.
pub(super) const INDEXED_FROM_KB: u64 = 10_000;
/// No segment gets graphs.
pub(super) const NEVER_INDEXED: u64 = 0;

/// How much more than is wanted is looked at among quantized vectors.
pub(super) const OVERSAMPLING: f64 = 3.0;

/// The most points that a request may ask for: the candidates of the largest search, a page, the guilds of one
/// count.
pub(super) const MAX_QUERY_LIMIT: u32 = 10_000;

/// The collection as it ought to be.
pub(super) fn creation(collection: &Collection, quantization: Quantization) -> CreateCollection {
    let dense = VectorParams {
        size: collection.dims as u64,
        distance: Distance::Cosine.into(),
        // The system caches what is searched; most guilds sleep most of the time.
        on_disk: Some(true),
        ..VectorParams::default()
    };
    let bm25 = SparseVectorParams { modifier: Some(Modifier::Idf.into()), ..SparseVectorParams::default() };
    CreateCollection {
        collection_name: collection.name.to_string(),
        vectors_config: Some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap {
                map: HashMap::from([(DENSE.to_owned(), dense)]),
            })),
        }),
        sparse_vectors_config: Some(SparseVectorConfig { map: HashMap::from([(BM25.to_owned(), bm25)]) }),
        hnsw_config: Some(graphs()),
        optimizers_config: Some(indexed_from(INDEXED_FROM_KB)),
        quantization_config: quantized(quantization),
        strict_mode_config: Some(limits()),
        ..CreateCollection::default()
    }
}

/// Searches stay in one guild: graphs are built for guilds and channels, none over all of them.
pub(super) fn graphs() -> HnswConfigDiff {
    HnswConfigDiff { m: Some(0), payload_m: Some(16), ..HnswConfigDiff::default() }
}

pub(super) fn indexed_from(kilobytes: u64) -> OptimizersConfigDiff {
    OptimizersConfigDiff { indexing_threshold: Some(kilobytes), ..OptimizersConfigDiff::default() }
}

/// What the server refuses. Filters without an index would read everything; the other limits are there so that
/// no stricter defaults of the server's refuse what this program asks: scopes of thousands of channels, deletions
/// of a batch of sessions, each with its revision.
pub(super) fn limits() -> StrictModeConfig {
    StrictModeConfig {
        enabled: Some(true),
        unindexed_filtering_retrieve: Some(false),
        unindexed_filtering_update: Some(false),
        max_query_limit: Some(MAX_QUERY_LIMIT),
        filter_max_conditions: Some(10_000),
        condition_max_size: Some(1_000_000),
        upsert_max_batchsize: Some(1_000),
        search_max_batchsize: Some(16),
        search_allow_exact: Some(true),
        search_max_oversampling: Some(OVERSAMPLING as f32),
        ..StrictModeConfig::default()
    }
}

pub(super) fn quantized(quantization: Quantization) -> Option<QuantizationConfig> {
    let quantization = match quantization {
        Quantization::None => return None,
        Quantization::Scalar => quantization_config::Quantization::Scalar(scalar()),
        Quantization::Binary => quantization_config::Quantization::Binary(binary()),
    };
    Some(QuantizationConfig { quantization: Some(quantization) })
}

/// The same as a change.
pub(super) fn requantized(quantization: Quantization) -> QuantizationConfigDiff {
    let quantization = match quantization {
        Quantization::None => quantization_config_diff::Quantization::Disabled(Disabled {}),
        Quantization::Scalar => quantization_config_diff::Quantization::Scalar(scalar()),
        Quantization::Binary => quantization_config_diff::Quantization::Binary(binary()),
    };
    QuantizationConfigDiff { quantization: Some(quantization) }
}

fn scalar() -> ScalarQuantization {
    ScalarQuantization {
        r#type: QuantizationType::Int8.into(),
        quantile: Some(0.99),
        always_ram: Some(true),
        ..ScalarQuantization::default()
    }
}

fn binary() -> BinaryQuantization {
    BinaryQuantization { always_ram: Some(true), ..BinaryQuantization::default() }
}

/// A payload index.
pub(super) struct Index {
    pub(super) field: &'static str,
    pub(super) field_type: FieldType,
    pub(super) shown: PayloadSchemaType,
    pub(super) params: IndexParams,
}

/// The payload indexes. Deletions and verification filter by most of them; no search does, so these get no
/// graphs.
pub(super) fn indexes() -> [Index; 8] {
    let keyword = |field, is_tenant, enable_hnsw| Index {
        field,
        field_type: FieldType::Keyword,
        shown: PayloadSchemaType::Keyword,
        params: IndexParams::KeywordIndexParams(KeywordIndexParams {
            is_tenant: Some(is_tenant),
            enable_hnsw: Some(enable_hnsw),
            ..KeywordIndexParams::default()
        }),
    };
    let time = |field| Index {
        field,
        field_type: FieldType::Datetime,
        shown: PayloadSchemaType::Datetime,
        params: IndexParams::DatetimeIndexParams(DatetimeIndexParams {
            enable_hnsw: Some(false),
            ..DatetimeIndexParams::default()
        }),
    };
    let revision = Index {
        field: "revision",
        field_type: FieldType::Integer,
        shown: PayloadSchemaType::Integer,
        params: IndexParams::IntegerIndexParams(IntegerIndexParams {
            lookup: Some(true),
            range: Some(true),
            enable_hnsw: Some(false),
            ..IntegerIndexParams::default()
        }),
    };
    [
        keyword("guild_id", true, true),
        keyword("channel_id", false, true),
        keyword("author_ids", false, false),
        keyword("message_ids", false, false),
        keyword("session_id", false, false),
        time("start_time"),
        time("end_time"),
        revision,
    ]
}

impl Index {
    pub(super) fn field_index_params(&self) -> PayloadIndexParams {
        PayloadIndexParams { index_params: Some(self.params.clone()) }
    }

    /// Whether the server has one by which the same filters work.
    pub(super) fn serves(&self, info: &CollectionInfo) -> bool {
        let Some(found) = info.payload_schema.get(self.field) else { return false };
        if found.data_type() != self.shown {
            return false;
        }
        match found.params.as_ref().and_then(|params| params.index_params.as_ref()) {
            Some(IndexParams::IntegerIndexParams(found)) => {
                found.lookup.unwrap_or(true) && found.range.unwrap_or(true)
            }
            _ => true,
        }
    }

    /// What a payload index does, in words.
    pub(super) fn describe(shown: PayloadSchemaType, params: Option<&IndexParams>) -> String {
        // What is left out says the same as the server's default.
        let graphs = |enabled: Option<bool>| if enabled.unwrap_or(true) { "" } else { ", without graphs" };
        let on = |set: Option<bool>, default, name: &str| match set.unwrap_or(default) {
            true => format!(", {name}"),
            false => String::new(),
        };
        let kind = shown.as_str_name().to_ascii_lowercase();
        match params {
            Some(IndexParams::KeywordIndexParams(params)) => {
                format!(
                    "{kind}{}{}",
                    on(params.is_tenant, false, "tenants apart"),
                    graphs(params.enable_hnsw)
                )
            }
            Some(IndexParams::IntegerIndexParams(params)) => format!(
                "{kind}{}{}{}",
                on(params.lookup, true, "by value"),
                on(params.range, true, "by range"),
                graphs(params.enable_hnsw)
            ),
            Some(IndexParams::DatetimeIndexParams(params)) => {
                format!("{kind}{}", graphs(params.enable_hnsw))
            }
            _ => kind,
        }
    }
}
