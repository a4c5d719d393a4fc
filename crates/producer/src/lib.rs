//! Writes the truth: export parser, ingest, sessionizer, dispatcher and backfill planner.
