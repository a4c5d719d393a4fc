#![doc = include_str!("../README.md")]

#[cfg(feature = "retrieval")]
pub mod retrieval;
pub mod sessions;
