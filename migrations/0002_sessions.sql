-- Sessions of messages.

-- One sequence for all sessions: a revision is never reused, not even for a session that is created again.
CREATE SEQUENCE session_revisions;

CREATE TABLE sessions (
    id                    uuid        PRIMARY KEY,
    guild_id              bigint      NOT NULL,
    channel_id            bigint      NOT NULL,
    first_message_id      bigint      NOT NULL,
    revision              bigint      NOT NULL,
    -- Last revision that removed or rewrote content. Points of earlier revisions are not shown.
    last_removal_revision bigint      NOT NULL DEFAULT 0,
    -- Counts and times of live messages that have text.
    message_count         integer     NOT NULL,
    word_count            integer     NOT NULL,
    started_at            timestamptz,
    ended_at              timestamptz,
    -- Set on tombstones: the row of a session without live messages remains.
    deleted_at            timestamptz,
    UNIQUE (guild_id, channel_id, first_message_id),
    FOREIGN KEY (guild_id, channel_id) REFERENCES channels (guild_id, id)
-- Every change of a session updates its row.
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Returns whether a session is indexed, under the limits of a configuration.
CREATE FUNCTION is_eligible(messages integer, words integer, min_messages bigint, lone_message_min_words bigint)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN messages > 0 AND (messages >= min_messages OR (messages = 1 AND words >= lone_message_min_words));
