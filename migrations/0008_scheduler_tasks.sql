-- Last outcome of each periodic task of the scheduler, shown by `guildex status`.
CREATE TABLE scheduler_tasks (
    name         text        PRIMARY KEY,
    -- Process that ran it last.
    process      text        NOT NULL,
    started_at   timestamptz NOT NULL,
    duration_ms  bigint      NOT NULL,
    -- Start of the last successful run, and the error of the last run if it failed.
    succeeded_at timestamptz,
    error        text
);
