-- Running processes, which update their row every few seconds. Rows of processes that ended are deleted after a while.
CREATE TABLE processes (
    name         text        PRIMARY KEY,
    role         text        NOT NULL,
    started_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL DEFAULT now(),
    -- Resident memory now, and its maximum since the start; null if the system does not report it.
    memory_bytes bigint,
    peak_bytes   bigint,
    -- Maximum number of jobs that it runs at once.
    slots        integer     NOT NULL
);
