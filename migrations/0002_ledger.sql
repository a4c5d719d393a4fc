-- The ledger: outbox, status board and dead-letter box in one. A job's row is written in the transaction of
-- the change that causes it.
--
--   pending -> queued -> running -> done
--                ^          |-> pending (again after a backoff, or newer work is wanted)
--                |          |-> dead (permanent error, or attempts spent)
--                '-- lease over: pending again

-- Ordered by urgency: least() and comparisons follow the order of the values.
CREATE TYPE job_queue AS ENUM ('delete', 'live', 'backfill');

-- Whether a job still has work to do. Inlined by the planner, so it matches the partial indexes below.
CREATE FUNCTION is_unfinished(state text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN state IN ('pending', 'queued', 'running');

CREATE TABLE jobs (
    id              uuid        PRIMARY KEY,
    -- Null only for what came out of Redis and is no job.
    guild_id        bigint      CHECK (guild_id IS NOT NULL OR state = 'dead'),
    kind            text        NOT NULL,
    -- Each queue has a Redis queue of its own.
    queue           job_queue   NOT NULL,
    -- Coalescing: at most one unfinished job a dedup_key.
    dedup_key             text,
    payload         jsonb       NOT NULL,
    state           text        NOT NULL DEFAULT 'pending'
                                CHECK (state IN ('pending', 'queued', 'running', 'completed', 'dead')),
    -- The session revision that must be reached; a completion below it puts the job back to pending.
    target_revision bigint      NOT NULL DEFAULT 0,
    -- What was wanted when it was last claimed: a job that fails for good dies only if no more is wanted by then.
    target_revision_at_claim bigint     NOT NULL DEFAULT 0,
    attempts        integer     NOT NULL DEFAULT 0,
    -- Null: never dies.
    max_attempts    integer     CHECK (max_attempts > 0),
    run_at          timestamptz NOT NULL DEFAULT now(),
    -- Of the queue while queued, of the worker while running.
    lease_expires_at     timestamptz,
    claim_token     uuid,
    claimed_by          text,
    -- Attempts that a lease cut off. After the second it may be what kills its worker: it runs alone.
    crash_count          integer     NOT NULL DEFAULT 0,
    error           text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CHECK ((state IN ('queued', 'running')) = (lease_expires_at IS NOT NULL)),
    CHECK ((state = 'running') = (claim_token IS NOT NULL)),
    CHECK ((state IN ('completed', 'dead')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE UNIQUE INDEX jobs_unfinished_key ON jobs (dedup_key) WHERE is_unfinished(state);
-- The dispatcher walks guilds in turn, oldest due job first.
CREATE INDEX jobs_due ON jobs (queue, guild_id, run_at, id) WHERE state = 'pending';
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_queued ON jobs (queue) WHERE state = 'queued';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state = 'completed';
CREATE INDEX jobs_dead ON jobs (guild_id) WHERE state = 'dead';
