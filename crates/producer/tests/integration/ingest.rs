//! Ingest with Postgres: the same messages yield the same sessions and jobs, in any order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_producer::backfill;
use guildex_producer::import;
use guildex_producer::{Ingest, IngestConfig, IngestError, Ingested, OptOutConfig, SessionsConfig};
use guildex_store::channels::Channel;
use guildex_store::jobs::{self, NOTIFY_CHANNEL};
use guildex_store::{MIGRATOR, models};
use guildex_test_support::TEST_TIMEOUT;
use guildex_types::{
    Author, ChannelId, GuildId, JobQueue, Links, Message, MessageId, MessageKind, ModelSlug, SearchText,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::postgres::PgListener;
use sqlx::{FromRow, PgPool};
use tokio::runtime::Handle;
use tokio::sync::Barrier;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn id(number: i64) -> MessageId {
    number.try_into().unwrap()
}

fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

fn model() -> ModelSlug {
    "model-fp32".parse().unwrap()
}

/// A channel and an ingest.
#[derive(Clone)]
struct Place {
    ingest: Ingest,
    channel: Channel,
}

impl Place {
    fn new(pool: &PgPool) -> Self {
        Self::with(pool, IngestConfig::default())
    }

    fn with(pool: &PgPool, config: IngestConfig) -> Self {
        Self { ingest: Ingest::new(pool.clone(), config), channel: channel(1, 9) }
    }

    /// Returns the same channel in another guild.
    fn in_guild(&self, guild: i64) -> Self {
        Self { ingest: self.ingest.clone(), channel: channel(guild, 9) }
    }

    fn pool(&self) -> &PgPool {
        self.ingest.pool()
    }

    fn guild(&self) -> GuildId {
        self.channel.guild_id
    }

    /// Moves the messages to this channel.
    fn in_channel(&self, messages: &[Message]) -> Vec<Message> {
        let (guild_id, channel_id) = (self.channel.guild_id, self.channel.id);
        messages.iter().map(|message| Message { guild_id, channel_id, ..message.clone() }).collect()
    }

    async fn ingest(&self, messages: &[Message]) -> Ingested {
        self.ingest.messages(&self.channel, &self.in_channel(messages), JobQueue::Live).await.unwrap()
    }

    async fn delete(&self, ids: &[i64]) -> usize {
        let ids: Vec<MessageId> = ids.iter().copied().map(id).collect();
        self.ingest.delete(self.guild(), self.channel.id, &ids).await.unwrap()
    }

    async fn backfill(&self) {
        models::ensure_active(self.pool(), &model(), 384).await.unwrap();
        backfill::run(&self.ingest, self.guild(), self.channel.id, &[model()]).await.unwrap();
    }

    /// Stores messages as another program does: without sessions, word counts and exclusion reasons.
    async fn store_unprocessed(&self, messages: &[Message]) {
        let mut db = self.pool().acquire().await.unwrap();
        guildex_store::channels::upsert(&mut db, &self.channel).await.unwrap();
        for message in self.in_channel(messages) {
            sqlx::query(
                "INSERT INTO messages (guild_id, channel_id, id, author_id, is_bot, is_system,
                                       sent_at, edited_at, reply_to, mentions, text)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(message.guild_id.get())
            .bind(message.channel_id.get())
            .bind(message.id.get())
            .bind(message.author.id.get())
            .bind(message.author.is_bot)
            .bind(message.kind == MessageKind::System)
            .bind(message.sent_at)
            .bind(message.edited_at)
            .bind(message.links.reply_to.map(MessageId::get))
            .bind(message.links.mentions.iter().map(|m| m.get()).collect::<Vec<_>>())
            .bind(message.text.as_str())
            .execute(&mut *db)
            .await
            .unwrap();
        }
    }

    async fn state(&self) -> State {
        State::of(self.pool(), self.guild()).await
    }

    async fn jobs(&self) -> Vec<JobRow> {
        sqlx::query_as(
            "SELECT kind, dedup_key, queue, state, target_revision, payload FROM jobs WHERE guild_id = $1 ORDER BY kind, id",
        )
        .bind(self.guild().get())
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    async fn kinds(&self) -> Vec<String> {
        self.jobs().await.into_iter().map(|job| job.kind).collect()
    }

    /// Completes all jobs.
    async fn finish_jobs(&self) {
        sqlx::query("UPDATE jobs SET state = 'completed', finished_at = now() WHERE state = 'pending'")
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// Returns the stored text of a message.
    async fn text(&self, number: i64) -> String {
        sqlx::query_scalar("SELECT text FROM messages WHERE guild_id = $1 AND id = $2")
            .bind(self.guild().get())
            .bind(number)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }
}

fn channel(guild: i64, channel: i64) -> Channel {
    Channel {
        guild_id: guild.try_into().unwrap(),
        guild_name: "Makers".to_owned(),
        id: channel.try_into().unwrap(),
        name: "help".to_owned(),
        parent_id: None,
    }
}

/// Returns a message sent in the minute of its id.
fn new_message(number: i64, author: i64, text: &str) -> Message {
    Message {
        guild_id: 1.try_into().unwrap(),
        channel_id: 9.try_into().unwrap(),
        id: id(number),
        author: Author::member(author.try_into().unwrap(), format!("author {author}")),
        kind: MessageKind::Conversation,
        sent_at: minute(number),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text]),
    }
}

fn reply(to: i64, message: Message) -> Message {
    Message { links: Links { reply_to: Some(id(to)), ..message.links }, ..message }
}

fn mention(member: i64, message: Message) -> Message {
    Message { links: Links { mentions: vec![member.try_into().unwrap()], ..message.links }, ..message }
}

fn by_bot(message: Message) -> Message {
    Message { author: Author { is_bot: true, ..message.author }, ..message }
}

/// Returns the message, edited in a later minute.
fn edited(at: i64, text: &str, message: &Message) -> Message {
    Message { edited_at: Some(minute(at)), text: SearchText::from_parts([text]), ..message.clone() }
}

/// Returns a question and its answer.
fn exchange() -> [Message; 2] {
    [new_message(1, 1, "how do I level the bed"), reply(1, new_message(2, 2, "with a sheet of paper"))]
}

#[derive(Debug, FromRow)]
struct JobRow {
    kind: String,
    dedup_key: Option<String>,
    queue: JobQueue,
    state: String,
    target_revision: i64,
    payload: serde_json::Value,
}

/// State of a guild's messages, without revisions, which depend on the order of changes.
#[derive(Debug, PartialEq)]
struct State {
    /// Session and exclusion reason of each message.
    messages: BTreeMap<i64, (Option<i64>, Option<String>)>,
    sessions: BTreeSet<LiveSession>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct LiveSession {
    first_message_id: i64,
    message_count: i32,
    word_count: i32,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
}

impl State {
    async fn of(pool: &PgPool, guild: GuildId) -> Self {
        let messages: Vec<(i64, Option<i64>, Option<String>)> =
            sqlx::query_as("SELECT id, first_message_id, excluded_reason FROM messages WHERE guild_id = $1")
                .bind(guild.get())
                .fetch_all(pool)
                .await
                .unwrap();
        let sessions: Vec<LiveSession> =
            sqlx::query_as("SELECT * FROM sessions WHERE guild_id = $1 AND deleted_at IS NULL")
                .bind(guild.get())
                .fetch_all(pool)
                .await
                .unwrap();
        Self {
            messages: messages.into_iter().map(|(id, first, skip)| (id, (first, skip))).collect(),
            sessions: sessions.into_iter().collect(),
        }
    }

    fn session_of(&self, message: i64) -> Option<i64> {
        self.messages[&message].0
    }
}

/// Returns the revision of the session that starts with `first`.
async fn revision(pool: &PgPool, first: i64) -> i64 {
    sqlx::query_scalar("SELECT revision FROM sessions WHERE first_message_id = $1")
        .bind(first)
        .fetch_one(pool)
        .await
        .unwrap()
}

// Atomicity.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_is_stored_with_its_session_and_job(pool: PgPool) {
    let place = Place::new(&pool);
    let done = place.ingest(&exchange()).await;
    assert_eq!(done, Ingested { new: 2, edited: 0, unchanged: 0, sessions: 1, jobs: 1 });
    let state = place.state().await;
    assert_eq!((state.session_of(1), state.session_of(2)), (Some(1), Some(1)));
    let session = state.sessions.first().unwrap();
    assert_eq!((session.message_count, session.word_count), (2, 11));
    let jobs = place.jobs().await;
    assert_eq!((jobs[0].kind.as_str(), jobs[0].state.as_str()), ("index_session", "pending"));
    assert_eq!((jobs[0].queue, jobs[0].target_revision), (JobQueue::Live, revision(&pool, 1).await));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_of_another_channel_or_guild_rejects_the_page(pool: PgPool) {
    let place = Place::new(&pool);
    for foreign in [
        Message { channel_id: 8.try_into().unwrap(), ..new_message(3, 1, "foreign") },
        Message { guild_id: 2.try_into().unwrap(), ..new_message(3, 1, "foreign") },
    ] {
        let mut page = exchange().to_vec();
        page.push(foreign);
        let outcome = place.ingest.messages(&place.channel, &page, JobQueue::Live).await;
        assert!(matches!(outcome, Err(IngestError::OtherChannel { message, .. }) if message == id(3)));
    }
    let state = place.state().await;
    assert!(state.messages.is_empty() && state.sessions.is_empty() && place.jobs().await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_failed_job_insert_rolls_back_the_message(pool: PgPool) {
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON jobs EXECUTE FUNCTION refuse();",
    )
    .execute(&pool)
    .await
    .unwrap();
    let place = Place::new(&pool);
    let outcome = place.ingest.messages(&place.channel, &exchange(), JobQueue::Live).await;
    assert!(matches!(outcome, Err(IngestError::Store(_))));
    let state = place.state().await;
    assert!(state.messages.is_empty() && state.sessions.is_empty());

    sqlx::query("DROP TRIGGER refuse ON jobs").execute(&pool).await.unwrap();
    assert_eq!(place.ingest(&exchange()).await.new, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn storing_a_message_notifies_the_scheduler(pool: PgPool) {
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(NOTIFY_CHANNEL).await.unwrap();
    Place::new(&pool).ingest(&exchange()).await;
    let notification = timeout(TEST_TIMEOUT, listener.recv()).await.expect("a notification").unwrap();
    assert_eq!(notification.payload(), "300", "the debounce in milliseconds");
}

// Idempotency and order.

#[sqlx::test(migrator = "MIGRATOR")]
async fn storing_messages_again_changes_nothing(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    let (before, revision_before) = (place.state().await, revision(&pool, 1).await);
    place.finish_jobs().await;
    let again = place.ingest(&exchange()).await;
    assert_eq!(again, Ingested { unchanged: 2, ..Ingested::default() });
    assert_eq!(place.state().await, before);
    assert_eq!(revision(&pool, 1).await, revision_before);
    assert!(place.jobs().await.iter().all(|job| job.state == "completed"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_newest_edit_wins_in_any_order(pool: PgPool) {
    let [question, answer] = exchange();
    let versions =
        [question.clone(), edited(5, "second thoughts", &question), edited(7, "third time", &question)];
    for (guild, order) in
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].iter().enumerate()
    {
        let place = Place::new(&pool).in_guild(1 + guild as i64);
        place.ingest(std::slice::from_ref(&answer)).await;
        for version in order {
            place.ingest(&versions[*version..=*version]).await;
        }
        assert_eq!(place.text(1).await, "third time", "order {order:?}");
        let state = place.state().await;
        assert_eq!((state.session_of(1), state.session_of(2)), (Some(1), Some(1)), "order {order:?}");
        assert_eq!(state.sessions.first().unwrap().word_count, 7, "order {order:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_hides_the_previous_text_and_enqueues_a_job(pool: PgPool) {
    let place = Place::new(&pool);
    let [question, _] = exchange();
    place.ingest(&exchange()).await;
    place.finish_jobs().await;
    let done = place.ingest(&[edited(5, "never mind", &question)]).await;
    assert_eq!(done, Ingested { edited: 1, sessions: 1, jobs: 1, ..Ingested::default() });
    let (revision, removed): (i64, i64) =
        sqlx::query_as("SELECT revision, last_removal_revision FROM sessions")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(revision, removed);
    assert_eq!(place.jobs().await.last().unwrap().target_revision, revision);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_duplicate_message_in_a_page_counts_once_with_its_newest_edit(pool: PgPool) {
    let place = Place::new(&pool);
    let [question, answer] = exchange();
    let page = [edited(5, "newest", &question), question.clone(), answer, edited(4, "older", &question)];
    let done = place.ingest(&page).await;
    assert_eq!((done.new, done.unchanged), (2, 2));
    assert_eq!(place.text(1).await, "newest");
}

/// Returns two interleaved conversations.
fn interleaved() -> Vec<Message> {
    vec![
        new_message(1, 1, "my prints warp"),
        mention(4, new_message(2, 3, "did you see the game")),
        mention(3, new_message(3, 4, "what a goal")),
        reply(1, new_message(4, 2, "use a brim")),
        mention(4, new_message(5, 3, "and the keeper")),
        reply(4, new_message(6, 1, "that worked")),
    ]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_reply_stored_before_its_parent_joins_it_later(pool: PgPool) {
    let at_once = Place::new(&pool);
    at_once.ingest(&interleaved()).await;
    let expected = at_once.state().await;
    assert_eq!([1, 4, 6].map(|m| expected.session_of(m)), [Some(1); 3]);
    assert_ne!(expected.session_of(2), Some(1));

    let place = at_once.in_guild(2);
    for message in interleaved().iter().rev() {
        place.ingest(std::slice::from_ref(message)).await;
    }
    assert_eq!(place.state().await, expected);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_edited_from_empty_keeps_its_original_links(pool: PgPool) {
    let said = [
        new_message(2, 1, "my prints warp"),
        mention(4, new_message(3, 3, "did you see the game")),
        mention(3, new_message(4, 4, "what a goal")),
        new_message(5, 2, ""),
    ];
    let filled = reply(2, edited(9, "use a brim", &said[3]));
    let late = mention(7, new_message(1, 6, "good morning"));

    let early = Place::new(&pool);
    early.ingest(std::slice::from_ref(&late)).await;
    early.ingest(&said).await;
    early.ingest(std::slice::from_ref(&filled)).await;

    let place = early.in_guild(2);
    place.ingest(&said).await;
    place.ingest(&[filled]).await;
    place.ingest(&[late]).await;
    assert_eq!(place.state().await.messages, early.state().await.messages);
}

/// A generated message: author, pause before it, links, and exclusions.
#[derive(Debug, Clone)]
struct GeneratedMessage {
    author: i64,
    pause: i64,
    reply: Option<prop::sample::Index>,
    mention: Option<i64>,
    sort: Sort,
    words: usize,
}

#[derive(Debug, Clone, Copy)]
enum Sort {
    Said,
    ByBot,
    Empty,
    System,
}

fn generated_message(longest_pause: i64) -> impl Strategy<Value = GeneratedMessage> {
    let sort = prop_oneof![12 => Just(Sort::Said), 1 => Just(Sort::ByBot), 1 => Just(Sort::Empty), 1 => Just(Sort::System)];
    let reply = prop::option::weighted(0.3, any::<prop::sample::Index>());
    (1..=6_i64, 0..=longest_pause, reply, prop::option::weighted(0.2, 1..=6_i64), sort, 1..15_usize).prop_map(
        |(author, pause, reply, mention, sort, words)| GeneratedMessage {
            author,
            pause,
            reply,
            mention,
            sort,
            words,
        },
    )
}

/// Generates a channel of 5 to 40 messages, dense or sparse, by two to six authors.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    (prop_oneof![Just(90_i64), Just(600), Just(3_600)], 2..=6_i64)
        .prop_flat_map(|(pause, authors)| {
            (prop::collection::vec(generated_message(pause), 5..=40), Just(authors))
        })
        .prop_map(|(all, authors)| {
            let mut now = minute(1_000);
            let number = |index: usize| 1_000 + index as i64;
            all.iter()
                .enumerate()
                .map(|(index, generated_message)| {
                    now += TimeDelta::seconds(generated_message.pause);
                    let text = match generated_message.sort {
                        Sort::Empty => String::new(),
                        _ => "word ".repeat(generated_message.words),
                    };
                    let mut message =
                        new_message(number(index), 1 + generated_message.author % authors, &text);
                    message.sent_at = now;
                    message.author.is_bot = matches!(generated_message.sort, Sort::ByBot);
                    if matches!(generated_message.sort, Sort::System) {
                        message.kind = MessageKind::System;
                    }
                    message.links = Links {
                        reply_to: generated_message.reply.map(|reply| id(number(reply.index(all.len())))),
                        mentions: generated_message
                            .mention
                            .into_iter()
                            .map(|m| m.try_into().unwrap())
                            .collect(),
                    };
                    message
                })
                .collect()
        })
}

/// Generates messages, their order of arrival, and page sizes.
fn arrivals() -> impl Strategy<Value = (Vec<Message>, Vec<Message>, Vec<usize>)> {
    conversation().prop_flat_map(|messages| {
        (Just(messages.clone()), Just(messages).prop_shuffle(), prop::collection::vec(1..12_usize, 40))
    })
}

fn pages<'a>(mut messages: &'a [Message], sizes: &'a [usize]) -> impl Iterator<Item = &'a [Message]> {
    sizes.iter().map_while(move |size| {
        let (page, rest) = messages.split_at((*size).min(messages.len()));
        messages = rest;
        (!page.is_empty()).then_some(page)
    })
}

/// Asserts that every eligible session has one unfinished job with its latest revision as target, or a later one if a
/// backfill enqueued it.
async fn check_jobs(place: &Place) {
    let sessions: Vec<(String, i64, bool)> = sqlx::query_as(
        "SELECT id::text, revision, message_count >= 2 OR (message_count = 1 AND word_count >= 12)
         FROM sessions WHERE guild_id = $1",
    )
    .bind(place.guild().get())
    .fetch_all(place.pool())
    .await
    .unwrap();
    let jobs = place.jobs().await;
    assert!(jobs.iter().all(|job| job.state == "pending"));
    let keys: HashSet<_> = jobs.iter().map(|job| job.dedup_key.clone().unwrap()).collect();
    assert_eq!(keys.len(), jobs.len());
    for (session, revision, eligible) in sessions.into_iter().filter(|(.., eligible)| *eligible) {
        let key = format!("session/{}/{session}", place.guild());
        let job = jobs.iter().find(|job| job.dedup_key.as_ref() == Some(&key));
        assert_eq!(job.map(|job| job.kind.as_str()), Some("index_session"), "session {session}, {eligible}");
        let wanted = job.map_or(0, |job| job.target_revision);
        assert!(wanted >= revision, "session {session} has revision {revision}, target {wanted}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sessions_do_not_depend_on_the_order_of_arrival(pool: PgPool) {
    let runtime = Handle::current();
    let property = tokio::task::spawn_blocking(move || {
        let place = Place::new(&pool);
        let guilds = AtomicI64::new(1);
        let another = || place.in_guild(guilds.fetch_add(1, Ordering::Relaxed));
        let config = Config { cases: 20, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&arrivals(), |(messages, shuffled, sizes)| {
            runtime.block_on(async {
                let (at_once, piecemeal, backfilled) = (another(), another(), another());
                at_once.ingest(&messages).await;
                let expected = at_once.state().await;
                for page in pages(&shuffled, &sizes) {
                    piecemeal.ingest(page).await;
                }
                prop_assert_eq!(&piecemeal.state().await, &expected);
                check_jobs(&piecemeal).await;

                // Half of the messages are stored before the others arrive.
                let (live, stored) = shuffled.split_at(shuffled.len() / 2);
                backfilled.store_unprocessed(stored).await;
                backfilled.ingest(live).await;
                while backfilled
                    .ingest
                    .assign_stored(backfilled.guild(), backfilled.channel.id, 7)
                    .await
                    .unwrap()
                    > 0
                {}
                prop_assert_eq!(&backfilled.state().await, &expected);
                check_jobs(&backfilled).await;
                Ok(())
            })
        })
    });
    if let Err(failure) = property.await.unwrap() {
        panic!("{failure}");
    }
}

/// Returns a long conversation of four authors with interleaved replies and mentions.
fn long_conversation() -> Vec<Message> {
    (1..=60)
        .map(|n| {
            let message = new_message(n, 1 + n * 7 % 4, "a word or two");
            match n % 5 {
                0 if n > 10 => reply(n - 1 - n % 7, message),
                3 => mention(1 + n % 4, message),
                _ => message,
            }
        })
        .collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn concurrent_ingests_of_a_channel_yield_the_same_sessions(pool: PgPool) {
    let at_once = Place::new(&pool);
    at_once.ingest(&long_conversation()).await;
    let expected = at_once.state().await;
    assert!(expected.sessions.len() > 1, "the conversation has several sessions");

    let place = at_once.in_guild(2);
    let barrier = Arc::new(Barrier::new(2));
    let halves = [0, 1].map(|half| {
        let (place, barrier) = (place.clone(), barrier.clone());
        let mine: Vec<Message> = long_conversation().into_iter().skip(half).step_by(2).collect();
        tokio::spawn(async move {
            barrier.wait().await;
            for page in mine.chunks(3) {
                place.ingest(page).await;
            }
        })
    });
    for half in halves {
        timeout(TEST_TIMEOUT, half).await.expect("an end").unwrap();
    }
    assert_eq!(place.state().await, expected);
    check_jobs(&place).await;
}

// Jobs.

#[sqlx::test(migrator = "MIGRATOR")]
async fn many_changes_of_a_session_enqueue_one_job(pool: PgPool) {
    let place = Place::new(&pool);
    for message in exchange()
        .iter()
        .chain(&[reply(2, new_message(3, 1, "thanks")), reply(3, new_message(4, 2, "any time"))])
    {
        place.ingest(std::slice::from_ref(message)).await;
    }
    let jobs = place.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].target_revision, revision(&pool, 1).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_too_small_for_the_index_enqueues_nothing(pool: PgPool) {
    let place = Place::new(&pool);
    let done = place.ingest(&[new_message(1, 1, "ok thanks")]).await;
    assert_eq!((done.sessions, done.jobs), (1, 0));
    let long = "one two three four five six seven eight nine ten eleven twelve";
    assert_eq!(place.ingest(&[new_message(1_000, 1, long)]).await.jobs, 1, "a single long message");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_running_removal_gets_the_new_revision_of_a_session_that_stays_too_small(pool: PgPool) {
    let place = Place::new(&pool);
    let long = new_message(1, 1, "one two three four five six seven eight nine ten eleven twelve");
    place.ingest(std::slice::from_ref(&long)).await;
    place.finish_jobs().await;
    place.ingest(&[edited(2, "never mind", &long)]).await;
    place.ingest(&[edited(3, "never mind that", &long)]).await;
    let unfinished: Vec<_> = place.jobs().await.into_iter().filter(|job| job.state == "pending").collect();
    let enqueued: Vec<_> = unfinished.iter().map(|job| (job.kind.as_str(), job.target_revision)).collect();
    assert_eq!(enqueued, [("delete_session", revision(&pool, 1).await)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_merged_by_a_late_message_is_deleted(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&[new_message(2, 1, "use a brim"), reply(2, new_message(3, 2, "that worked"))]).await;
    place.finish_jobs().await;
    place.ingest(&[mention(1, new_message(1, 2, "my prints warp"))]).await;
    let state = place.state().await;
    assert_eq!(
        [1, 2, 3].map(|m| state.session_of(m)),
        [Some(1); 3],
        "the late message begins the session now"
    );
    let mut unfinished: Vec<_> =
        place.jobs().await.into_iter().filter(|job| job.state == "pending").collect();
    unfinished.sort_by_key(|job| job.queue);
    let enqueued: Vec<_> = unfinished.iter().map(|job| (job.kind.as_str(), job.target_revision)).collect();
    let wanted = [("delete_session", revision(&pool, 2).await), ("index_session", revision(&pool, 1).await)];
    assert_eq!(enqueued, wanted);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_that_makes_a_session_too_small_deletes_it(pool: PgPool) {
    let place = Place::new(&pool);
    let long = new_message(1, 1, "one two three four five six seven eight nine ten eleven twelve");
    place.ingest(std::slice::from_ref(&long)).await;
    place.finish_jobs().await;
    place.ingest(&[edited(5, "never mind", &long)]).await;
    assert_eq!(place.kinds().await, ["delete_session", "index_session"]);
}

// Deletions.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deleted_message_leaves_a_row_without_content(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    assert_eq!(place.delete(&[2]).await, 1);
    let (text, name, words, deleted): (String, Option<String>, i32, bool) =
        sqlx::query_as("SELECT text, webhook_name, words, deleted_at IS NOT NULL FROM messages WHERE id = 2")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((text.as_str(), name, words, deleted), ("", None, 0, true));

    assert_eq!(place.delete(&[2]).await, 0, "already deleted");
    let [_, answer] = exchange();
    let again = place.ingest(&[answer.clone(), edited(9, "I am back", &answer)]).await;
    assert_eq!(again, Ingested { unchanged: 2, ..Ingested::default() }, "an import does not restore it");
    assert_eq!(place.text(2).await, "");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deletion_reassigns_no_message_and_a_session_keeps_its_id_without_its_first_message(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&interleaved()).await;
    let before = place.state().await;
    let revision_before = revision(&pool, 1).await;
    assert_eq!(place.delete(&[1]).await, 1);
    let after = place.state().await;
    assert_eq!(after.messages, before.messages);
    let session = after.sessions.first().unwrap();
    assert_eq!((session.first_message_id, session.message_count, session.started_at), (1, 2, minute(4)));
    let (now, removed): (i64, i64) =
        sqlx::query_as("SELECT revision, last_removal_revision FROM sessions WHERE first_message_id = 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(now > revision_before && removed == now, "hidden until it is indexed again");

    // Later messages join it as before.
    place.ingest(&[reply(6, new_message(7, 2, "glad to hear"))]).await;
    assert_eq!(place.state().await.session_of(7), Some(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deletion_enqueues_the_immediate_removal_of_points(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&interleaved()).await;
    place.finish_jobs().await;
    place.delete(&[1, 5, 77]).await;
    let jobs: Vec<_> = place.jobs().await.into_iter().filter(|job| job.state == "pending").collect();
    let removal = jobs.iter().find(|job| job.kind == "remove_points").unwrap();
    assert_eq!((removal.queue, removal.dedup_key.as_deref()), (JobQueue::Delete, None));
    let sessions: Vec<(String, i64)> =
        sqlx::query_as("SELECT id::text, revision FROM sessions ORDER BY first_message_id")
            .fetch_all(&pool)
            .await
            .unwrap();
    let named: BTreeSet<(String, i64)> = removal.payload["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["session_id"].as_str().unwrap().to_owned(), s["below"].as_i64().unwrap()))
        .collect();
    assert_eq!(named, sessions.into_iter().collect(), "each below its own new revision");
    let latest: i64 =
        sqlx::query_scalar("SELECT max(revision) FROM sessions").fetch_one(&pool).await.unwrap();
    assert_eq!(removal.target_revision, latest);
    assert!(jobs.iter().any(|job| job.kind == "index_session"), "the rest of the session is indexed again");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_made_too_small_by_a_deletion_is_deleted(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    place.finish_jobs().await;
    place.delete(&[2]).await;
    assert_eq!(place.kinds().await, ["delete_session", "index_session", "remove_points"]);
    assert_eq!(place.jobs().await[0].target_revision, revision(&pool, 1).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_whose_messages_are_all_deleted_is_a_tombstone(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    place.finish_jobs().await;
    assert_eq!(place.delete(&[1, 2]).await, 1);
    let deleted: bool =
        sqlx::query_scalar("SELECT deleted_at IS NOT NULL FROM sessions").fetch_one(&pool).await.unwrap();
    assert!(deleted);
    assert_eq!(place.kinds().await, ["delete_session", "index_session", "remove_points"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_message_without_a_session_is_deleted_permanently(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&[by_bot(new_message(1, 1, "beep"))]).await;
    place
        .store_unprocessed(&[new_message(2, 1, "stored by another program, and not in a session yet")])
        .await;
    place.delete(&[1, 2]).await;
    for number in [1, 2] {
        assert_eq!(place.text(number).await, "", "message {number}");
    }
    place.backfill().await;
    assert_eq!(place.state().await.session_of(2), None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn deleting_unknown_messages_enqueues_nothing(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    place.finish_jobs().await;
    assert_eq!(place.delete(&[77]).await, 0);
    assert_eq!(place.in_guild(2).delete(&[1]).await, 0, "the message belongs to another guild");
    assert_eq!(place.kinds().await, ["index_session"]);
    assert_eq!(place.text(1).await, "how do I level the bed");
}

// Opt-outs.

fn opted_out() -> IngestConfig {
    IngestConfig {
        optout: OptOutConfig {
            users: BTreeSet::from([2.try_into().unwrap()]),
            channels: BTreeSet::from([ChannelId::try_from(8).unwrap()]),
        },
        ..IngestConfig::default()
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_of_opted_out_members_and_channels_are_not_stored(pool: PgPool) {
    let place = Place::with(&pool, opted_out());
    let done = place.ingest(&exchange()).await;
    assert_eq!((done.new, done.unchanged), (1, 1));
    assert_eq!(place.state().await.messages.keys().copied().collect::<Vec<_>>(), [1]);

    let other = Place { channel: channel(1, 8), ..place };
    assert_eq!(other.ingest(&exchange()).await, Ingested { unchanged: 2, ..Ingested::default() });
    assert_eq!(other.state().await.messages.len(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_backfill_excludes_opted_out_members_and_channels(pool: PgPool) {
    let place = Place::with(&pool, opted_out());
    place.store_unprocessed(&exchange()).await;
    place.backfill().await;
    assert_eq!(place.state().await.session_of(2), None, "message of the member");

    let other = Place { channel: channel(2, 8), ..place };
    other.store_unprocessed(&[new_message(1, 1, "one"), reply(1, new_message(2, 3, "two"))]).await;
    other.backfill().await;
    assert_eq!(other.state().await.session_of(1), None, "message in the channel");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn bots_are_included_if_configured(pool: PgPool) {
    let messages =
        [new_message(1, 1, "what is the weather"), reply(1, by_bot(new_message(2, 5, "it rains")))];
    let place = Place::new(&pool);
    place.ingest(&messages).await;
    let state = place.state().await;
    assert_eq!(state.messages[&2], (None, Some("bot".to_owned())));

    // After a change of the configuration, a backfill includes them.
    let config = IngestConfig {
        sessions: SessionsConfig { include_bots: true, ..SessionsConfig::default() },
        ..IngestConfig::default()
    };
    let inclusive = Place::with(&pool, config);
    inclusive.backfill().await;
    assert_eq!(inclusive.state().await.messages[&2], (Some(1), None));
    let fresh = inclusive.in_guild(2);
    fresh.ingest(&messages).await;
    assert_eq!(fresh.state().await, inclusive.state().await);
}

// Backfill.

#[sqlx::test(migrator = "MIGRATOR")]
async fn messages_stored_by_another_program_get_the_same_sessions(pool: PgPool) {
    let live = Place::new(&pool);
    let mut messages = long_conversation();
    messages.extend([by_bot(new_message(70, 5, "beep")), new_message(71, 1, "")]);
    live.ingest(&messages).await;
    let place = live.in_guild(2);
    place.store_unprocessed(&messages).await;
    place.backfill().await;
    let expected = live.state().await;
    assert_eq!(place.state().await, expected);
    check_jobs(&place).await;
    assert!(place.jobs().await.iter().all(|job| job.queue == JobQueue::Backfill));

    let (revisions, jobs) = (revisions(&place).await, place.jobs().await.len());
    place.backfill().await;
    assert_eq!(
        (revisions, jobs),
        (self::revisions(&place).await, place.jobs().await.len()),
        "a second backfill changes nothing"
    );
}

async fn revisions(place: &Place) -> Vec<i64> {
    sqlx::query_scalar("SELECT revision FROM sessions WHERE guild_id = $1 ORDER BY id")
        .bind(place.guild().get())
        .fetch_all(place.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_backfill_runs_concurrently_with_ingest_and_another_backfill(pool: PgPool) {
    let at_once = Place::new(&pool);
    at_once.ingest(&long_conversation()).await;
    let place = at_once.in_guild(2);
    let (live, stored): (Vec<Message>, Vec<Message>) =
        long_conversation().into_iter().partition(|message| message.id.get() % 3 == 0);
    place.store_unprocessed(&stored).await;
    models::ensure_active(&pool, &model(), 384).await.unwrap();

    let barrier = Arc::new(Barrier::new(3));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (place, barrier) = (place.clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            // Small pages, so that the three interleave.
            while place.ingest.assign_stored(place.guild(), place.channel.id, 5).await.unwrap() > 0 {}
            place.backfill().await;
        });
    }
    tasks.spawn({
        let place = place.clone();
        async move {
            barrier.wait().await;
            for page in live.chunks(2) {
                place.ingest(page).await;
            }
        }
    });
    timeout(TEST_TIMEOUT, tasks.join_all()).await.expect("an end");
    assert_eq!(place.state().await, at_once.state().await);
    check_jobs(&place).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_backfill_enqueues_only_missing_sessions(pool: PgPool) {
    let place = Place::new(&pool);
    let later = [new_message(900, 1, "is it dry"), reply(900, new_message(901, 2, "not yet"))];
    place.ingest(&exchange()).await;
    place.ingest(&later).await;
    models::ensure_active(&pool, &model(), 384).await.unwrap();
    sqlx::query(
        "INSERT INTO indexed_sessions (session_id, model, point_revision, indexed_revision, point_ids)
         SELECT id, $1, revision, revision, ARRAY[gen_random_uuid()] FROM sessions WHERE first_message_id = 1",
    )
    .bind(model().as_str())
    .execute(&pool)
    .await
    .unwrap();
    place.finish_jobs().await;
    place.backfill().await;
    let enqueued: Vec<_> = place.jobs().await.into_iter().filter(|job| job.state == "pending").collect();
    assert_eq!(enqueued.len(), 1);
    assert!(enqueued[0].target_revision > revision(&pool, 900).await, "a running job must run again");
    let remaining = backfill::remaining(
        place.ingest.pool(),
        &place.ingest.config().sessions,
        place.guild(),
        None,
        &model(),
    )
    .await
    .unwrap();
    assert_eq!((remaining.messages, remaining.sessions, remaining.jobs), (0, 1, 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_missing_session_is_enqueued_although_the_job_that_recorded_it_still_runs(pool: PgPool) {
    let place = Place::new(&pool);
    place.ingest(&exchange()).await;
    sqlx::query("UPDATE jobs SET run_at = now()").execute(&pool).await.unwrap();
    let ids = jobs::dispatch(&pool, JobQueue::Live, 9, 0, TEST_TIMEOUT).await.unwrap().ids;
    let claimed = jobs::claim(&pool, &ids, "worker", TEST_TIMEOUT).await.unwrap().remove(0);
    // The job recorded the session, and the record was invalidated since: the index was lost, or a repair ran.
    place.backfill().await;
    let read = revision(&pool, 1).await.into();
    jobs::complete(&pool, &[(claimed.id, claimed.token, claimed.target_revision.max(read))], Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(place.jobs().await[0].state, "pending", "the session would never be indexed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_backfill_is_planned_once_per_channel(pool: PgPool) {
    let place = Place::new(&pool);
    place.store_unprocessed(&exchange()).await;
    Place { channel: channel(1, 10), ..place.clone() }.store_unprocessed(&exchange()).await;
    place.in_guild(2).store_unprocessed(&exchange()).await;
    for _ in 0..2 {
        assert_eq!(
            backfill::plan(place.ingest.pool(), place.ingest.enqueuer(), place.guild(), None).await.unwrap(),
            2
        );
    }
    let one = Some(ChannelId::try_from(10).unwrap());
    assert_eq!(
        backfill::plan(place.ingest.pool(), place.ingest.enqueuer(), place.guild(), one).await.unwrap(),
        1
    );
    let unknown = Some(ChannelId::try_from(77).unwrap());
    assert_eq!(
        backfill::plan(place.ingest.pool(), place.ingest.enqueuer(), place.guild(), unknown).await.unwrap(),
        0
    );
    assert_eq!(place.kinds().await, ["backfill_channel"; 2]);
    assert_eq!(place.in_guild(2).kinds().await, [""; 0]);
}

// Imports.

fn samples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let mut files: Vec<PathBuf> = ["rustwood-makers", "quiet-orchard"]
        .iter()
        .flat_map(|guild| std::fs::read_dir(root.join(guild)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

async fn guilds(pool: &PgPool) -> Vec<GuildId> {
    guildex_store::channels::guilds(&mut pool.acquire().await.unwrap()).await.unwrap()
}

async fn import(ingest: &Ingest, path: &Path) -> import::Imported {
    import::file(ingest, path, &CancellationToken::new(), |_, _| {}).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_samples_are_imported_and_a_second_import_changes_nothing(pool: PgPool) {
    let ingest = Place::new(&pool).ingest;
    let mut read = 0;
    for path in samples() {
        let mut progress = (0, 0);
        let stop = CancellationToken::new();
        let done = import::file(&ingest, &path, &stop, |bytes, messages| progress = (bytes, messages))
            .await
            .unwrap();
        assert!(done.error.is_none() && done.rejected_total == 0, "{}", path.display());
        assert_eq!(done.ingested.new as u64, done.messages);
        assert_eq!(progress, (path.metadata().unwrap().len(), done.messages));
        read += done.messages;
    }
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&pool).await.unwrap();
    assert_eq!(stored as u64, read);
    let unassigned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM messages WHERE first_message_id IS NULL AND excluded_reason IS NULL",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(unassigned, 0);

    let guilds = guilds(&pool).await;
    assert_eq!(guilds.len(), 2);
    let before = State::of(&pool, guilds[0]).await;
    for path in samples() {
        let again = import(&ingest, &path).await;
        let nothing = Ingested { unchanged: again.messages as usize, ..Ingested::default() };
        assert_eq!(again.ingested, nothing);
    }
    assert_eq!(State::of(&pool, guilds[0]).await, before);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_damaged_file_is_imported_up_to_the_damage_and_completed_by_the_intact_one(pool: PgPool) {
    let whole = samples().into_iter().find(|path| path.ends_with("garden.json")).unwrap();
    let json = std::fs::read(&whole).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, &json[..json.len() / 2]).unwrap();

    let ingest = Place::new(&pool).ingest;
    let part = import(&ingest, &broken).await;
    assert!(part.error.is_some());
    assert!(part.messages > 0);
    assert_eq!(part.ingested.new as u64, part.messages);
    let all = import(&ingest, &whole).await;
    assert_eq!(all.ingested.new as u64, all.messages - part.messages);
    let guild = guilds(&pool).await[0];
    let in_two_parts = State::of(&pool, guild).await;

    sqlx::query("TRUNCATE messages, sessions, jobs CASCADE").execute(&pool).await.unwrap();
    import(&ingest, &whole).await;
    assert_eq!(in_two_parts, State::of(&pool, guild).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_file_that_is_not_an_export_changes_nothing(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.json");
    std::fs::write(&path, "[1, 2, 3]").unwrap();
    let place = Place::new(&pool);
    for path in [path, folder.path().join("missing.json")] {
        let done = import(&place.ingest, &path).await;
        assert!(done.error.is_some() && done.messages == 0);
    }
    assert!(guilds(&pool).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stopped_import_stores_nothing_more(pool: PgPool) {
    let stop = CancellationToken::new();
    stop.cancel();
    let ingest = Place::new(&pool).ingest;
    let done = import::file(&ingest, &samples()[0], &stop, |_, _| {}).await.unwrap();
    assert_eq!((done.messages, done.error.is_some()), (0, false));
}
