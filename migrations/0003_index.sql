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
    -- Ids of the session's points, one per chunk, in order.
    point_ids        uuid[]  NOT NULL CHECK (cardinality(point_ids) > 0),
    points           integer NOT NULL GENERATED ALWAYS AS (cardinality(point_ids)) STORED,
    -- Point of the first chunk.
    qdrant_point_id  uuid    NOT NULL GENERATED ALWAYS AS (point_ids[1]) STORED,
    PRIMARY KEY (session_id, model)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Session and points of each live message, in the collection that searches read. Without points, model and its columns
-- are null: the session is not indexed yet, not eligible, or hidden until it is indexed again after a removal.
CREATE VIEW message_sessions AS
SELECT m.guild_id, m.channel_id, m.id AS message_id, s.id AS session_id, s.first_message_id, s.revision,
       i.model, i.indexed_revision, i.qdrant_point_id, i.point_ids
FROM messages m
JOIN sessions s ON s.guild_id = m.guild_id AND s.channel_id = m.channel_id
     AND s.first_message_id = m.first_message_id AND s.deleted_at IS NULL
LEFT JOIN models a ON a.state = 'active'
LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = a.slug
     AND i.indexed_revision >= s.last_removal_revision
WHERE m.deleted_at IS NULL;
