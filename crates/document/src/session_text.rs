//! Text of a session, for readers and for the model.

use guildex_store::sessions::{Session, SessionMessage};

/// Text of a session, in two forms.
///
/// Readers see a header with the channel and a line for each message with author and time. The model gets the texts
/// only: with names and times in its input, searches found a fifth less (`docs/retrieval.md`).
#[derive(Clone)]
pub struct SessionText {
    pub(crate) header: String,
    /// Each message for the model.
    pub(crate) spoken: Vec<String>,
}

impl SessionText {
    /// Text of a session as it was loaded.
    pub fn new(session: &Session) -> Self {
        Self {
            header: header(session),
            spoken: session.messages.iter().map(|message| spoken(message).to_owned()).collect(),
        }
    }
}

/// Some messages of a session, for readers.
pub(crate) fn excerpt(session: &Session, messages: &[SessionMessage]) -> String {
    let lines = messages.iter().map(line);
    [header(session)].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
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

/// A message without the mentions at its beginning, which only name whom it addresses. A message of mentions alone
/// is kept as it is.
fn spoken(message: &SessionMessage) -> &str {
    let text = message.text.as_str();
    let mut rest = text;
    while rest.starts_with('@') || rest.starts_with("<@") {
        let Some((_, after)) = rest.split_once(char::is_whitespace) else { return text };
        rest = after.trim_start();
    }
    rest
}
