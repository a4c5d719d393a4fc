//! The file in a collection's folder that says whose it is.

use std::fs;
use std::io;
use std::path::Path;

use super::files::write_whole;
use crate::{Error, Identity};

const FILE: &str = "identity.json";

/// Whose the collection in a folder is, if anybody said.
pub(super) fn read(folder: &Path) -> Result<Option<Identity>, Error> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        // What cannot be read was not written by `write`, which leaves nothing half done.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path, source }),
    }
}

pub(super) fn write(folder: &Path, identity: Identity) -> Result<(), Error> {
    let text = serde_json::to_vec(&identity).map_err(|error| Error::Engine(error.to_string()))?;
    write_whole(&folder.join(FILE), &text)
}

/// Whether this is the path of the file within a collection's folder, or what a crash left of writing it.
pub(super) fn is_at(path: &Path) -> bool {
    path.with_extension("json") == Path::new(FILE)
}
