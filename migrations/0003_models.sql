-- Several models: one that searches read, others that are being filled or are kept for a way back.

ALTER TABLE models DROP CONSTRAINT models_state_check;
-- A retired model's collection is not written any more: what changes is taken out of it. Of one that is being
-- dropped, a worker removes the collection and then this row.
ALTER TABLE models ADD CONSTRAINT models_state_check
    CHECK (state IN ('active', 'filling', 'retired', 'dropping'));

-- The language of a guild's words, for stemming and stop words; null for none, which fits mixed ones.
ALTER TABLE guilds ADD COLUMN language text;
