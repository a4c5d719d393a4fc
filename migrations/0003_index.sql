-- Models, and the sessions that their collections hold.

-- Embedding models, each with a collection. Searches read the active one. A filling collection is kept up to date and
-- not searched yet. From a retired one, changed sessions are removed. A worker deletes the collection of a dropping
-- model, then its row.
CREATE TABLE models (
    slug       text    PRIMARY KEY,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    state      text    NOT NULL CHECK (state IN ('active', 'filling', 'retired', 'dropping')),
    -- Identity of the index that holds the collection.
    index_id   uuid
);
CREATE UNIQUE INDEX one_active_model ON models (state) WHERE state = 'active';

-- Sessions in each model's collection.
CREATE TABLE indexed_sessions (
    session_id       uuid    NOT NULL REFERENCES sessions ON DELETE CASCADE,
    model            text    NOT NULL REFERENCES models ON DELETE CASCADE,
    -- Revision in the payload of the session's points.
    point_revision   bigint  NOT NULL,
    -- Latest revision whose content the points show: above point_revision if later changes left the content as it was.
    indexed_revision bigint  NOT NULL,
    -- Hash of the content, the template and the model; null while points are being rewritten.
    content_hash     bytea,
    points           integer NOT NULL,
    PRIMARY KEY (session_id, model)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
