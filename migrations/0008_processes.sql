-- The program's processes, as they tell of themselves every few seconds: an operator sees who is there, and what
-- memory it takes. A row of one that has ended goes after a while.
CREATE TABLE processes (
    name         text        PRIMARY KEY,
    role         text        NOT NULL,
    started_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL DEFAULT now(),
    -- Held now, and at most since the start. Null where the system does not tell.
    memory_bytes bigint,
    peak_bytes   bigint,
    -- Jobs that it holds at once, at most.
    slots        integer     NOT NULL
);
