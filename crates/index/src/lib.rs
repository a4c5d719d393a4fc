//! The vector index behind one trait: the embedded engine, BM25 and rank fusion.
