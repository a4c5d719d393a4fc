//! The configuration in force, for the operator.

use std::fmt::Write;

use toml::{Table, Value};

use super::Loaded;
use super::error::Origin;
use super::keys::{join, table_of};

impl Loaded {
    /// The configuration as TOML, each value that is no default with a comment that tells where it came from.
    /// Secrets are hidden, so what is printed may be shown to others.
    pub fn to_toml(&self) -> String {
        let mut out = String::from("# The configuration in force. Values without a comment are defaults.\n");
        self.write_section("", &table_of(&self.config), &mut out);
        out
    }

    fn write_section(&self, section: &str, table: &Table, out: &mut String) {
        if !section.is_empty() {
            let _ = writeln!(out, "\n[{section}]");
        }
        // TOML wants a section's values before the sections inside it; the schema has them in this order.
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
