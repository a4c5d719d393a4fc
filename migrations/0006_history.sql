-- What became of the attempts that came to nothing, for whoever asks why a job is dead.

ALTER TABLE jobs
    -- The last attempts that failed, panicked or did not come back, and what an operator did; oldest first:
    -- [{"attempt": 2, "worker": "host/7", "began": time or null, "ended": time, "error": text}]. Success adds
    -- nothing to it.
    ADD COLUMN history jsonb NOT NULL DEFAULT '[]',
    -- When it was last claimed.
    ADD COLUMN claimed_at timestamptz;

-- A history with one more attempt, and without the oldest where it would be longer than 20.
CREATE FUNCTION with_attempt(history jsonb, attempt integer, worker text, began timestamptz, error text)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE history END
           || jsonb_build_object('attempt', attempt, 'worker', worker, 'began', began, 'ended', now(), 'error', error)
$$;
