-- Receipts of erasures. They hold ids and counts, and no content.
CREATE TABLE erasures (
    id           uuid        PRIMARY KEY,
    guild_id     bigint      NOT NULL CHECK (guild_id > 0),
    scope        text        NOT NULL CHECK (scope IN ('guild', 'channel', 'member', 'messages')),
    -- Ids of the messages, the member or the channel; empty for a guild.
    targets      bigint[]    NOT NULL,
    -- Counted in the erasing transaction.
    messages     bigint      NOT NULL,
    sessions     bigint      NOT NULL,
    points       bigint      NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    -- Time when the last of its jobs finished; null until then.
    completed_at timestamptz
);
CREATE INDEX erasures_open ON erasures (id) WHERE completed_at IS NULL;

-- Jobs that an open erasure waits for.
CREATE TABLE erasure_jobs (
    erasure_id uuid NOT NULL REFERENCES erasures ON DELETE CASCADE,
    job_id     uuid NOT NULL,
    PRIMARY KEY (erasure_id, job_id)
);
