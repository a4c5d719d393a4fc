#![doc = include_str!("../README.md")]

pub mod backup;
pub mod heartbeat;
mod manifest;
pub mod ownership;
pub mod restore;
pub mod verify;
