-- Rebuilds a table. The lock keeps writers out from before the copy until the commit, so no write is lost.
LOCK TABLE ingest_cutoffs IN SHARE ROW EXCLUSIVE MODE;
CREATE TABLE copied (LIKE ingest_cutoffs INCLUDING ALL);
INSERT INTO copied SELECT * FROM ingest_cutoffs;
DROP TABLE ingest_cutoffs;
ALTER TABLE copied RENAME TO ingest_cutoffs;
