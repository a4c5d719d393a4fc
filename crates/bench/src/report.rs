//! Report of a benchmark as a table or JSON.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::measure::Machine;

/// Figures of a benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the benchmark.
    pub bench: &'static str,
    /// Description of the measurement.
    pub about: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    machine: Machine,
}

impl Report {
    /// Creates an empty report of this machine. Column names contain units, such as `"jobs/s"`.
    pub fn new(bench: &'static str, about: String, columns: &[&'static str]) -> Self {
        Self { bench, about, columns: columns.into(), rows: Vec::new(), machine: Machine::of_process() }
    }

    /// Adds a row with a value for each column; `null` if there is none.
    pub fn row<const N: usize>(&mut self, cells: [Value; N]) {
        self.rows.push(cells.into());
    }
}

/// Rounds a figure to this number of decimals.
pub fn round(figure: f64, decimals: i32) -> Value {
    let unit = 10_f64.powi(decimals);
    let rounded = (figure * unit).round() / unit;
    if decimals == 0 && rounded.abs() < 9e15 { Value::from(rounded as i64) } else { Value::from(rounded) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.iter().map(cell_text));
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            if self.rows.iter().any(|row| row.get(place).is_some_and(Value::is_number)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{}: {}", self.bench, self.about)?;
        writeln!(f, "{}\n", self.machine)?;
        writeln!(f, "{}", table.trim_fmt())
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row_object = |row: &Vec<Value>| {
            let cells =
                self.columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.clone()));
            Value::Object(cells.collect())
        };
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("bench", self.bench)?;
        map.serialize_entry("about", &self.about)?;
        map.serialize_entry("machine", &self.machine)?;
        map.serialize_entry("rows", &self.rows.iter().map(row_object).collect::<Vec<_>>())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_and_json_have_the_same_figures() {
        let mut report = Report::new("queue", "10 jobs".to_owned(), &["run", "jobs/s"]);
        report.row([json!("1"), round(1234.56, 0)]);
        report.row([json!("median"), Value::Null]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"], json!([{"run": "1", "jobs/s": 1235}, {"run": "median", "jobs/s": null}]));
        let text = report.to_string();
        let table: Vec<&str> = text.lines().skip(3).map(str::trim_end).collect();
        assert_eq!(table, [" run     jobs/s", " 1         1235", " median       -"]);
    }

    #[test]
    fn figures_are_rounded() {
        assert_eq!(round(2.345_6, 2), json!(2.35));
        assert_eq!(round(99.5, 0), json!(100));
    }
}
