//! Where a collection on the server is not as it ought to be.
#![allow(deprecated, reason = "servers before 1.19 know no other word for what is kept on disk or in memory")]

use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, QuantizationConfig, VectorParams, quantization_config, vectors_config,
};

use super::Quantization;
use super::schema::{BM25, DENSE, INDEXED_FROM_KB, Index, graphs, indexes, limits, quantized};
use crate::{Collection, Difference};

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
