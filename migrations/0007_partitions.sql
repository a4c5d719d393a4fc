-- Messages in partitions, so that each stays of a size that its indexes and its vacuum cope with.
--
-- By guild: every query names one, and so reads one partition. All in one transaction: an interrupted migration has
-- changed nothing. Meanwhile both copies need room on the disk.

CREATE TABLE partitioned (LIKE messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)
    PARTITION BY HASH (guild_id);

DO $$
BEGIN
    FOR part IN 0..15 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF partitioned FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       'messages_' || part, part);
        -- Most messages are written once. A twentieth of new ones, or of changed ones, is work enough for a vacuum:
        -- a fifth, as Postgres has it, would be millions at once.
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.05,
                                            autovacuum_vacuum_insert_scale_factor = 0.05,
                                            autovacuum_analyze_scale_factor = 0.05)', 'messages_' || part);
    END LOOP;
END $$;

-- In the order in which channels are read.
INSERT INTO partitioned SELECT * FROM messages ORDER BY guild_id, channel_id, sent_at, id;
DROP TABLE messages;
ALTER TABLE partitioned RENAME TO messages;

ALTER TABLE messages ADD PRIMARY KEY (guild_id, channel_id, id);
-- A channel in the order in which it was written: what the sessionizer reads.
CREATE INDEX messages_in_order ON messages (guild_id, channel_id, sent_at, id);
-- A session's messages: what the indexer and the search read.
CREATE INDEX messages_of_session ON messages (guild_id, channel_id, first_message_id);
-- What a backfill still has to put into sessions.
CREATE INDEX messages_unassigned ON messages (guild_id, channel_id, sent_at, id)
    WHERE first_message_id IS NULL AND deleted_at IS NULL AND (excluded_reason IS NULL OR excluded_reason = 'bot');
-- A channel's oldest live messages: what retention looks for. By channel, and not by guild and time alone, so that a
-- page's entries stand side by side: that costs a seventh of the time.
CREATE INDEX messages_by_age ON messages (guild_id, channel_id, sent_at, id) WHERE deleted_at IS NULL;
-- The index of the words is made where search falls back on it, by the program: it costs as much to write as
-- everything else here together.

-- A message's channel is known. A foreign key would look it up for each of a page's messages, and that would take half
-- of the time of an import; they all name one channel.
CREATE FUNCTION messages_have_a_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM (SELECT DISTINCT guild_id, channel_id FROM fresh) named
    WHERE NOT EXISTS (SELECT FROM channels WHERE channels.guild_id = named.guild_id AND channels.id = named.channel_id);
    IF FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = 'a message of a channel that is not in channels';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER messages_have_a_channel AFTER INSERT ON messages
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION messages_have_a_channel();

-- A ledger that is drained by thousands of jobs a second leaves as many dead rows: vacuum comes after a fiftieth, as
-- before, and does not rest while it is at it.
ALTER TABLE jobs SET (autovacuum_vacuum_cost_delay = 0);
-- Every change of a session and every record of the index rewrites a row.
ALTER TABLE sessions SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE indexed_sessions SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
