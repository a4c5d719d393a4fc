#![doc = include_str!("../README.md")]

mod cleanup;
mod config;
mod consumer;
mod delivery;
mod error;
mod health;
mod lost;
mod publisher;
mod queues;
mod reconnect;
#[cfg(feature = "testing")]
pub mod testing;

pub use cleanup::Trimmed;
pub use config::Config;
pub use consumer::Consumer;
pub use delivery::Delivery;
pub use error::QueueError;
pub use health::Checkup;
pub use publisher::WINDOW;
pub use queues::Queues;
