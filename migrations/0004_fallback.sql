-- Search without the vector index: by the words of messages that stand in sessions.
--
-- 'simple' stems nothing and stops at no word: the languages of a chat are many. The guild stands among the words of
-- each message, so that a search stays in its tenant's part of the index; with a blank in it, it is a word that nobody
-- can say or ask for.
--
-- A message gets its entry when it joins a session, and another when it is edited; what is in no session has none.
-- New entries wait in the index's pending list and are sorted in together.
CREATE INDEX messages_words ON messages
    USING gin ((to_tsvector('simple', text) || array_to_tsvector(ARRAY['guild ' || guild_id::text])))
    WHERE first_message_id IS NOT NULL AND deleted_at IS NULL;
