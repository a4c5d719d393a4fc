//! Turns texts into vectors locally: tokenising, chunking and batching by token budget.
