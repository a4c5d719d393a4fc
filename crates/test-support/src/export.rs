//! DiscordChatExporter documents as JSON, for tests that read them.

use serde_json::{Value, json};

/// Returns an export of a channel with `messages`.
pub fn export_document(messages: &[Value]) -> Value {
    json!({
        "guild": {"id": "7", "name": "Makers", "iconUrl": null},
        "channel": {
            "id": "9", "type": "GuildTextChat", "categoryId": "5", "category": "Making", "name": "help", "topic": null
        },
        "dateRange": {"after": null, "before": null},
        "exportedAt": "2025-01-01T00:00:00+00:00",
        "messages": messages,
        "messageCount": messages.len(),
    })
}

/// Returns a message with a value in every kind of field.
pub fn export_message(id: i64) -> Value {
    json!({
        "id": id.to_string(), "type": "Reply", "timestamp": "2024-05-01T10:00:00.123+00:00",
        "timestampEdited": "2024-05-02T10:00:00+00:00", "isPinned": false, "content": "how do I sharpen it?",
        "author": {"id": "3", "name": "ann", "discriminator": "0000", "nickname": "Ann", "isBot": false, "roles": []},
        "attachments": [{"id": "1", "url": "x", "fileName": "saw.png", "fileSizeBytes": 7}],
        "embeds": [{"title": "Saws", "fields": []}], "stickers": [{"id": "1", "name": "wave"}], "reactions": [],
        "mentions": [{"id": "4", "name": "bo"}], "reference": {"messageId": "1", "channelId": "9", "guildId": "7"},
    })
}

/// Serializes an export with `guild` and `channel` before `messages`, as the exporter does.
pub fn export_json(document: &Value) -> String {
    let mut fields: Vec<(&String, &Value)> = document.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| (*name == "messages", *name == "messageCount"));
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}
