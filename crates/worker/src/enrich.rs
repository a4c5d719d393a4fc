//! What the model and the index get to see of a session: `eval` measures with this very code.

use std::ops::Range;

use guildex_embed::{Passage, Split, Tokenizer, TokenizerError};
use guildex_index::bm25::{self, Language};
use guildex_index::{Payload, Point, Preview, SparseVector};
use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{ModelSlug, PointId};
use sha2::{Digest, Sha256};

/// Raised whenever the text below is made differently, so that everything is embedded anew.
const TEMPLATE: &str = "2";

/// The most tokens of a chunk. Of 64 to 250, smaller chunks find more and show less of a conversation; with this
/// many both are good (`docs/retrieval.md`).
pub const CHUNK_TOKENS: usize = 96;

/// How much of a chunk's vectors is that of it and its neighbours together: what a conversation is about may have
/// been said some messages before. Searches find more so, by words above all (`docs/retrieval.md`).
const CONTEXT: f32 = 0.5;

/// How many chunks before and after are neighbours. With the whole session searches find no more, and a long
/// session's words would be stored with each of its chunks.
const REACH: usize = 3;

/// A session as text, in two ways.
///
/// What readers see says where, who and when: a line for the channel, and one for each message. The model gets what
/// was said alone: with names and times in it, searches found a fifth less (`docs/retrieval.md`).
#[derive(Clone)]
pub struct Enriched {
    header: String,
    lines: Vec<String>,
    said: Vec<String>,
}

impl Enriched {
    /// The text of a session as it is.
    pub fn of(session: &Session) -> Self {
        Self {
            header: header(session),
            lines: session.messages.iter().map(line).collect(),
            said: session.messages.iter().map(|message| said(message).to_owned()).collect(),
        }
    }

    /// Tells whether two states of a session would make the same points.
    pub fn content_hash(&self, session: &Session, model: &ModelSlug) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        part(TEMPLATE);
        part(model.as_str());
        part(&self.header);
        part(session.language.as_deref().unwrap_or_default());
        for (line, message) in self.lines.iter().zip(&session.messages) {
            part(line);
            part(&message.id.to_string());
        }
        hash.finalize().to_vec()
    }

    /// Cuts what was said into chunks for the model.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn split(&self, tokenizer: &Tokenizer) -> Result<Split, TokenizerError> {
        self.split_into(tokenizer, CHUNK_TOKENS)
    }

    /// Cuts what was said into chunks of at most so many tokens, to see what other lengths would do.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn split_into(&self, tokenizer: &Tokenizer, tokens: usize) -> Result<Split, TokenizerError> {
        guildex_embed::split(&tokenizer.at_most(tokens), "", &self.said)
    }
}

/// The hash of a session as it is: see [`Enriched::content_hash`].
pub fn content_hash(session: &Session, model: &ModelSlug) -> Vec<u8> {
    Enriched::of(session).content_hash(session, model)
}

fn header(session: &Session) -> String {
    format!("Conversation in #{}:", session.channel_name)
}

fn line(message: &SessionMessage) -> String {
    format!(
        "[{} @ {}]: {}",
        message.author_name,
        message.sent_at.format("%Y-%m-%d %H:%M"),
        message.text.as_str()
    )
}

/// What a message says, without the names at its beginning, which only tell to whom. One that holds nothing else
/// is left as it is.
fn said(message: &SessionMessage) -> &str {
    let text = message.text.as_str();
    let mut rest = text;
    while rest.starts_with('@') || rest.starts_with("<@") {
        let Some((_, after)) = rest.split_once(char::is_whitespace) else { return text };
        rest = after.trim_start();
    }
    rest
}

/// The language of the session's words.
fn language(session: &Session) -> Language {
    let named = session.language.as_deref().unwrap_or_default();
    // A name that only a later release knows: words are what they are then.
    named.parse().unwrap_or_default()
}

/// Some messages of a session for readers.
fn shown(session: &Session, messages: &[SessionMessage]) -> String {
    let lines = messages.iter().map(line);
    [header(session)].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// A chunk that waits for its vector.
pub struct Draft {
    /// What is embedded.
    pub passage: Passage,
    bm25: SparseVector,
    payload: Payload,
    id: PointId,
}

impl Draft {
    /// The chunks of a session, as points without their dense vectors.
    pub fn all(session: &Session, split: Split, model: &ModelSlug, previews: bool) -> Vec<Self> {
        let ranges: Vec<Range<usize>> = split.chunks.iter().map(|chunk| chunk.lines.clone()).collect();
        // Once a message: most are in the neighbourhoods of several chunks.
        let language = language(session);
        let words: Vec<Vec<u32>> =
            session.messages.iter().map(|m| bm25::words(m.text.as_str(), language).collect()).collect();
        split
            .chunks
            .into_iter()
            .zip(0..)
            .filter_map(|(chunk, number)| {
                let around = neighbourhood(&ranges, number as usize);
                let around = around.first()?.start..around.last()?.end;
                let bm25 = weighed(words.get(chunk.lines.clone())?, words.get(around)?);
                let messages = session.messages.get(chunk.lines)?;
                let passage = Passage { text: chunk.text, tokens: chunk.tokens };
                Self::new(session, messages, bm25, passage, number, model, previews)
            })
            .collect()
    }

    /// The points of one session's drafts, with the vectors of their texts, one each.
    pub fn into_points(drafts: Vec<Self>, vectors: &[Vec<f32>]) -> Vec<Point> {
        let point = |(number, draft): (usize, Self)| {
            let dense = in_context(vectors, number)?;
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
            id: PointId::of(session.guild_id, session.channel_id, session.first_message_id, model, chunk),
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
                preview: previews.then(|| Preview::new(&shown(session, messages))),
            },
            passage,
        })
    }
}

/// A chunk, by its number, with its neighbours.
fn neighbourhood<T>(chunks: &[T], number: usize) -> &[T] {
    chunks.get(number.saturating_sub(REACH)..chunks.len().min(number + REACH + 1)).unwrap_or_default()
}

/// A chunk's words, by message, and those of its neighbourhood: of what was written, the names of members spoken to
/// included.
fn weighed(own: &[Vec<u32>], around: &[Vec<u32>]) -> SparseVector {
    let weighed = |words: &[Vec<u32>], weight: f32| {
        let words = bm25::weighted(words.concat());
        let pairs = words.indices().iter().zip(words.values());
        pairs.map(|(word, value)| (*word, weight * value)).collect::<Vec<_>>()
    };
    weighed(own, 1.0 - CONTEXT).into_iter().chain(weighed(around, CONTEXT)).collect()
}

/// The vector of a chunk, by its number, moved towards the mean of its neighbourhood's.
fn in_context(vectors: &[Vec<f32>], number: usize) -> Option<Vec<f32>> {
    let own = vectors.get(number)?;
    let around = neighbourhood(vectors, number);
    let mean = |place: usize| {
        around.iter().filter_map(|vector| vector.get(place)).sum::<f32>() / around.len() as f32
    };
    Some(
        own.iter()
            .enumerate()
            .map(|(place, value)| (1.0 - CONTEXT) * value + CONTEXT * mean(place))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use guildex_embed::Tokenizer;
    use guildex_types::{Revision, SearchText, SessionId};

    use super::*;

    fn session(texts: &[&str]) -> Session {
        let message = |(text, n): (&&str, i64)| SessionMessage {
            id: n.try_into().unwrap(),
            author_id: 7.try_into().unwrap(),
            author_name: "Ada".into(),
            sent_at: DateTime::UNIX_EPOCH,
            text: SearchText::from_parts([*text]),
            words: 1,
        };
        let (guild, channel, first) = (1.try_into().unwrap(), 2.try_into().unwrap(), 1.try_into().unwrap());
        Session {
            id: SessionId::of(guild, channel, first),
            guild_id: guild,
            channel_id: channel,
            channel_name: "help".into(),
            language: None,
            first_message_id: first,
            revision: Revision::NONE,
            messages: texts.iter().zip(1..).map(message).collect(),
            indexed: None,
        }
    }

    fn drafts(session: &Session) -> Vec<Draft> {
        let tokenizer = Tokenizer::approximate(256).unwrap();
        let split = Enriched::of(session).split(&tokenizer).unwrap();
        Draft::all(session, split, &"model".parse().unwrap(), true)
    }

    #[test]
    fn the_model_reads_what_was_said_and_people_read_who_said_it_where_and_when() {
        let session = session(&["the bed is cold", "@Bo <@99> then turn it on", "@Bo"]);
        let [draft] = drafts(&session).try_into().unwrap_or_else(|_| panic!("one chunk"));
        assert_eq!(draft.passage.text, "the bed is cold\nthen turn it on\n@Bo");
        let preview = draft.payload.preview.as_ref().unwrap().as_str();
        let lines: Vec<&str> = preview.lines().collect();
        assert_eq!(lines[0], "Conversation in #help:");
        assert_eq!(lines[2], "[Ada @ 1970-01-01 00:00]: @Bo <@99> then turn it on");
    }

    #[test]
    fn a_name_that_was_spoken_to_is_found_as_a_word() {
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
    fn a_chunk_is_found_by_its_neighbours_too_and_by_its_own_words_first() {
        let texts: Vec<String> =
            (0..70).map(|n| format!("word{n} and some others to fill the line")).collect();
        let session = session(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let drafts = drafts(&session);
        let count = drafts.len();
        assert!(count > REACH + 2);
        let weight = |draft: &Draft| {
            let wanted = bm25::query("word0", Language::None).indices()[0];
            let place = draft.bm25.indices().iter().position(|index| *index == wanted);
            place.map_or(0.0, |place| draft.bm25.values()[place])
        };
        let weights: Vec<f32> = drafts.iter().map(weight).collect();
        let (near, far) = weights.split_at(REACH + 1);
        assert!(near[1..].iter().all(|weight| 0.0 < *weight && *weight < near[0]), "{weights:?}");
        assert!(far.iter().all(|weight| *weight == 0.0), "{weights:?}");

        let unit = |n: usize| (0..count).map(|m| f32::from(u8::from(n == m))).collect();
        let points = Draft::into_points(drafts, &(0..count).map(unit).collect::<Vec<Vec<f32>>>());
        let share = CONTEXT / (REACH + 1) as f32;
        let expected = [&[1.0 - CONTEXT + share], vec![share; REACH].as_slice(), &[0.0]].concat();
        assert_eq!(points[0].dense[..REACH + 2], expected);
    }

    #[test]
    fn what_is_one_chunk_is_left_as_it_is() {
        let session = session(&["the bed is cold"]);
        let points = Draft::into_points(drafts(&session), &[vec![0.6, 0.8]]);
        assert_eq!(points[0].dense, [0.6, 0.8]);
        assert_eq!(points[0].bm25, bm25::document("the bed is cold", Language::None));
    }

    #[test]
    fn whatever_readers_see_changes_the_hash() {
        let hash = |change: &dyn Fn(&mut Session)| {
            let mut session = session(&["the bed is cold"]);
            change(&mut session);
            Enriched::of(&session).content_hash(&session, &"model".parse().unwrap())
        };
        let same = hash(&|_| {});
        assert_eq!(same, hash(&|_| {}));
        assert_ne!(same, hash(&|session| session.channel_name = "other".into()));
        assert_ne!(same, hash(&|session| session.messages[0].author_name = "Bo".into()));
        assert_ne!(same, hash(&|session| session.messages[0].text = SearchText::from_parts(["hot"])));
        assert_ne!(same, hash(&|session| session.language = Some("english".into())));
    }
}
