//! Live traffic: stores conversations as a bot would, and repeats each until it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use guildex_producer::Ingest;
use guildex_store::channels::Channel;
use guildex_types::{Author, JobQueue, Links, Message, MessageId, MessageKind, SearchText};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::export::{CHANNEL, GUILD, minute, snowflake};
use crate::world::{World, wait_until};

/// Interval between conversations, and between retries while the database is unavailable.
const PAUSE: Duration = Duration::from_millis(100);

pub fn channel() -> Channel {
    Channel {
        guild_id: GUILD.try_into().unwrap(),
        guild_name: "Test".to_owned(),
        id: CHANNEL.try_into().unwrap(),
        name: "help".to_owned(),
        parent_id: None,
    }
}

/// Ids of a conversation's two messages. Conversations are days apart.
pub fn ids(number: i64) -> [MessageId; 2] {
    [1, 2].map(|place| snowflake(minute(number * 24 * 60 + place), place).try_into().unwrap())
}

/// A question, and an answer to it: a session.
pub fn conversation(number: i64, question: &str) -> [Message; 2] {
    let [first, second] = ids(number);
    let say = |id: MessageId, place: i64, text: &str| Message {
        guild_id: GUILD.try_into().unwrap(),
        channel_id: CHANNEL.try_into().unwrap(),
        id,
        author: Author::member((900 + place).try_into().unwrap(), format!("member{place}")),
        kind: MessageKind::Conversation,
        sent_at: minute(number * 24 * 60 + place),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text]),
    };
    let links = Links { reply_to: Some(first), ..Links::default() };
    [say(first, 1, question), Message { links, ..say(second, 2, "I think so, but better try it first") }]
}

/// Stores conversations until it is stopped.
pub struct Feed {
    stored: Arc<AtomicI64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Feed {
    pub fn start(world: &World) -> Self {
        let (stored, stop) = (Arc::new(AtomicI64::new(0)), CancellationToken::new());
        let task = tokio::spawn(run(world.ingest(), stored.clone(), stop.clone()));
        Self { stored, stop, task }
    }

    /// Number of stored conversations.
    pub fn stored(&self) -> i64 {
        self.stored.load(Ordering::SeqCst)
    }

    /// Waits until that many more are stored.
    pub async fn until_stored(&self, more: i64) {
        let enough = self.stored() + more;
        wait_until("the bot stores messages", || async { self.stored() >= enough }).await;
    }

    /// Stops, and returns the number of stored conversations.
    pub async fn stop(self) -> i64 {
        self.stop.cancel();
        self.task.await.unwrap();
        self.stored.load(Ordering::SeqCst)
    }
}

async fn run(ingest: Ingest, stored: Arc<AtomicI64>, stop: CancellationToken) {
    for number in 1.. {
        let said = conversation(number, &format!("does glue number {number} hold on wood"));
        while ingest.messages(&channel(), &said, JobQueue::Live).await.is_err() {
            sleep(PAUSE).await;
        }
        stored.store(number, Ordering::SeqCst);
        if stop.run_until_cancelled(sleep(PAUSE)).await.is_none() {
            return;
        }
    }
}
