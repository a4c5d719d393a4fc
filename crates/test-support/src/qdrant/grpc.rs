//! The methods that the index calls; all others return `unimplemented`.

use std::collections::{BTreeMap, HashMap};

use ::qdrant_client::qdrant::alias_operations::Action;
use ::qdrant_client::qdrant::collections_server::Collections;
use ::qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use ::qdrant_client::qdrant::points_server::Points;
use ::qdrant_client::qdrant::qdrant_server::Qdrant;
use ::qdrant_client::qdrant::snapshots_server::Snapshots;
use ::qdrant_client::qdrant::value::Kind;
use ::qdrant_client::qdrant::with_payload_selector::SelectorOptions;
use ::qdrant_client::qdrant::*;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::State;
use super::ids::id;
use super::store::{Stored, StoredPoint};

type Reply<T> = Result<Response<T>, Status>;

/// Methods of the service traits that the index does not call.
macro_rules! unserved {
    ($($method:ident: $request:ident -> $reply:ident),* $(,)?) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Reply<$reply>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($method))) })
        }
    )*};
}

fn done() -> Response<PointsOperationResponse> {
    let result = UpdateResult { operation_id: Some(1), status: UpdateStatus::Completed.into() };
    Response::new(PointsOperationResponse { result: Some(result), ..PointsOperationResponse::default() })
}

fn changed() -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result: true, time: 0.0 })
}

#[tonic::async_trait]
impl Qdrant for State {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Reply<HealthCheckReply> {
        self.faults.inject("health_check").await?;
        let (title, version) = ("a stand-in".to_owned(), self.faults.version());
        Ok(Response::new(HealthCheckReply { title, version, commit: None }))
    }
}

#[tonic::async_trait]
impl Collections for State {
    async fn get(&self, request: Request<GetCollectionInfoRequest>) -> Reply<GetCollectionInfoResponse> {
        self.faults.inject("info").await?;
        let info = self.memory().collection(&request.into_inner().collection_name)?.info();
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: 0.0 }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Reply<ListCollectionsResponse> {
        let memory = self.memory();
        let collections =
            memory.collections.keys().map(|name| CollectionDescription { name: name.clone() }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
    }

    async fn create(&self, request: Request<CreateCollection>) -> Reply<CollectionOperationResponse> {
        let fault = self.faults.inject("create").await?;
        {
            let request = request.into_inner();
            let mut memory = self.memory();
            let name = request.collection_name.clone();
            if memory.collections.contains_key(&name) {
                let message = format!("Wrong input: Collection `{name}` already exists!");
                return Err(Status::already_exists(message));
            }
            memory.collections.insert(name, Stored::new(request));
        }
        self.faults.after(fault).await?;
        Ok(changed())
    }

    async fn update(&self, request: Request<UpdateCollection>) -> Reply<CollectionOperationResponse> {
        self.faults.inject("update").await?;
        let request = request.into_inner();
        self.memory().collection(&request.collection_name.clone())?.update(request);
        Ok(changed())
    }

    async fn delete(&self, request: Request<DeleteCollection>) -> Reply<CollectionOperationResponse> {
        self.faults.inject("delete_collection").await?;
        self.memory().collections.remove(&request.into_inner().collection_name);
        Ok(changed())
    }

    async fn update_aliases(&self, request: Request<ChangeAliases>) -> Reply<CollectionOperationResponse> {
        self.faults.inject("alias").await?;
        let mut memory = self.memory();
        for action in request.into_inner().actions {
            match action.action {
                Some(Action::CreateAlias(alias)) => {
                    memory.collection(&alias.collection_name)?;
                    memory.aliases.insert(alias.alias_name, alias.collection_name);
                }
                other => return Err(Status::unimplemented(format!("{other:?}"))),
            }
        }
        Ok(changed())
    }

    unserved! {
        list_collection_aliases: ListCollectionAliasesRequest -> ListAliasesResponse,
        list_aliases: ListAliasesRequest -> ListAliasesResponse,
        collection_cluster_info: CollectionClusterInfoRequest -> CollectionClusterInfoResponse,
        collection_exists: CollectionExistsRequest -> CollectionExistsResponse,
        update_collection_cluster_setup:
            UpdateCollectionClusterSetupRequest -> UpdateCollectionClusterSetupResponse,
        create_shard_key: CreateShardKeyRequest -> CreateShardKeyResponse,
        delete_shard_key: DeleteShardKeyRequest -> DeleteShardKeyResponse,
        list_shard_keys: ListShardKeysRequest -> ListShardKeysResponse,
    }
}

#[tonic::async_trait]
impl Points for State {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Reply<PointsOperationResponse> {
        let fault = self.faults.inject("upsert").await?;
        {
            let UpsertPoints { collection_name, points, update_filter, .. } = request.into_inner();
            self.memory().collection(&collection_name)?.upsert(points, update_filter.as_ref())?;
        }
        self.faults.after(fault).await?;
        Ok(done())
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Reply<PointsOperationResponse> {
        self.faults.inject("delete").await?;
        let DeletePoints { collection_name, points, .. } = request.into_inner();
        let Some(PointsSelectorOneOf::Filter(wanted)) =
            points.and_then(|points| points.points_selector_one_of)
        else {
            return Err(Status::unimplemented("deleting without a filter"));
        };
        let mut memory = self.memory();
        let collection = memory.collection(&collection_name)?;
        let deleted: Vec<Uuid> = collection.find(Some(&wanted))?.into_iter().map(|(id, _)| id).collect();
        deleted.iter().for_each(|id| drop(collection.points.remove(id)));
        Ok(done())
    }

    async fn get(&self, request: Request<GetPoints>) -> Reply<GetResponse> {
        self.faults.inject("get").await?;
        let GetPoints { collection_name, ids, with_payload, .. } = request.into_inner();
        let mut memory = self.memory();
        let collection = memory.collection(&collection_name)?;
        let mut result = vec![];
        for wanted in ids {
            let key = id(Some(wanted.clone()))?;
            if let Some(point) = collection.points.get(&key) {
                let payload = selected(&point.payload, with_payload.as_ref());
                result.push(RetrievedPoint { id: Some(wanted), payload, ..RetrievedPoint::default() });
            }
        }
        // In any order.
        result.reverse();
        Ok(Response::new(GetResponse { result, ..GetResponse::default() }))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Reply<PointsOperationResponse> {
        self.faults.inject("create_field_index").await?;
        let request = request.into_inner();
        let data_type = match request.field_type() {
            FieldType::Keyword => PayloadSchemaType::Keyword,
            FieldType::Integer => PayloadSchemaType::Integer,
            FieldType::Datetime => PayloadSchemaType::Datetime,
            other => return Err(Status::unimplemented(format!("{other:?}"))),
        };
        let schema = PayloadSchemaInfo {
            data_type: data_type.into(),
            params: request.field_index_params,
            points: None,
        };
        let mut memory = self.memory();
        memory.collection(&request.collection_name)?.schema.insert(request.field_name, schema);
        Ok(done())
    }

    async fn delete_field_index(
        &self,
        request: Request<DeleteFieldIndexCollection>,
    ) -> Reply<PointsOperationResponse> {
        let request = request.into_inner();
        self.memory().collection(&request.collection_name)?.schema.remove(&request.field_name);
        Ok(done())
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Reply<ScrollResponse> {
        self.faults.inject("scroll").await?;
        let ScrollPoints { collection_name, filter, offset, limit, .. } = request.into_inner();
        let first = offset.map(|offset| id(Some(offset))).transpose()?;
        let mut memory = self.memory();
        let found = memory.collection(&collection_name)?.find(filter.as_ref())?;
        let mut found = found.into_iter().filter(|(id, _)| first.is_none_or(|first| *id >= first));
        let result = found.by_ref().take(limit.unwrap_or(10) as usize).map(|(_, point)| retrieved(point));
        let result = result.collect();
        let next_page_offset = found.next().map(|(id, _)| PointId::from(id.to_string()));
        Ok(Response::new(ScrollResponse { result, next_page_offset, ..ScrollResponse::default() }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Reply<CountResponse> {
        self.faults.inject("count").await?;
        let CountPoints { collection_name, filter, .. } = request.into_inner();
        let count = self.memory().collection(&collection_name)?.find(filter.as_ref())?.len() as u64;
        Ok(Response::new(CountResponse { result: Some(CountResult { count }), ..CountResponse::default() }))
    }

    async fn query_batch(&self, request: Request<QueryBatchPoints>) -> Reply<QueryBatchResponse> {
        self.faults.inject("query_batch").await?;
        let QueryBatchPoints { collection_name, query_points, .. } = request.into_inner();
        let mut memory = self.memory();
        let collection = memory.collection(&collection_name)?;
        let result = query_points.into_iter().map(|query| nearest(collection, query));
        let result = result.collect::<Result<_, _>>()?;
        Ok(Response::new(QueryBatchResponse { result, ..QueryBatchResponse::default() }))
    }

    async fn facet(&self, request: Request<FacetCounts>) -> Reply<FacetResponse> {
        self.faults.inject("facet").await?;
        let FacetCounts { collection_name, key, filter, limit, .. } = request.into_inner();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (_, point) in self.memory().collection(&collection_name)?.find(filter.as_ref())? {
            if let Some(Kind::StringValue(value)) = point.payload.get(&key).and_then(|v| v.kind.as_ref()) {
                *counts.entry(value.clone()).or_default() += 1;
            }
        }
        let hits = counts.into_iter().take(limit.unwrap_or(10) as usize).map(|(value, count)| FacetHit {
            value: Some(FacetValue { variant: Some(facet_value::Variant::StringValue(value)) }),
            count,
        });
        Ok(Response::new(FacetResponse { hits: hits.collect(), ..FacetResponse::default() }))
    }

    unserved! {
        update_vectors: UpdatePointVectors -> PointsOperationResponse,
        delete_vectors: DeletePointVectors -> PointsOperationResponse,
        set_payload: SetPayloadPoints -> PointsOperationResponse,
        overwrite_payload: SetPayloadPoints -> PointsOperationResponse,
        delete_payload: DeletePayloadPoints -> PointsOperationResponse,
        clear_payload: ClearPayloadPoints -> PointsOperationResponse,
        create_vector_name: CreateVectorNameRequest -> PointsOperationResponse,
        delete_vector_name: DeleteVectorNameRequest -> PointsOperationResponse,
        search: SearchPoints -> SearchResponse,
        search_batch: SearchBatchPoints -> SearchBatchResponse,
        search_groups: SearchPointGroups -> SearchGroupsResponse,
        recommend: RecommendPoints -> RecommendResponse,
        recommend_batch: RecommendBatchPoints -> RecommendBatchResponse,
        recommend_groups: RecommendPointGroups -> RecommendGroupsResponse,
        discover: DiscoverPoints -> DiscoverResponse,
        discover_batch: DiscoverBatchPoints -> DiscoverBatchResponse,
        update_batch: UpdateBatchPoints -> UpdateBatchResponse,
        query: QueryPoints -> QueryResponse,
        query_groups: QueryPointGroups -> QueryGroupsResponse,
        search_matrix_pairs: SearchMatrixPoints -> SearchMatrixPairsResponse,
        search_matrix_offsets: SearchMatrixPoints -> SearchMatrixOffsetsResponse,
    }
}

#[tonic::async_trait]
impl Snapshots for State {
    async fn create(&self, request: Request<CreateSnapshotRequest>) -> Reply<CreateSnapshotResponse> {
        self.faults.inject("create_snapshot").await?;
        let collection = request.into_inner().collection_name;
        let mut memory = self.memory();
        let file = memory.collection(&collection)?.to_file();
        let name = format!("{collection}-{}.snapshot", Uuid::new_v4());
        let checksum = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        let description = SnapshotDescription {
            name: name.clone(),
            creation_time: None,
            size: file.len() as i64,
            checksum: Some(checksum),
        };
        memory.snapshots.insert((collection, name), file);
        Ok(Response::new(CreateSnapshotResponse { snapshot_description: Some(description), time: 0.0 }))
    }

    async fn list(&self, request: Request<ListSnapshotsRequest>) -> Reply<ListSnapshotsResponse> {
        let collection = request.into_inner().collection_name;
        let memory = self.memory();
        let names = memory.snapshots.keys().filter(|(of, _)| *of == collection).map(|(_, name)| name.clone());
        let snapshot_descriptions =
            names.map(|name| SnapshotDescription { name, ..SnapshotDescription::default() }).collect();
        Ok(Response::new(ListSnapshotsResponse { snapshot_descriptions, time: 0.0 }))
    }

    async fn delete(&self, request: Request<DeleteSnapshotRequest>) -> Reply<DeleteSnapshotResponse> {
        let DeleteSnapshotRequest { collection_name, snapshot_name } = request.into_inner();
        match self.memory().snapshots.remove(&(collection_name, snapshot_name)) {
            Some(_) => Ok(Response::new(DeleteSnapshotResponse { time: 0.0 })),
            None => Err(Status::not_found("Not found: Snapshot")),
        }
    }

    unserved! {
        create_full: CreateFullSnapshotRequest -> CreateSnapshotResponse,
        list_full: ListFullSnapshotsRequest -> ListSnapshotsResponse,
        delete_full: DeleteFullSnapshotRequest -> DeleteSnapshotResponse,
    }
}

fn selected(
    payload: &HashMap<String, Value>,
    wanted: Option<&WithPayloadSelector>,
) -> HashMap<String, Value> {
    let fields = match wanted.and_then(|wanted| wanted.selector_options.as_ref()) {
        Some(SelectorOptions::Include(fields)) => &fields.fields,
        Some(SelectorOptions::Enable(true)) => return payload.clone(),
        _ => return HashMap::new(),
    };
    let kept = payload.iter().filter(|(name, _)| fields.contains(*name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn retrieved(point: &StoredPoint) -> RetrievedPoint {
    let named = |vector| VectorOutput { vector: Some(vector), ..VectorOutput::default() };
    let dense = vector_output::Vector::Dense(DenseVector { data: point.dense.clone() });
    let (indices, values) = point.bm25.iter().copied().unzip();
    let bm25 = vector_output::Vector::Sparse(SparseVector { indices, values });
    let vectors = HashMap::from([("dense".to_owned(), named(dense)), ("bm25".to_owned(), named(bm25))]);
    RetrievedPoint {
        id: point.given.id.clone(),
        payload: point.payload.clone(),
        vectors: Some(VectorsOutput {
            vectors_options: Some(vectors_output::VectorsOptions::Vectors(NamedVectorsOutput { vectors })),
        }),
        ..RetrievedPoint::default()
    }
}

/// Ranks the points that match the filter. Ties are in descending order of ids, since the server guarantees no order.
fn nearest(collection: &Stored, request: QueryPoints) -> Result<BatchResult, Status> {
    let variant = request.query.and_then(|query| query.variant);
    let Some(query::Variant::Nearest(VectorInput { variant: Some(vector) })) = variant else {
        return Err(Status::unimplemented("a query other than for the nearest"));
    };
    let found = collection.find(request.filter.as_ref())?;
    let mut scored: Vec<(f32, Uuid)> = match (request.using.as_deref(), vector) {
        (Some("dense"), vector_input::Variant::Dense(wanted)) => {
            let length = wanted.data.iter().map(|value| value * value).sum::<f32>().sqrt();
            let dot = |point: &StoredPoint| -> f32 {
                point.dense.iter().zip(&wanted.data).map(|(a, b)| a * b).sum::<f32>() / length
            };
            found.into_iter().map(|(id, point)| (dot(point), id)).collect()
        }
        (Some("bm25"), vector_input::Variant::Sparse(wanted)) => {
            let weights = rarities(collection, &wanted.indices);
            let score = |point: &StoredPoint| {
                let words = point.bm25.iter().filter_map(|(index, value)| Some(value * weights.get(index)?));
                let score: Vec<f32> = words.collect();
                (!score.is_empty()).then(|| score.iter().sum())
            };
            found.into_iter().filter_map(|(id, point)| Some((score(point)?, id))).collect()
        }
        (using, _) => return Err(Status::invalid_argument(format!("Wrong input: no vector {using:?}"))),
    };
    scored.sort_by(|(a, a_id), (b, b_id)| b.total_cmp(a).then(b_id.cmp(a_id)));
    scored.truncate(request.limit.unwrap_or(10) as usize);
    let result = scored
        .into_iter()
        .map(|(score, id)| ScoredPoint {
            id: Some(PointId::from(id.to_string())),
            score,
            ..ScoredPoint::default()
        })
        .collect();
    Ok(BatchResult { result })
}

/// The inverse document frequencies of some words, as the server computes them.
fn rarities(collection: &Stored, words: &[u32]) -> HashMap<u32, f32> {
    let all = collection.points.len() as f32;
    let rarity = |word: &u32| {
        let with = collection.points.values().filter(|point| point.bm25.iter().any(|(w, _)| w == word));
        let with = with.count() as f32;
        (*word, ((all - with + 0.5) / (with + 0.5) + 1.0).ln())
    };
    words.iter().map(rarity).collect()
}
