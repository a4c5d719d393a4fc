-- Forgetting: what may not be stored again, and receipts of what was erased.

-- Messages that were deleted before they were seen. Those that are stored become tombstones in their own rows. No
-- foreign key, and no channel: nothing has to be known of the guild, and a message's id is unique in it.
CREATE TABLE tombstones (
    guild_id   bigint NOT NULL CHECK (guild_id > 0),
    message_id bigint NOT NULL CHECK (message_id > 0),
    PRIMARY KEY (guild_id, message_id)
);

-- Whose past was forgotten: what was sent at that time or before is not stored again. A channel's holds for its
-- threads; the target of a guild's is the guild.
CREATE TABLE ingest_cutoffs (
    guild_id  bigint      NOT NULL CHECK (guild_id > 0),
    scope     text        NOT NULL CHECK (scope IN ('guild', 'channel', 'member')),
    target_id bigint      NOT NULL CHECK (target_id > 0),
    sent_before     timestamptz NOT NULL,
    PRIMARY KEY (guild_id, scope, target_id)
);

-- Members and channels (with their threads) of which nothing is stored, beside those of the configuration.
CREATE TABLE opt_outs (
    guild_id  bigint      NOT NULL CHECK (guild_id > 0),
    scope     text        NOT NULL CHECK (scope IN ('channel', 'member')),
    target_id bigint      NOT NULL CHECK (target_id > 0),
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guild_id, scope, target_id)
);

-- Receipts: what was forgotten, by ids and numbers. No content.
CREATE TABLE erasures (
    id           uuid        PRIMARY KEY,
    guild_id     bigint      NOT NULL CHECK (guild_id > 0),
    scope        text        NOT NULL CHECK (scope IN ('guild', 'channel', 'member', 'messages')),
    -- Of the messages, the member or the channel; none for a guild.
    targets      bigint[]    NOT NULL,
    -- Counted in the books and rows as they were then.
    messages     bigint      NOT NULL,
    sessions     bigint      NOT NULL,
    points       bigint      NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    -- When the last of its jobs was finished; null until then.
    completed_at timestamptz
);
CREATE INDEX erasures_open ON erasures (id) WHERE completed_at IS NULL;

-- The jobs that an open erasure waits for.
CREATE TABLE erasure_jobs (
    erasure_id uuid NOT NULL REFERENCES erasures ON DELETE CASCADE,
    job_id     uuid NOT NULL,
    PRIMARY KEY (erasure_id, job_id)
);

-- A guild's oldest live messages: what retention looks for.
CREATE INDEX messages_by_age ON messages (guild_id, sent_at) WHERE deleted_at IS NULL;
