//! Copies of collections that are whole or refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::files::write_whole;
use super::identity;
use crate::Error;

/// The file of a snapshot that says what belongs to it. Written last: a copy that was cut short has none.
const MANIFEST: &str = "snapshot.json";

/// How snapshots are laid out.
const LAYOUT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Manifest {
    layout: u32,
    files: BTreeMap<PathBuf, Contents>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Contents {
    bytes: u64,
    /// Of the file's blocks that are not all zeros, each behind its place.
    sha256: String,
}

/// Copies a collection's folder, in which nothing changes meanwhile, into an empty one. Whose the collection is
/// stays behind: a copy is another collection. The engine writes into its files in place, so links will not do.
pub(super) fn write(collection: &Path, into: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: into.to_owned(), source };
    if into.read_dir().map_err(io)?.next().is_some() {
        return Err(io(io::ErrorKind::DirectoryNotEmpty.into()));
    }
    let files = copy(collection, into, |path| !identity::is_at(path))?;
    sync(into)?;
    let manifest = Manifest { layout: LAYOUT, files };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::Engine(error.to_string()))?;
    write_whole(&into.join(MANIFEST), &text)
}

/// Copies a snapshot into a new folder, if all of it is as it was written.
pub(super) fn read(snapshot: &Path, into: &Path) -> Result<(), Error> {
    let refused = |reason: String| Error::NotASnapshot { folder: snapshot.to_owned(), reason };
    let text = std::fs::read(snapshot.join(MANIFEST))
        .map_err(|error| refused(format!("its {MANIFEST} cannot be read: {error}")))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| refused(format!("its {MANIFEST} cannot be understood: {error}")))?;
    if manifest.layout != LAYOUT {
        return Err(refused(format!("its layout is {}, this release knows {LAYOUT}", manifest.layout)));
    }
    std::fs::create_dir(into).map_err(|source| Error::Io { path: into.to_owned(), source })?;
    let mut found = copy(snapshot, into, |path| path != Path::new(MANIFEST))?;
    for (path, contents) in manifest.files {
        if found.remove(&path).as_ref() != Some(&contents) {
            return Err(refused(format!("{} is missing or has changed", path.display())));
        }
    }
    match found.keys().next() {
        None => sync(into),
        Some(path) => Err(refused(format!("{} is not a part of it", path.display()))),
    }
}

/// Copies what of a folder is wanted, by its path within, into one that is there.
fn copy(
    from: &Path,
    into: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<BTreeMap<PathBuf, Contents>, Error> {
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(from).min_depth(1) {
        let entry = entry.map_err(|error| Error::Io { path: from.to_owned(), source: error.into() })?;
        let path = entry.path();
        let io = |source| Error::Io { path: path.to_owned(), source };
        let within = path.strip_prefix(from).map_err(|error| io(io::Error::other(error)))?;
        let target = into.join(within);
        if entry.file_type().is_dir() {
            std::fs::create_dir(&target).map_err(io)?;
        } else if !entry.file_type().is_file() {
            return Err(io(io::Error::other("it is neither a file nor a folder")));
        } else if wanted(within) {
            files.insert(within.to_owned(), copy_file(path, &target).map_err(io)?);
        }
    }
    Ok(files)
}

/// Makes a folder last with all that is in it.
fn sync(folder: &Path) -> Result<(), Error> {
    for entry in WalkDir::new(folder).contents_first(true) {
        let synced = entry.map_err(io::Error::from).and_then(|entry| File::open(entry.path())?.sync_all());
        synced.map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    }
    Ok(())
}

/// Copies a file. Blocks of zeros become holes: the engine makes its files larger than what is in them.
fn copy_file(from: &Path, into: &Path) -> io::Result<Contents> {
    const BLOCK: usize = 64 * 1024;
    static ZEROS: [u8; BLOCK] = [0; BLOCK];

    let source = File::open(from)?;
    let mut target = File::create_new(into)?;
    let mut hash = Sha256::new();
    let mut bytes: u64 = 0;
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        let read = (&source).take(BLOCK as u64).read_to_end(&mut block)?;
        if read == 0 {
            break;
        }
        if !ZEROS.starts_with(&block) {
            target.seek(SeekFrom::Start(bytes))?;
            target.write_all(&block)?;
            hash.update(bytes.to_le_bytes());
            hash.update(&block);
        }
        bytes += read as u64;
    }
    target.set_len(bytes)?;
    Ok(Contents { bytes, sha256: format!("{:x}", hash.finalize()) })
}
