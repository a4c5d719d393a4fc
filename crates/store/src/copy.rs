//! Rows in the binary format of Postgres' `COPY`, which is several times as fast as statements.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>. Values are in the types'
//! binary representation.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::StoreError;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// OID of the type `bigint`.
const BIGINT: i32 = 20;
/// Postgres' epoch, 2000-01-01, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Builder of rows with the same columns.
pub(crate) struct Rows {
    columns: i16,
    bytes: Vec<u8>,
}

impl Rows {
    /// Creates an empty builder for rows of `columns` columns.
    pub fn new(columns: i16) -> Self {
        let mut bytes = SIGNATURE.to_vec();
        // No flags, no header extension.
        bytes.extend([0; 8]);
        Self { columns, bytes }
    }

    /// Starts a row. Its values follow in the order of the columns.
    pub fn begin(&mut self) -> &mut Self {
        self.bytes.extend(self.columns.to_be_bytes());
        self
    }

    fn value(&mut self, value: &[u8]) -> &mut Self {
        self.length(value.len());
        self.bytes.extend(value);
        self
    }

    /// Caps lengths beyond Postgres' limits; Postgres rejects the row then.
    fn length(&mut self, length: usize) {
        self.bytes.extend(i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
    }

    fn null(&mut self) -> &mut Self {
        self.bytes.extend((-1_i32).to_be_bytes());
        self
    }

    pub fn bigint(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        match value.into() {
            Some(value) => self.value(&value.to_be_bytes()),
            None => self.null(),
        }
    }

    pub fn integer(&mut self, value: i32) -> &mut Self {
        self.value(&value.to_be_bytes())
    }

    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.value(&[u8::from(value)])
    }

    pub fn text<'a>(&mut self, value: impl Into<Option<&'a str>>) -> &mut Self {
        match value.into() {
            Some(value) => self.value(value.as_bytes()),
            None => self.null(),
        }
    }

    pub fn time(&mut self, value: impl Into<Option<DateTime<Utc>>>) -> &mut Self {
        match value.into() {
            Some(time) => self.value(&time.timestamp_micros().saturating_sub(EPOCH).to_be_bytes()),
            None => self.null(),
        }
    }

    pub fn bigints(&mut self, values: impl ExactSizeIterator<Item = i64>) -> &mut Self {
        let count = values.len();
        // Number of dimensions, null flag, element type; per dimension its length and lower bound.
        self.length(if count == 0 { 12 } else { 20 + 12 * count });
        for number in [i32::from(count > 0), 0, BIGINT] {
            self.bytes.extend(number.to_be_bytes());
        }
        if count > 0 {
            self.length(count);
            self.bytes.extend(1_i32.to_be_bytes());
        }
        for value in values {
            self.value(&value.to_be_bytes());
        }
        self
    }

    /// Sends the rows to a `COPY .. FROM STDIN (FORMAT BINARY)` statement.
    pub async fn copy(mut self, db: &mut PgConnection, statement: &str) -> Result<(), StoreError> {
        self.bytes.extend((-1_i16).to_be_bytes());
        let mut copy = db.copy_in_raw(statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}
