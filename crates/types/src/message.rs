//! A message as a source (an export file, the gateway) hands it over.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::id::{ChannelId, GuildId, MessageId, UserId};

/// One message of one channel or thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The tenant.
    pub guild_id: GuildId,
    /// The channel or thread that it stands in.
    pub channel_id: ChannelId,
    /// Its snowflake.
    pub id: MessageId,
    /// Who wrote it.
    pub author: Author,
    /// Whether it is conversation at all.
    pub kind: MessageKind,
    /// When it was sent. Together with the id this orders a channel.
    pub sent_at: DateTime<Utc>,
    /// When it was last edited; the newest edit of a message wins, whatever order they arrive in.
    pub edited_at: Option<DateTime<Utc>>,
    /// What it points at.
    pub links: Links,
    /// What can be found of it.
    pub text: SearchText,
}

impl Message {
    /// Why this message takes no part in sessions, or `None` if it does.
    ///
    /// `include_bots` is the configuration's word on bots and webhooks.
    pub fn skip(&self, include_bots: bool) -> Option<Skip> {
        if self.kind == MessageKind::System {
            Some(Skip::System)
        } else if self.text.is_empty() {
            Some(Skip::Empty)
        } else if self.author.is_bot && !include_bots {
            Some(Skip::Bot)
        } else {
            None
        }
    }
}

/// The writer of a message, by the name that they bore in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The member's, bot's or webhook's id.
    pub id: UserId,
    /// The display name: the nickname where there is one.
    pub name: String,
    /// Bots and webhooks; left out of sessions unless configured otherwise.
    pub is_bot: bool,
}

/// Links from a message to others, as they were when it was first seen: an edit does not change them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The message that this one answers.
    pub reply_to: Option<MessageId>,
    /// The members that it mentions, in the order given, each once.
    pub mentions: Vec<UserId>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Somebody said something: ordinary messages, replies, command calls.
    Conversation,
    /// Discord says that something happened: a join, a pin, a boost, a call.
    System,
}

/// Why a stored message takes no part in sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// It is Discord's own.
    System,
    /// It has no text, file name, title or sticker to be found by.
    Empty,
    /// Its author is a bot, and bots are left out.
    Bot,
    /// Its author opted out, and another program stored it.
    OptedOut,
}

impl Skip {
    /// The name that Postgres stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Empty => "empty",
            Self::Bot => "bot",
            Self::OptedOut => "opted_out",
        }
    }
}

/// The searchable text of a message: its content and the names of what hangs on it, one part a line.
///
/// Holds no NUL (Postgres stores none), no other control characters than newline and tab, and no blank ends.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SearchText(String);

impl SearchText {
    /// What Postgres keeps of one message at most, in characters; Discord's own limits come to less.
    pub const MAX_CHARS: usize = 32_000;

    /// Joins the non-blank `parts`, cleaned, with newlines.
    pub fn from_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for part in parts {
            let start = text.len();
            if start > 0 {
                text.push('\n');
            }
            // Blanks may come to stand at an end when what stood there is gone.
            let is_dropped = |c: char| c.is_whitespace() || c.is_control();
            let body = text.len();
            let part = part.trim_matches(is_dropped);
            text.extend(part.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
            if text.len() == body {
                text.truncate(start);
            }
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Words by Unicode's segmentation (UAX 29), so that Chinese and Thai count too.
    pub fn words(&self) -> usize {
        self.0.unicode_words().count()
    }
}

/// Content is private: a debug print shows its length alone.
impl std::fmt::Debug for SearchText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SearchText({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cleaned_and_blank_ones_left_out() {
        let text = SearchText::from_parts(["  hi\u{0} there\u{7}\r\n", "", " \t", "cat.png"]);
        assert_eq!(text.as_str(), "hi there\ncat.png");
        assert!(SearchText::from_parts(["\u{1}", " "]).is_empty());
        assert_eq!(SearchText::from_parts(["\u{1} x \u{7f}\n"]).as_str(), "x");
    }

    #[test]
    fn words_are_counted_in_any_script() {
        assert_eq!(SearchText::from_parts(["it's a fine day"]).words(), 4);
        assert_eq!(SearchText::from_parts(["你好世界"]).words(), 4);
        assert_eq!(SearchText::from_parts(["🎉 !!"]).words(), 0);
    }

    #[test]
    fn a_debug_print_does_not_show_the_text() {
        let text = SearchText::from_parts(["my secret"]);
        assert!(!format!("{text:?}").contains("secret"));
    }
}
