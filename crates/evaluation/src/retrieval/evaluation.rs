//! Runs every question of a corpus through production's chunking, model, index and ranking.

use std::sync::Arc;

use guildex_document::{PointDraft, SessionText};
use guildex_embed::{EmbedError, Embedder};
use guildex_index::bm25::{self, Language};
use guildex_index::{
    BulkLoad, Collection, CollectionName, EmbeddedIndex, Filter, Fusion, Mode, Point, Query, Scope,
    SparseVector, VectorIndex,
};
use guildex_store::sessions::Session;
use guildex_types::{Eligibility, ModelSlug};
use tempfile::TempDir;

use super::corpus::Corpus;
use super::error::RetrievalError;
use super::report::{Report, Row};
use super::scores::{DEPTH, Scores, Tally};
use crate::sessions::Method;

/// Minimum number of texts that are embedded and written together.
const BATCH: usize = 256;

/// Models, methods and modes to compare, and the settings they share.
pub struct Evaluation {
    /// Loaded models.
    pub models: Vec<Arc<dyn Embedder>>,
    /// Methods of making sessions.
    pub methods: Vec<Method>,
    /// Search modes.
    pub modes: Vec<Mode>,
    /// Minimum size of a session to be indexed.
    pub eligible: Eligibility,
    /// Language of the BM25 stemmer.
    pub language: Language,
    /// Fusion of dense and BM25 ranks.
    pub fusion: Fusion,
}

/// Progress of embedding the points of one model and method, which takes most of the time.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingProgress<'a> {
    /// Model.
    pub model: &'a ModelSlug,
    /// Name of the method.
    pub method: &'static str,
    /// Points embedded and written.
    pub done: usize,
    /// Points in total.
    pub total: usize,
}

impl Evaluation {
    /// Searches for every question of the corpus with every model, method and mode.
    ///
    /// # Errors
    /// If the corpus has no questions, or the model or the index fails.
    pub async fn run(
        &self,
        corpus: &Corpus,
        on_progress: &mut dyn FnMut(EmbeddingProgress<'_>),
    ) -> Result<Report, RetrievalError> {
        if corpus.questions().is_empty() {
            return Err(RetrievalError::NoQuestions);
        }
        let folder = TempDir::with_prefix("guildex-evaluation-").map_err(RetrievalError::TempDir)?;
        let index = EmbeddedIndex::open(folder.path())?;
        let mut rows = Vec::new();
        for embedder in &self.models {
            let questions = self.embed_questions(corpus, embedder.as_ref()).await?;
            for method in &self.methods {
                let name = CollectionName::new(&format!("eval-{}", method.name()), embedder.slug())?;
                let sessions = corpus.sessions(method, self.eligible, self.language);
                let points = fill(&index, &name, embedder, sessions, &mut |done, total| {
                    on_progress(EmbeddingProgress {
                        model: embedder.slug(),
                        method: method.name(),
                        done,
                        total,
                    });
                })
                .await?;
                for mode in &self.modes {
                    let scores = self.search_all(&index, &name, corpus, &questions, *mode).await?;
                    let (model, method) = (embedder.slug().clone(), method.name());
                    rows.push(Row { model, method, mode: *mode, points, scores });
                }
                index.drop_collection(&name).await?;
            }
        }
        Ok(Report {
            channels: corpus.channels(),
            messages: corpus.messages(),
            questions: corpus.questions().len(),
            rows,
        })
    }

    async fn search_all(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        corpus: &Corpus,
        questions: &[(Vec<f32>, SparseVector)],
        mode: Mode,
    ) -> Result<Scores, RetrievalError> {
        let scope = Scope::guild(corpus.guild());
        let mut tally = Tally::default();
        for (question, (dense, words)) in corpus.questions().iter().zip(questions) {
            let query = Query {
                dense: dense.clone(),
                bm25: words.clone(),
                mode,
                fusion: self.fusion,
                filter: Filter::default(),
                min_score: None,
                limit: DEPTH,
                exact: true,
            };
            let hits = index.search(collection, &scope, query).await?;
            let ranking: Vec<_> = hits.into_iter().map(|hit| hit.message_ids).collect();
            tally.add(&question.rest, &ranking);
        }
        Ok(tally.scores())
    }

    async fn embed_questions(
        &self,
        corpus: &Corpus,
        embedder: &dyn Embedder,
    ) -> Result<Vec<(Vec<f32>, SparseVector)>, EmbedError> {
        let mut vectors = Vec::with_capacity(corpus.questions().len());
        for question in corpus.questions() {
            let words = bm25::query(&question.text, self.language);
            vectors.push((embedder.embed_query(question.text.clone()).await?, words));
        }
        Ok(vectors)
    }
}

/// Creates a collection with the sessions and returns its number of points.
async fn fill(
    index: &EmbeddedIndex,
    name: &CollectionName,
    embedder: &Arc<dyn Embedder>,
    sessions: Vec<Session>,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<usize, RetrievalError> {
    index.ensure(&Collection { name: name.clone(), dims: embedder.dimensions() }).await?;
    index.bulk_load(name, BulkLoad::Begin).await?;
    let drafts = draft(embedder.clone(), sessions).await?;
    let total = drafts.iter().map(Vec::len).sum();
    on_progress(0, total);
    let mut done = 0;
    for sessions in batches(drafts) {
        let texts = sessions.iter().flatten().map(|draft| draft.passage.text.clone()).collect();
        let mut vectors = embedder.embed(texts).await?.into_iter();
        let point = |drafts: Vec<PointDraft>| {
            let vectors: Vec<_> = vectors.by_ref().take(drafts.len()).collect();
            PointDraft::into_points(drafts, &vectors)
        };
        let points: Vec<Point> = sessions.into_iter().flat_map(point).collect();
        done += points.len();
        index.upsert(name, points).await?;
        on_progress(done, total);
    }
    Ok(total)
}

/// Groups whole sessions into batches.
fn batches(sessions: Vec<Vec<PointDraft>>) -> Vec<Vec<Vec<PointDraft>>> {
    let mut batches: Vec<Vec<Vec<PointDraft>>> = Vec::new();
    let mut room = 0;
    for session in sessions {
        if room == 0 {
            batches.push(Vec::new());
            room = BATCH;
        }
        room = room.saturating_sub(session.len());
        if let Some(batch) = batches.last_mut() {
            batch.push(session);
        }
    }
    batches
}

/// Chunks the sessions on a blocking thread, because tokenization is CPU-bound.
async fn draft(
    embedder: Arc<dyn Embedder>,
    sessions: Vec<Session>,
) -> Result<Vec<Vec<PointDraft>>, RetrievalError> {
    let drafting = tokio::task::spawn_blocking(move || {
        let draft = |session: &Session| {
            let split = SessionText::new(session).chunk(embedder.tokenizer())?;
            Ok(PointDraft::from_chunks(session, split, embedder.slug(), false))
        };
        sessions.iter().map(draft).collect()
    });
    drafting.await.map_err(|_| RetrievalError::Panicked)?
}
