//! The one place that knows apalis-redis: push, consume and keep a bounded Redis queue a job class.
