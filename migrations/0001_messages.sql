-- Guilds, channels and messages.
--
-- Every table that holds a tenant's data has guild_id in its key, and no query reads or deletes without one.

-- Identifies this database. A collection records the database that it was built from, because revisions of two
-- databases cannot be compared.
CREATE TABLE database_identity (
    id        uuid    NOT NULL DEFAULT gen_random_uuid(),
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO database_identity DEFAULT VALUES;

CREATE TABLE guilds (
    id       bigint PRIMARY KEY CHECK (id > 0),
    name     text   NOT NULL,
    -- Language for stemming and stop words; null for none, which suits mixed languages.
    language text
);

-- Channels and threads.
CREATE TABLE channels (
    guild_id  bigint NOT NULL REFERENCES guilds,
    id        bigint NOT NULL CHECK (id > 0),
    name      text   NOT NULL,
    -- Channel of a thread.
    parent_id bigint,
    PRIMARY KEY (guild_id, id)
);

-- Names of members and bots. A rename changes one row and stays in its guild.
CREATE TABLE users (
    guild_id     bigint      NOT NULL REFERENCES guilds,
    user_id      bigint      NOT NULL CHECK (user_id > 0),
    -- Account name, display name of the account, and display name in the guild.
    username     text        NOT NULL,
    global_name  text,
    display_name text,
    is_bot       boolean     NOT NULL DEFAULT false,
    -- Time of the message that had these names: an older message does not overwrite them.
    named_at     timestamptz NOT NULL,
    -- Name that is shown.
    name         text        NOT NULL GENERATED ALWAYS AS (coalesce(display_name, global_name, username)) STORED,
    PRIMARY KEY (guild_id, user_id)
) WITH (fillfactor = 80);

-- Messages, partitioned by guild: every query names one guild and reads one partition, whose indexes and vacuum stay
-- of a manageable size.
CREATE TABLE messages (
    guild_id         bigint      NOT NULL,
    channel_id       bigint      NOT NULL,
    id               bigint      NOT NULL CHECK (id > 0),
    author_id        bigint      NOT NULL CHECK (author_id > 0),
    -- Name that a webhook posted under: one webhook posts under many names. Null for members and bots, whose names are
    -- in users.
    webhook_name     text,
    is_bot           boolean     NOT NULL DEFAULT false,
    is_system        boolean     NOT NULL DEFAULT false,
    -- Times that the program can represent; infinity is excluded.
    sent_at          timestamptz NOT NULL CHECK (sent_at >= '1970-01-01Z' AND sent_at < '2201-01-01Z'),
    edited_at        timestamptz CHECK (edited_at >= '1970-01-01Z' AND edited_at < '2201-01-01Z'),
    -- Links as first stored: an edit does not move a message to another session.
    reply_to         bigint,
    mentions         bigint[]    NOT NULL DEFAULT '{}',
    text             text        NOT NULL CHECK (char_length(text) <= 32000),
    words            integer     NOT NULL DEFAULT 0,
    -- Reason why the message is in no session; null if it is in one, or is not assigned yet.
    excluded_reason  text        CHECK (excluded_reason IN ('system', 'empty', 'bot', 'opted_out')),
    -- First message of the session; identifies the session within its channel.
    first_message_id bigint      CHECK (first_message_id > 0),
    -- Set on tombstones: the row of a deleted message remains without its text.
    deleted_at       timestamptz,
    PRIMARY KEY (guild_id, channel_id, id)
) PARTITION BY HASH (guild_id);

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF messages FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       'messages_' || remainder, remainder);
        -- Most messages are written once. With the default scale factors a vacuum would handle millions of rows at once.
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.05,
                                            autovacuum_vacuum_insert_scale_factor = 0.05,
                                            autovacuum_analyze_scale_factor = 0.05)', 'messages_' || remainder);
    END LOOP;
END $$;

-- A channel in order, for the sessionizer.
CREATE INDEX messages_in_order ON messages (guild_id, channel_id, sent_at, id);
-- Messages of a session, for indexing and search.
CREATE INDEX messages_of_session ON messages (guild_id, channel_id, first_message_id);
-- Messages that a backfill has yet to assign to sessions.
CREATE INDEX messages_unassigned ON messages (guild_id, channel_id, sent_at, id)
    WHERE first_message_id IS NULL AND deleted_at IS NULL AND (excluded_reason IS NULL OR excluded_reason = 'bot');
-- Oldest live messages of a channel, for retention. By channel, so that entries of one import page are adjacent: with
-- (guild_id, sent_at) writing a page takes seven times as long.
CREATE INDEX messages_by_age ON messages (guild_id, channel_id, sent_at, id) WHERE deleted_at IS NULL;
-- The full-text index messages_words is created by the program if the search fallback is enabled: writing it costs as
-- much as all other indexes together.

-- Checks that the channel exists. A foreign key would look it up once per message and take half of an import's time;
-- this trigger looks up each channel once per statement.
CREATE FUNCTION messages_check_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM (SELECT DISTINCT guild_id, channel_id FROM inserted) i
    WHERE NOT EXISTS (SELECT FROM channels c WHERE c.guild_id = i.guild_id AND c.id = i.channel_id);
    IF FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = 'message of a channel that is not in channels';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER messages_check_channel AFTER INSERT ON messages
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION messages_check_channel();
