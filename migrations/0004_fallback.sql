-- Search without the vector index: by the words of messages that stand in sessions.
--
-- 'simple' stems nothing and stops at no word: the languages of a chat are many. Its guild is a word of every
-- message, so that a search stays in one tenant's part of the index; who says another guild's word gains nothing,
-- since rows are checked for their guild as well.
--
-- A message gets its entry when it joins a session, and edits change it; what is in no session has none. Entries
-- wait in the index's pending list and are sorted in by the thousand.
CREATE INDEX messages_words ON messages
    USING gin (to_tsvector('simple', 'guild' || guild_id::text || ' ' || text))
    WHERE session_first IS NOT NULL AND deleted_at IS NULL;
