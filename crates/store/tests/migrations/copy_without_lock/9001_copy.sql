-- Rebuilds a table without a lock: writes between the copy and the drop are lost.
CREATE TABLE copied (LIKE ingest_cutoffs INCLUDING ALL);
INSERT INTO copied SELECT * FROM ingest_cutoffs;
-- Waits until writers have inserted more rows, so that the loss is certain.
DO $$
BEGIN
    WHILE (SELECT count(*) FROM ingest_cutoffs) < (SELECT count(*) + 10 FROM copied) LOOP
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
DROP TABLE ingest_cutoffs;
ALTER TABLE copied RENAME TO ingest_cutoffs;
