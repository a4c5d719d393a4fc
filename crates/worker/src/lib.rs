//! Turns jobs into points: handlers and the staged, micro-batched pipeline.
