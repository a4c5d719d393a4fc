//! Prints the effective configuration.

use std::fmt::Write;

use toml::{Table, Value};

use super::Loaded;
use super::error::Origin;
use super::keys::{join, table_of};

impl Loaded {
    /// Formats the configuration as TOML, with the origin of each value that is not a default as a comment. Secrets are
    /// hidden.
    pub fn to_toml(&self) -> String {
        let mut out = String::from("# The effective configuration. Values without a comment are defaults.\n");
        self.write_section("", &table_of(&self.config), &mut out);
        out
    }

    fn write_section(&self, section: &str, table: &Table, out: &mut String) {
        if !section.is_empty() {
            let _ = writeln!(out, "\n[{section}]");
        }
        // TOML requires the values of a section before its subsections; the schema has this order.
        for (name, value) in table {
            let key = join(section, name);
            match (value, self.origin(&key)) {
                (Value::Table(inner), _) if inner.is_empty() => {}
                (Value::Table(inner), _) => self.write_section(&key, inner, out),
                (value, Origin::Default) => {
                    let _ = writeln!(out, "{name} = {value}");
                }
                (value, origin) => {
                    let _ = writeln!(out, "{name} = {value} # {origin}");
                }
            }
        }
    }
}
