-- What became of the attempts that came to nothing, for whoever asks why a job is dead.

ALTER TABLE jobs
    -- The last attempts that failed, panicked or did not come back, and what an operator did; oldest first:
    -- [{"attempt": 2, "claimed_by": "host/7", "claimed_at": time or null, "ended_at": time, "error": text}]. Success adds
    -- nothing to it.
    ADD COLUMN attempts_log jsonb NOT NULL DEFAULT '[]',
    -- When it was last claimed.
    ADD COLUMN claimed_at timestamptz;

-- Appends an attempt to a log of at most 20 entries and drops the oldest one where there is no room.
CREATE FUNCTION append_attempt(attempts_log jsonb, attempt integer, claimed_by text, claimed_at timestamptz, error text)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN jsonb_array_length(attempts_log) >= 20 THEN attempts_log - 0 ELSE attempts_log END
           || jsonb_build_object('attempt', attempt, 'claimed_by', claimed_by, 'claimed_at', claimed_at, 'ended_at', now(), 'error', error)
$$;
