-- The truth: guilds, channels, messages, and the sessions that they form.
--
-- Every table that holds a tenant's data begins its key with guild_id: no query reads or deletes without one.

-- Names this database's content. An index remembers from which it was built: revisions of two do not mix.
CREATE TABLE database_identity (
    id        uuid    NOT NULL DEFAULT gen_random_uuid(),
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO database_identity DEFAULT VALUES;

CREATE TABLE guilds (
    id   bigint PRIMARY KEY CHECK (id > 0),
    name text   NOT NULL
);

-- Channels and threads; a thread names its parent channel.
CREATE TABLE channels (
    guild_id    bigint NOT NULL REFERENCES guilds,
    id          bigint NOT NULL CHECK (id > 0),
    name        text   NOT NULL,
    parent_id   bigint,
    PRIMARY KEY (guild_id, id)
);

CREATE TABLE messages (
    guild_id      bigint      NOT NULL,
    channel_id    bigint      NOT NULL,
    id            bigint      NOT NULL CHECK (id > 0),
    author_id     bigint      NOT NULL CHECK (author_id > 0),
    author_name   text        NOT NULL,
    is_bot        boolean     NOT NULL DEFAULT false,
    is_system     boolean     NOT NULL DEFAULT false,
    -- What the program can reckon with; infinity is no time.
    sent_at       timestamptz NOT NULL CHECK (sent_at >= '1970-01-01Z' AND sent_at < '2201-01-01Z'),
    edited_at     timestamptz CHECK (edited_at >= '1970-01-01Z' AND edited_at < '2201-01-01Z'),
    -- Links are those of the message as it was first seen: an edit moves nobody into another session.
    reply_to      bigint,
    mentions      bigint[]    NOT NULL DEFAULT '{}',
    text          text        NOT NULL CHECK (char_length(text) <= 32000),
    words         integer     NOT NULL DEFAULT 0,
    -- Why the message is in no session; null where it is in one, or was not looked at yet.
    excluded_reason          text        CHECK (excluded_reason IN ('system', 'empty', 'bot', 'opted_out')),
    -- The session's first message, which names the session.
    first_message_id bigint      CHECK (first_message_id > 0),
    -- The row of a deleted message stays as its tombstone, without its text.
    deleted_at    timestamptz,
    PRIMARY KEY (guild_id, channel_id, id),
    FOREIGN KEY (guild_id, channel_id) REFERENCES channels (guild_id, id)
);

-- A channel in the order in which it was written: what the sessionizer reads.
CREATE INDEX messages_in_order ON messages (guild_id, channel_id, sent_at, id);
-- A session's messages: what the indexer and the search read.
CREATE INDEX messages_of_session ON messages (guild_id, channel_id, first_message_id);
-- What a backfill still has to put into sessions.
CREATE INDEX messages_unassigned ON messages (guild_id, channel_id, sent_at, id)
    WHERE first_message_id IS NULL AND deleted_at IS NULL AND (excluded_reason IS NULL OR excluded_reason = 'bot');

-- One sequence for all sessions: a revision never comes back, not even when a session is made anew.
CREATE SEQUENCE session_revisions;

CREATE TABLE sessions (
    id               uuid        PRIMARY KEY,
    guild_id         bigint      NOT NULL,
    channel_id       bigint      NOT NULL,
    first_message_id bigint      NOT NULL,
    revision         bigint      NOT NULL,
    -- The last revision that took something away or rewrote it. Points older than this are not shown.
    last_removal_revision bigint      NOT NULL DEFAULT 0,
    -- Counted over live messages that have text.
    message_count    integer     NOT NULL,
    word_count       integer     NOT NULL,
    started_at       timestamptz,
    ended_at         timestamptz,
    -- The row of a session that is no more stays as its tombstone.
    deleted_at       timestamptz,
    UNIQUE (guild_id, channel_id, first_message_id),
    FOREIGN KEY (guild_id, channel_id) REFERENCES channels (guild_id, id)
) WITH (fillfactor = 80);

-- Which sessions are worth a place in the index, under a configuration's numbers.
CREATE FUNCTION is_eligible(messages integer, words integer, min_messages bigint, lone_message_min_words bigint)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN messages > 0 AND (messages >= min_messages OR (messages = 1 AND words >= lone_message_min_words));

-- The embedding models whose collections are kept. Search reads the active one.
CREATE TABLE models (
    slug       text    PRIMARY KEY,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    state      text    NOT NULL CHECK (state IN ('active', 'filling')),
    -- The index that holds its collection, as it names itself.
    index_id   uuid
);
CREATE UNIQUE INDEX one_active_model ON models (state) WHERE state = 'active';

-- Which model's collection holds a session, and in which state.
CREATE TABLE indexed_sessions (
    session_id       uuid    NOT NULL REFERENCES sessions ON DELETE CASCADE,
    model            text    NOT NULL REFERENCES models ON DELETE CASCADE,
    -- The revision that the session's points carry.
    point_revision   bigint  NOT NULL,
    -- The latest revision whose content these points show: ahead of point_revision where a change left the
    -- content as it was.
    indexed_revision bigint  NOT NULL,
    -- Of the enriched text, its template and the model; null while points are being rewritten.
    content_hash     bytea,
    points           integer NOT NULL,
    PRIMARY KEY (session_id, model)
) WITH (fillfactor = 80);
