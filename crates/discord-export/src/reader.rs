//! The entry point: opens a file and feeds its messages to the caller page by page.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{ErrorKind, ExportError};
use crate::page::{Outcome, Page, PageBuilder};
use crate::parser;
use crate::source::{self, Meter};

/// Reads the export at `path`, plain or gzipped, and passes its messages to `on_page`, at most `page_size` at a
/// time (0 counts as 1). A page of unusually long messages holds fewer. A file without messages produces no page.
///
/// `on_page` returns [`ControlFlow::Break`] to stop early.
///
/// # Errors
///
/// If the file cannot be read, is not the export of a guild channel, or is damaged. Messages before the damage have
/// already been passed to `on_page`.
pub fn read_export(
    path: &Path,
    page_size: usize,
    on_page: &mut dyn FnMut(Page) -> ControlFlow<()>,
) -> Result<Outcome, ExportError> {
    let meter = Meter::default();
    let mut pages = PageBuilder::new(page_size, &meter, on_page);
    let parsed = source::open(path, &meter)
        .map_err(ErrorKind::from)
        .and_then(|json| parser::parse(json, &meter, &mut pages));
    let outcome = pages.finish();
    match parsed {
        Ok(()) => Ok(outcome),
        Err(kind) => Err(ExportError { path: path.to_owned(), offset: meter.offset(), kind }),
    }
}
