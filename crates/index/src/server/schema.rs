//! What a collection looks like on the server, and where one that is there looks otherwise.
#![allow(deprecated, reason = "servers before 1.19 know no other word for what is kept on disk or in memory")]

use std::collections::HashMap;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{
    BinaryQuantization, CollectionConfig, CollectionInfo, CreateCollection, DatetimeIndexParams, Disabled,
    Distance, FieldType, HnswConfigDiff, IntegerIndexParams, KeywordIndexParams, Modifier,
    OptimizersConfigDiff, PayloadIndexParams, PayloadSchemaType, QuantizationConfig, QuantizationConfigDiff,
    QuantizationType, ScalarQuantization, SparseVectorConfig, SparseVectorParams, StrictModeConfig,
    VectorParams, VectorParamsMap, VectorsConfig, quantization_config, quantization_config_diff,
    vectors_config,
};

use super::Quantization;
use crate::{Collection, Difference};

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

fn quantized(quantization: Quantization) -> Option<QuantizationConfig> {
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
    shown: PayloadSchemaType,
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

    fn describe(shown: PayloadSchemaType, params: Option<&IndexParams>) -> String {
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

/// What mends a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    Graphs,
    Threshold,
    Quantization,
    Limits,
    OnDisk,
    /// The index of this field.
    Index(&'static str),
    /// Only a new collection.
    Nothing,
}

/// Everything in which a collection differs from how it ought to be, and what mends it.
pub(super) fn differences(
    info: &CollectionInfo,
    wanted: &Collection,
    quantization: Quantization,
) -> Vec<(Difference, Mend)> {
    let empty = CollectionConfig::default();
    let config = info.config.as_ref().unwrap_or(&empty);
    let mut list = List(vec![]);
    vectors(config, wanted, &mut list);
    let vector = dense(config);

    let graphs = graphs();
    let found = config.hnsw_config.unwrap_or_default();
    let own = vector.and_then(|vector| vector.hnsw_config).unwrap_or_default();
    list.compare("graph links (m)", number(own.m.or(found.m)), number(graphs.m), Mend::Graphs, false);
    list.compare(
        "graph links in a guild (payload_m)",
        number(own.payload_m.or(found.payload_m)),
        number(graphs.payload_m),
        Mend::Graphs,
        false,
    );

    let threshold = config.optimizer_config.and_then(|optimizers| optimizers.indexing_threshold);
    list.compare(
        "indexing threshold (KiB)",
        number(threshold),
        number(Some(INDEXED_FROM_KB)),
        Mend::Threshold,
        false,
    );

    let found = vector.and_then(|v| v.quantization_config.as_ref()).or(config.quantization_config.as_ref());
    let (found, ought) = (name_of(found), name_of(quantized(quantization).as_ref()));
    list.compare("quantization", found, ought, Mend::Quantization, false);
    let on_disk = vector.and_then(|vector| vector.on_disk);
    list.compare("dense vectors on disk", flag(on_disk), flag(Some(true)), Mend::OnDisk, false);

    strict_mode(config, &mut list);
    for index in indexes() {
        let found = info.payload_schema.get(index.field).map_or_else(
            || "missing".to_owned(),
            |schema| {
                let params = schema.params.as_ref().and_then(|params| params.index_params.as_ref());
                Index::describe(schema.data_type(), params)
            },
        );
        let ought = Index::describe(index.shown, Some(&index.params));
        // Strict mode refuses filters without one.
        let fatal = !index.serves(info);
        list.compare(
            &format!("payload index {}", index.field),
            found,
            ought,
            Mend::Index(index.field),
            fatal,
        );
    }
    list.0
}

fn vectors(config: &CollectionConfig, wanted: &Collection, list: &mut List) {
    let describe = |vector: &VectorParams| {
        format!("{} dimensions by {}", vector.size, vector.distance().as_str_name().to_ascii_lowercase())
    };
    let missing = || "missing".to_owned();
    let found = dense(config).map_or_else(missing, describe);
    let ought = format!("{} dimensions by cosine", wanted.dims);
    list.compare("vectors dense", found, ought, Mend::Nothing, true);

    let sparse = config.params.as_ref().and_then(|params| params.sparse_vectors_config.as_ref());
    let found = sparse
        .and_then(|sparse| sparse.map.get(BM25))
        .map_or_else(missing, |bm25| bm25.modifier().as_str_name().to_ascii_lowercase());
    list.compare("modifier of vectors bm25", found, "idf".to_owned(), Mend::Nothing, true);
}

fn strict_mode(config: &CollectionConfig, list: &mut List) {
    let found = config.strict_mode_config.clone().unwrap_or_default();
    let ought = limits();
    let mut compare = |name: &str, found: String, ought: String| {
        list.compare(&format!("strict mode {name}"), found, ought, Mend::Limits, false);
    };
    compare("enabled", flag(found.enabled), flag(ought.enabled));
    for (name, found, ought) in [
        (
            "unindexed_filtering_retrieve",
            found.unindexed_filtering_retrieve,
            ought.unindexed_filtering_retrieve,
        ),
        ("unindexed_filtering_update", found.unindexed_filtering_update, ought.unindexed_filtering_update),
        ("search_allow_exact", found.search_allow_exact, ought.search_allow_exact),
    ] {
        compare(name, flag(found), flag(ought));
    }
    for (name, found, ought) in [
        ("max_query_limit", found.max_query_limit.map(u64::from), ought.max_query_limit.map(u64::from)),
        ("filter_max_conditions", found.filter_max_conditions, ought.filter_max_conditions),
        ("condition_max_size", found.condition_max_size, ought.condition_max_size),
        ("upsert_max_batchsize", found.upsert_max_batchsize, ought.upsert_max_batchsize),
        ("search_max_batchsize", found.search_max_batchsize, ought.search_max_batchsize),
    ] {
        // What the server does not know yet, it does not limit.
        compare(name, number(found.or(ought)), number(ought));
    }
    compare(
        "search_max_oversampling",
        format!("{:?}", found.search_max_oversampling),
        format!("{:?}", ought.search_max_oversampling),
    );
}

struct List(Vec<(Difference, Mend)>);

impl List {
    fn compare(&mut self, what: &str, found: String, wanted: String, mend: Mend, fatal: bool) {
        if found != wanted {
            self.0.push((Difference { what: what.to_owned(), found, wanted, fatal }, mend));
        }
    }
}

fn dense(config: &CollectionConfig) -> Option<&VectorParams> {
    match config.params.as_ref()?.vectors_config.as_ref()?.config.as_ref()? {
        vectors_config::Config::ParamsMap(vectors) => vectors.map.get(DENSE),
        vectors_config::Config::Params(_) => None,
    }
}

fn name_of(quantization: Option<&QuantizationConfig>) -> String {
    match quantization.and_then(|config| config.quantization.as_ref()) {
        None => "none",
        Some(quantization_config::Quantization::Scalar(_)) => "scalar",
        Some(quantization_config::Quantization::Binary(_)) => "binary",
        Some(_) => "another",
    }
    .to_owned()
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "not set".to_owned(), |value| value.to_string())
}

fn flag(value: Option<bool>) -> String {
    match value {
        Some(true) => "on",
        Some(false) => "off",
        None => "not set",
    }
    .to_owned()
}
