//! The engine trusts that it is alone in its folder and does not check: this does.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::Error;

/// Takes the folder for this process. It is given back when the file is dropped, or by the system when the
/// process ends, however it ends.
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let io = |source| Error::Io { path: path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            sign(&mut file).map_err(io)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned(), holder: holder(&mut file) }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    match file.read_to_string(&mut pid) {
        Ok(1..) => pid,
        // It has the lock and has not signed yet.
        _ => "unknown".to_owned(),
    }
}
