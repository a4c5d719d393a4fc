//! Fingerprint of a session's points.

use guildex_store::sessions::Session;
use guildex_types::ModelSlug;
use sha2::{Digest, Sha256};

use crate::session_text::SessionText;

/// Version of the text template. Raise it whenever [`SessionText`] changes, so that every session is embedded again.
const TEMPLATE: &str = "2";

/// Hash of the content of a session's points; see [`SessionText::content_hash`].
pub fn content_hash(session: &Session, model: &ModelSlug) -> Vec<u8> {
    SessionText::new(session).content_hash(session, model)
}

impl SessionText {
    /// Hash of everything that the points are made from except names: two states of a session with the same hash need
    /// not be embedded again. `session` is the one that this text was made from.
    pub fn content_hash(&self, session: &Session, model: &ModelSlug) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        add(TEMPLATE);
        add(model.as_str());
        add(&self.header);
        add(session.language.as_deref().unwrap_or_default());
        for message in &session.messages {
            add(&message.id.to_string());
            // The id, not the name: a rename must not index sessions again.
            add(&message.author_id.to_string());
            add(&message.sent_at.timestamp().to_string());
            add(message.text.as_str());
        }
        hash.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use guildex_types::SearchText;

    use super::*;
    use crate::testing::session;

    #[test]
    fn visible_content_except_names_changes_the_hash() {
        let hash = |change: &dyn Fn(&mut Session)| {
            let mut session = session(&["the bed is cold"]);
            change(&mut session);
            content_hash(&session, &"model".parse().unwrap())
        };
        let unchanged = hash(&|_| {});
        assert_eq!(unchanged, hash(&|_| {}));
        assert_ne!(unchanged, hash(&|session| session.channel_name = "other".into()));
        assert_ne!(unchanged, hash(&|session| session.messages[0].author_id = 8.try_into().unwrap()));
        assert_ne!(unchanged, hash(&|session| session.messages[0].text = SearchText::from_parts(["hot"])));
        assert_ne!(unchanged, hash(&|session| session.language = Some("english".into())));
    }

    #[test]
    fn a_rename_keeps_the_hash() {
        let model = "model".parse().unwrap();
        let mut renamed = session(&["the bed is cold"]);
        let before = content_hash(&renamed, &model);
        renamed.messages[0].author_name = "Bo".into();
        assert_eq!(content_hash(&renamed, &model), before);
    }
}
