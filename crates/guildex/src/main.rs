//! The guildex command.
fn main() {}
