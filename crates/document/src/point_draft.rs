//! Points without their dense vectors.

use std::ops::Range;

use guildex_embed::{Passage, Split};
use guildex_index::bm25::{self, Language};
use guildex_index::{Payload, Point, Preview, SparseVector};
use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{ModelSlug, PointId};

use crate::chunking::neighborhood;
use crate::session_text::excerpt;

/// Share of a chunk's vectors that comes from the chunk and its neighbors together: the topic of a conversation may
/// have been named some messages earlier. Searches find more with it, by words above all (`docs/retrieval.md`).
const CONTEXT_SHARE: f32 = 0.5;

/// A point without its dense vector.
pub struct PointDraft {
    /// Text to embed.
    pub passage: Passage,
    bm25: SparseVector,
    payload: Payload,
    id: PointId,
}

impl PointDraft {
    /// A draft for each chunk of a session. With `previews`, payloads carry the beginning of the chunk's text.
    pub fn from_chunks(session: &Session, chunks: Split, model: &ModelSlug, previews: bool) -> Vec<Self> {
        let ranges: Vec<Range<usize>> = chunks.chunks.iter().map(|chunk| chunk.lines.clone()).collect();
        let language = language(session);
        // Once a message: most messages are in the neighborhoods of several chunks.
        let words: Vec<Vec<u32>> =
            session.messages.iter().map(|m| bm25::words(m.text.as_str(), language).collect()).collect();
        chunks
            .chunks
            .into_iter()
            .zip(0..)
            .filter_map(|(chunk, number)| {
                let nearby = neighborhood(&ranges, number as usize);
                let nearby = nearby.first()?.start..nearby.last()?.end;
                let bm25 = word_weights(words.get(chunk.lines.clone())?, words.get(nearby)?);
                let messages = session.messages.get(chunk.lines)?;
                let passage = Passage { text: chunk.text, tokens: chunk.tokens };
                Self::new(session, messages, bm25, passage, number, model, previews)
            })
            .collect()
    }

    /// Completes the drafts of one session with the vectors of their passages, in the same order.
    pub fn into_points(drafts: Vec<Self>, vectors: &[Vec<f32>]) -> Vec<Point> {
        let point = |(position, draft): (usize, Self)| {
            let dense = in_context(vectors, position)?;
            Some(Point { id: draft.id, dense, bm25: draft.bm25, payload: draft.payload })
        };
        drafts.into_iter().enumerate().filter_map(point).collect()
    }

    fn new(
        session: &Session,
        messages: &[SessionMessage],
        bm25: SparseVector,
        passage: Passage,
        chunk: u32,
        model: &ModelSlug,
        previews: bool,
    ) -> Option<Self> {
        let (first, last) = (messages.first()?, messages.last()?);
        let mut author_ids: Vec<_> = messages.iter().map(|m| m.author_id).collect();
        author_ids.sort_unstable();
        author_ids.dedup();
        Some(Self {
            bm25,
            id: PointId::new(session.guild_id, session.channel_id, session.first_message_id, model, chunk),
            payload: Payload {
                guild_id: session.guild_id,
                channel_id: session.channel_id,
                author_ids,
                message_ids: messages.iter().map(|m| m.id).collect(),
                start_time: first.sent_at,
                end_time: last.sent_at,
                session_id: session.id,
                chunk,
                revision: session.revision,
                message_count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
                preview: previews.then(|| Preview::new(&excerpt(session, messages))),
            },
            passage,
        })
    }
}

/// Language that the session's words are stemmed in.
fn language(session: &Session) -> Language {
    let name = session.language.as_deref().unwrap_or_default();
    // A language that only a newer release knows: words are indexed unstemmed.
    name.parse().unwrap_or_default()
}

/// Sparse vector of a chunk, from its words and those of its neighborhood, by message. Leading mentions count: a
/// member can be searched for by name.
fn word_weights(own: &[Vec<u32>], nearby: &[Vec<u32>]) -> SparseVector {
    let weights = |words: &[Vec<u32>], share: f32| {
        let words = bm25::weighted(words.concat());
        let pairs = words.indices().iter().zip(words.values());
        pairs.map(|(word, value)| (*word, share * value)).collect::<Vec<_>>()
    };
    weights(own, 1.0 - CONTEXT_SHARE).into_iter().chain(weights(nearby, CONTEXT_SHARE)).collect()
}

/// Vector of the chunk at `position`, moved towards the mean of its neighborhood.
fn in_context(vectors: &[Vec<f32>], position: usize) -> Option<Vec<f32>> {
    let own = vectors.get(position)?;
    let nearby = neighborhood(vectors, position);
    let mean = |dimension: usize| {
        nearby.iter().filter_map(|vector| vector.get(dimension)).sum::<f32>() / nearby.len() as f32
    };
    Some(
        own.iter()
            .enumerate()
            .map(|(dimension, value)| (1.0 - CONTEXT_SHARE) * value + CONTEXT_SHARE * mean(dimension))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use guildex_embed::Tokenizer;

    use super::*;
    use crate::chunking::NEIGHBORS;
    use crate::session_text::SessionText;
    use crate::testing::session;

    fn drafts(session: &Session) -> Vec<PointDraft> {
        let tokenizer = Tokenizer::approximate(256).unwrap();
        let chunks = SessionText::new(session).chunk(&tokenizer).unwrap();
        PointDraft::from_chunks(session, chunks, &"model".parse().unwrap(), true)
    }

    #[test]
    fn the_model_reads_texts_and_previews_show_channel_authors_and_times() {
        let session = session(&["the bed is cold", "@Bo <@99> then turn it on", "@Bo"]);
        let [draft] = drafts(&session).try_into().unwrap_or_else(|_| panic!("one chunk"));
        assert_eq!(draft.passage.text, "the bed is cold\nthen turn it on\n@Bo");
        let preview = draft.payload.preview.as_ref().unwrap().as_str();
        let lines: Vec<&str> = preview.lines().collect();
        assert_eq!(lines[0], "Conversation in #help:");
        assert_eq!(lines[2], "[Ada @ 1970-01-01 00:00]: @Bo <@99> then turn it on");
    }

    #[test]
    fn a_mentioned_name_is_searchable() {
        let session = session(&["@Bo then turn it on"]);
        let [draft] = drafts(&session).try_into().unwrap_or_else(|_| panic!("one chunk"));
        let name = bm25::query("bo", Language::None);
        assert!(draft.bm25.indices().contains(&name.indices()[0]));
    }

    #[test]
    fn a_long_session_becomes_chunks_whose_previews_show_their_own_messages() {
        let texts: Vec<String> = (0..60).map(|n| format!("number {n} says a few words of its own")).collect();
        let session = session(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let drafts = drafts(&session);
        assert!(drafts.len() > 2);
        let mut all = Vec::new();
        for draft in drafts {
            let preview = draft.payload.preview.unwrap();
            assert_eq!(preview.as_str().lines().count(), 1 + draft.payload.message_ids.len());
            all.extend(draft.payload.message_ids);
        }
        assert_eq!(all, session.messages.iter().map(|m| m.id).collect::<Vec<_>>());
    }

    #[test]
    fn a_chunk_matches_words_of_its_neighbors_with_a_lower_weight() {
        let texts: Vec<String> =
            (0..70).map(|n| format!("word{n} and some others to fill the line")).collect();
        let session = session(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let drafts = drafts(&session);
        let count = drafts.len();
        assert!(count > NEIGHBORS + 2);
        let weight = |draft: &PointDraft| {
            let word = bm25::query("word0", Language::None).indices()[0];
            let position = draft.bm25.indices().iter().position(|index| *index == word);
            position.map_or(0.0, |position| draft.bm25.values()[position])
        };
        let weights: Vec<f32> = drafts.iter().map(weight).collect();
        let (near, far) = weights.split_at(NEIGHBORS + 1);
        assert!(near[1..].iter().all(|weight| 0.0 < *weight && *weight < near[0]), "{weights:?}");
        assert!(far.iter().all(|weight| *weight == 0.0), "{weights:?}");

        let unit = |n: usize| (0..count).map(|m| f32::from(u8::from(n == m))).collect();
        let points = PointDraft::into_points(drafts, &(0..count).map(unit).collect::<Vec<Vec<f32>>>());
        let share = CONTEXT_SHARE / (NEIGHBORS + 1) as f32;
        let expected = [&[1.0 - CONTEXT_SHARE + share], vec![share; NEIGHBORS].as_slice(), &[0.0]].concat();
        assert_eq!(points[0].dense[..NEIGHBORS + 2], expected);
    }

    #[test]
    fn the_vectors_of_a_single_chunk_are_unchanged() {
        let session = session(&["the bed is cold"]);
        let points = PointDraft::into_points(drafts(&session), &[vec![0.6, 0.8]]);
        assert_eq!(points[0].dense, [0.6, 0.8]);
        assert_eq!(points[0].bm25, bm25::document("the bed is cold", Language::None));
    }
}
