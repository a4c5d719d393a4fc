//! Answers a query: embeds it, asks the index, and joins the hits with the truth.
