-- The job queue: transactional outbox, status board and dead-letter queue in one table. A job is inserted in the
-- transaction of the change that causes it.
--
--   pending -> queued -> running -> completed
--                ^          |-> pending (retry after a delay, or the target revision has risen)
--                |          |-> dead (permanent error, or attempts spent)
--                '-- lease expired: pending

-- Ordered by urgency: least() and comparisons follow the order of the values.
CREATE TYPE job_queue AS ENUM ('delete', 'live', 'backfill');

-- Returns whether a job still has work to do. The planner inlines it, so queries match the partial indexes below.
CREATE FUNCTION is_unfinished(state text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN state IN ('pending', 'queued', 'running');

CREATE TABLE jobs (
    id                       uuid        PRIMARY KEY,
    -- Null only for Redis payloads that are not job ids.
    guild_id                 bigint      CHECK (guild_id IS NOT NULL OR state = 'dead'),
    kind                     text        NOT NULL,
    queue                    job_queue   NOT NULL,
    -- At most one unfinished job exists per key; null for jobs that are never coalesced.
    dedup_key                text,
    payload                  jsonb       NOT NULL,
    state                    text        NOT NULL DEFAULT 'pending'
                                         CHECK (state IN ('pending', 'queued', 'running', 'completed', 'dead')),
    -- Session revision to reach: a job that completes below it becomes pending again.
    target_revision          bigint      NOT NULL DEFAULT 0,
    -- Target at the last claim: a job dies only if its target has not risen since.
    target_revision_at_claim bigint      NOT NULL DEFAULT 0,
    attempts                 integer     NOT NULL DEFAULT 0,
    -- Null: retries forever.
    max_attempts             integer     CHECK (max_attempts > 0),
    run_at                   timestamptz NOT NULL DEFAULT now(),
    -- While queued, the time until which Redis may hold it; while running, the end of the worker's lease.
    lease_expires_at         timestamptz,
    claim_token              uuid,
    claimed_by               text,
    claimed_at               timestamptz,
    -- Attempts that ended with an expired lease or a crash. From the second on the job runs in isolation.
    crash_count              integer     NOT NULL DEFAULT 0,
    error                    text,
    -- Failed attempts and administrative actions, oldest first, as append_attempt writes them.
    attempts_log             jsonb       NOT NULL DEFAULT '[]',
    created_at               timestamptz NOT NULL DEFAULT now(),
    finished_at              timestamptz,
    CHECK ((state IN ('queued', 'running')) = (lease_expires_at IS NOT NULL)),
    CHECK ((state = 'running') = (claim_token IS NOT NULL)),
    CHECK ((state IN ('completed', 'dead')) = (finished_at IS NOT NULL))
-- Thousands of jobs a second leave as many dead rows: vacuum starts early and does not pause.
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

CREATE UNIQUE INDEX jobs_unfinished_key ON jobs (dedup_key) WHERE is_unfinished(state);
-- Dispatch visits guilds in turn and takes the oldest due job of each.
CREATE INDEX jobs_due ON jobs (queue, guild_id, run_at, id) WHERE state = 'pending';
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_queued ON jobs (queue) WHERE state = 'queued';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state = 'completed';
CREATE INDEX jobs_dead ON jobs (guild_id) WHERE state = 'dead';

-- Appends an attempt to a log of at most 20 entries and drops the oldest one if it is full.
CREATE FUNCTION append_attempt(attempts_log jsonb, attempt integer, claimed_by text, claimed_at timestamptz, error text)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN jsonb_array_length(attempts_log) >= 20 THEN attempts_log - 0 ELSE attempts_log END
           || jsonb_build_object('attempt', attempt, 'claimed_by', claimed_by, 'claimed_at', claimed_at,
                                 'ended_at', now(), 'error', error)
$$;
