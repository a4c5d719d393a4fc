//! One corpus through the parts of production: drafts, vectors, an index of its own, and every question asked.

use std::sync::Arc;

use guildex_embed::{EmbedError, Embedder, TokenizerError};
use guildex_index::bm25::{self, Language};
use guildex_index::{
    Bulk, Collection, CollectionName, EdgeIndex, Filter, Fusion, InvalidCollectionName, Mode, Point, Query,
    Scope, SparseVector, VectorIndex,
};
use guildex_producer::eval;
use guildex_store::sessions::Session;
use guildex_types::{Eligibility, ModelSlug};
use guildex_worker::enrich::{Draft, Enriched};
use tempfile::TempDir;

use crate::corpus::Corpus;
use crate::measure::{DEPTH, Tally};
use crate::report::{Report, Row, name_of};
use crate::{Method, Scores};

/// About how many texts are embedded and written together.
const BLOCK: usize = 256;

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The corpus cannot be read.
    #[error(transparent)]
    Corpus(#[from] eval::EvalError),
    /// No conversation is long enough, so nothing can be asked.
    #[error(
        "no marked conversation has four messages or more, of which the first has text: nothing can be asked"
    )]
    NoQuestion,
    /// A session could not be cut into chunks.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A text could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The model's name is too long for a collection's.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// There is no room for an index in the folder for temporary files.
    #[error("cannot make a folder for the index")]
    Folder(#[source] std::io::Error),
    /// Cutting sessions panicked.
    #[error("cutting sessions into chunks panicked")]
    Panicked,
}

/// What to compare, and with which settings.
pub struct Bench {
    /// The models, loaded.
    pub models: Vec<Arc<dyn Embedder>>,
    /// Ways to make sessions.
    pub methods: Vec<Method>,
    /// Ways to rank.
    pub modes: Vec<Mode>,
    /// Which sessions are indexed.
    pub eligible: Eligibility,
    /// The language of the guild's words.
    pub language: Language,
    /// How the ranks of both vectors become one.
    pub fusion: Fusion,
}

/// How far the embedding of one model's points has come: it takes nearly all of the time.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The model.
    pub model: &'a ModelSlug,
    /// The method's name.
    pub method: &'static str,
    /// Points embedded and written.
    pub done: usize,
    /// Points in all.
    pub total: usize,
}

impl Bench {
    /// Asks every question of the corpus in every way, and tells of its progress.
    ///
    /// # Errors
    /// If nothing can be asked, or a part fails.
    pub async fn run(
        &self,
        corpus: &Corpus,
        on_stage: &mut dyn FnMut(Stage<'_>),
    ) -> Result<Report, EvalError> {
        if corpus.questions().is_empty() {
            return Err(EvalError::NoQuestion);
        }
        let folder = TempDir::with_prefix("guildex-evaluation-").map_err(EvalError::Folder)?;
        let index = EdgeIndex::open(folder.path())?;
        let mut rows = Vec::new();
        for embedder in &self.models {
            let questions = self.embed_questions(corpus, embedder.as_ref()).await?;
            for method in &self.methods {
                let name = CollectionName::new(&format!("eval-{}", name_of(method)), embedder.slug())?;
                let sessions = corpus.sessions(method, self.eligible, self.language);
                let points = fill(&index, &name, embedder, sessions, &mut |done, total| {
                    on_stage(Stage { model: embedder.slug(), method: name_of(method), done, total });
                })
                .await?;
                for mode in &self.modes {
                    let scores = self.ask(&index, &name, corpus, &questions, *mode).await?;
                    let (model, method) = (embedder.slug().clone(), name_of(method));
                    rows.push(Row { model, method, mode: *mode, points, scores });
                }
                index.collections().drop_collection(&name).await?;
            }
        }
        Ok(Report {
            channels: corpus.channels(),
            messages: corpus.messages(),
            questions: corpus.questions().len(),
            rows,
        })
    }

    async fn ask(
        &self,
        index: &EdgeIndex,
        collection: &CollectionName,
        corpus: &Corpus,
        questions: &[(Vec<f32>, SparseVector)],
        mode: Mode,
    ) -> Result<Scores, EvalError> {
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

/// Makes a collection of the sessions; returns how many points it has.
async fn fill(
    index: &EdgeIndex,
    name: &CollectionName,
    embedder: &Arc<dyn Embedder>,
    sessions: Vec<Session>,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<usize, EvalError> {
    let collections = index.collections();
    collections.ensure(&Collection { name: name.clone(), dims: embedder.dimensions() }).await?;
    collections.bulk(name, Bulk::Begin).await?;
    let drafts = draft(embedder.clone(), sessions).await?;
    let total = drafts.iter().map(Vec::len).sum();
    on_progress(0, total);
    let mut done = 0;
    for sessions in blocks(drafts) {
        let texts = sessions.iter().flatten().map(|draft| draft.passage.text.clone()).collect();
        let mut vectors = embedder.embed(texts).await?.into_iter();
        let point = |drafts: Vec<Draft>| {
            let vectors: Vec<_> = vectors.by_ref().take(drafts.len()).collect();
            Draft::into_points(drafts, &vectors)
        };
        let points: Vec<Point> = sessions.into_iter().flat_map(point).collect();
        done += points.len();
        index.upsert(name, points).await?;
        on_progress(done, total);
    }
    Ok(total)
}

/// Whole sessions, as many together as make a block.
fn blocks(sessions: Vec<Vec<Draft>>) -> Vec<Vec<Vec<Draft>>> {
    let mut blocks: Vec<Vec<Vec<Draft>>> = Vec::new();
    let mut room = 0;
    for session in sessions {
        if room == 0 {
            blocks.push(Vec::new());
            room = BLOCK;
        }
        room = room.saturating_sub(session.len());
        if let Some(block) = blocks.last_mut() {
            block.push(session);
        }
    }
    blocks
}

/// Tokenising takes a core for a while, so it does not happen on the runtime's threads.
async fn draft(embedder: Arc<dyn Embedder>, sessions: Vec<Session>) -> Result<Vec<Vec<Draft>>, EvalError> {
    let drafting = tokio::task::spawn_blocking(move || {
        let draft = |session: &Session| {
            let split = Enriched::of(session).split(embedder.tokenizer())?;
            Ok(Draft::all(session, split, embedder.slug(), false))
        };
        sessions.iter().map(draft).collect()
    });
    drafting.await.map_err(|_| EvalError::Panicked)?
}
