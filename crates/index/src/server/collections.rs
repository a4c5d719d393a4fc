//! Making, checking, mending, moving and ending whole collections.
#![allow(deprecated, reason = "servers before 1.19 know no other word for what is kept on disk or in memory")]

use std::collections::HashMap;
use std::time::Duration;

use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionStatus, CreateAlias, CreateFieldIndexCollection,
    OptimizersConfigDiff, UpdateCollection, VectorParamsDiff, VectorParamsDiffMap, VectorsConfigDiff,
    vectors_config_diff,
};

use super::client::{Client, completed};
use super::differences::Mend;
use super::schema::{self, DENSE, INDEXED_FROM_KB, Index, NEVER_INDEXED};
use super::{convert, differences, error};
use crate::{BulkLoad, Collection, CollectionName, Difference, Ensured, Error, Identity};

/// Under which key of a collection's metadata its identity is.
const IDENTITY: &str = "guildex";

/// How often a collection is asked whether it is done.
const POLL: Duration = Duration::from_millis(200);

/// Makes the collection, or accepts one that is there. Several workers may do so at once: one makes it, all of
/// them make its payload indexes, and the server makes each of these once. Whoever made it may die before it says
/// so: the next finds one that is nobody's.
pub(super) async fn ensure(client: &Client, wanted: &Collection) -> Result<Ensured, Error> {
    match client.info(&wanted.name).await {
        Ok(info) => return accept(client, wanted, &info).await,
        Err(Error::NoCollection(_)) => {}
        Err(error) => return Err(error),
    }
    let request = schema::creation(wanted, client.config.quantization);
    let made = client
        .change_collection(&wanted.name, |qdrant| async {
            match qdrant.create_collection(request).await {
                Err(error) if error::already_exists(&error) => Ok(false),
                outcome => outcome.map(|_| true),
            }
        })
        .await?;
    let accepted = accept(client, wanted, &client.info(&wanted.name).await?).await?;
    Ok(if made { Ensured::Created } else { accepted })
}

async fn accept(client: &Client, wanted: &Collection, info: &CollectionInfo) -> Result<Ensured, Error> {
    let found = differences::differences(info, wanted, client.config.quantization);
    if let Some((difference, _)) = found.iter().find(|(_, mend)| *mend == Mend::Nothing) {
        let difference = difference.to_string();
        return Err(Error::Mismatch { collection: wanted.name.clone(), difference });
    }
    for index in schema::indexes().iter().filter(|index| !index.serves(info)) {
        make_index(client, &wanted.name, index).await?;
    }
    Ok(Ensured::Existing)
}

async fn make_index(client: &Client, collection: &CollectionName, index: &Index) -> Result<(), Error> {
    let request = CreateFieldIndexCollection {
        collection_name: collection.to_string(),
        wait: Some(true),
        field_name: index.field.to_owned(),
        field_type: Some(index.field_type.into()),
        field_index_params: Some(index.field_index_params()),
        ..CreateFieldIndexCollection::default()
    };
    completed(client.long_call(collection, |qdrant| qdrant.create_field_index(request)).await?)
}

pub(super) async fn differences(client: &Client, wanted: &Collection) -> Result<Vec<Difference>, Error> {
    let info = client.info(&wanted.name).await?;
    let found = differences::differences(&info, wanted, client.config.quantization);
    Ok(found.into_iter().map(|(difference, _)| difference).collect())
}

pub(super) async fn update_in_place(client: &Client, wanted: &Collection) -> Result<Vec<Difference>, Error> {
    let info = client.info(&wanted.name).await?;
    let quantization = client.config.quantization;
    let mut change = UpdateCollection::default();
    let mut dense = VectorParamsDiff::default();
    let mut fields = vec![];
    for (_, mend) in differences::differences(&info, wanted, quantization) {
        match mend {
            Mend::Graphs => {
                change.hnsw_config = Some(schema::graphs());
                // What the vectors have of their own overrules it.
                dense.hnsw_config = Some(schema::graphs());
            }
            Mend::Threshold => change.optimizers_config = Some(schema::indexed_from(INDEXED_FROM_KB)),
            Mend::Quantization => {
                change.quantization_config = Some(schema::requantized(quantization));
                dense.quantization_config = Some(schema::requantized(quantization));
            }
            Mend::Limits => change.strict_mode_config = Some(schema::limits()),
            Mend::OnDisk => dense.on_disk = Some(true),
            Mend::Index(field) => fields.push(field),
            Mend::Nothing => {}
        }
    }
    if dense != VectorParamsDiff::default() {
        let map = HashMap::from([(DENSE.to_owned(), dense)]);
        let config = vectors_config_diff::Config::ParamsMap(VectorParamsDiffMap { map });
        change.vectors_config = Some(VectorsConfigDiff { config: Some(config) });
    }
    if change != UpdateCollection::default() {
        update(client, &wanted.name, change).await?;
    }
    for index in schema::indexes().iter().filter(|index| fields.contains(&index.field)) {
        make_index(client, &wanted.name, index).await?;
    }
    differences(client, wanted).await
}

async fn update(client: &Client, collection: &CollectionName, change: UpdateCollection) -> Result<(), Error> {
    let change = UpdateCollection { collection_name: collection.to_string(), ..change };
    client.change_collection(collection, |qdrant| qdrant.update_collection(change)).await.map(drop)
}

pub(super) async fn identity(
    client: &Client,
    collection: &CollectionName,
) -> Result<Option<Identity>, Error> {
    let config = client.info(collection).await?.config;
    let written = config.and_then(|config: CollectionConfig| config.metadata.get(IDENTITY).cloned());
    // What is not one of ours counts as not written.
    Ok(written.and_then(|value| serde_json::from_value(convert::json(value)).ok()))
}

pub(super) async fn set_identity(
    client: &Client,
    collection: &CollectionName,
    identity: Identity,
) -> Result<(), Error> {
    let value = serde_json::to_value(identity).map_err(|error| Error::Engine(error.to_string()))?;
    set_metadata(client, collection, value).await
}

/// Makes the collection nobody's.
pub(super) async fn clear_identity(client: &Client, collection: &CollectionName) -> Result<(), Error> {
    set_metadata(client, collection, serde_json::Value::Null).await
}

async fn set_metadata(
    client: &Client,
    collection: &CollectionName,
    value: serde_json::Value,
) -> Result<(), Error> {
    let metadata = HashMap::from([(IDENTITY.to_owned(), value.into())]);
    update(client, collection, UpdateCollection { metadata, ..UpdateCollection::default() }).await
}

pub(super) async fn drop_collection(client: &Client, collection: &CollectionName) -> Result<(), Error> {
    client.invalidate(collection);
    match client.change_collection(collection, |qdrant| qdrant.delete_collection(collection.as_str())).await {
        Ok(_) | Err(Error::NoCollection(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn set_alias(
    client: &Client,
    alias: &str,
    collection: &CollectionName,
) -> Result<(), Error> {
    // The server puts it in the place of one of that name in one step, so that no reader finds none.
    let request = CreateAlias { alias_name: alias.to_owned(), collection_name: collection.to_string() };
    client.call(collection, |qdrant| qdrant.create_alias(request)).await.map(drop)
}

/// [`BulkLoad::Begin`] raises the threshold of graphs beyond reach. Whoever dies before [`BulkLoad::End`] leaves it there:
/// another end puts it back, and so does [`amend`], which every start calls.
pub(super) async fn bulk_load(
    client: &Client,
    collection: &CollectionName,
    bulk: BulkLoad,
) -> Result<(), Error> {
    let threshold = match bulk {
        BulkLoad::Begin => NEVER_INDEXED,
        BulkLoad::End => INDEXED_FROM_KB,
    };
    let info = client.info(collection).await?;
    let found = info.config.and_then(|config| config.optimizer_config?.indexing_threshold);
    if found != Some(threshold) {
        let optimizers_config = Some(schema::indexed_from(threshold));
        update(client, collection, UpdateCollection { optimizers_config, ..UpdateCollection::default() })
            .await?;
    }
    match bulk {
        BulkLoad::Begin => Ok(()),
        BulkLoad::End => optimize(client, collection).await,
    }
}

/// Waits until the server has nothing left to reorganise, however long that takes: a large collection may take
/// hours, and whoever does not want to wait drops the future.
pub(super) async fn optimize(client: &Client, collection: &CollectionName) -> Result<(), Error> {
    loop {
        let info = client.info(collection).await?;
        match info.status() {
            CollectionStatus::Green => return Ok(()),
            // There is work, and the server waits for a change before it begins: after a start, for instance.
            CollectionStatus::Grey => {
                let optimizers_config = Some(OptimizersConfigDiff::default());
                let nudge = UpdateCollection { optimizers_config, ..UpdateCollection::default() };
                update(client, collection, nudge).await?;
            }
            CollectionStatus::Red => {
                let reason = info.optimizer_status.map_or_else(String::new, |status| status.error);
                return Err(Error::Engine(format!("the collection cannot be reorganised: {reason}")));
            }
            CollectionStatus::Yellow | CollectionStatus::UnknownCollectionStatus => {}
        }
        tokio::time::sleep(POLL).await;
    }
}
