//! The folders of collections. Whatever happens to a whole one happens by renaming, so that a process that dies
//! at any point leaves the collection as it was or as it was to be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{CollectionName, Error};

// No collection's name begins with a dot.

/// A collection that is being made.
const NEW: &str = ".new-";
/// A collection that is about to take the place of another.
const NEXT: &str = ".next-";
/// One that another has taken the place of, or is about to.
const OLD: &str = ".old-";
/// One that is being removed.
const GONE: &str = ".gone-";

pub(super) struct Folders {
    dir: PathBuf,
}

impl Folders {
    /// The folders in a folder that nobody else works on, without what a crash left between them.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let folders = Self { dir: dir.to_owned() };
        folders.tidy().map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        Ok(folders)
    }

    /// Where the collection is, if it is there.
    pub(super) fn home(&self, name: &CollectionName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// An empty folder to make the collection in, for [`place`](Self::place).
    pub(super) fn draft(&self, name: &CollectionName) -> Result<PathBuf, Error> {
        let draft = self.beside(NEW, name);
        remove(&draft)
            .and_then(|()| fs::create_dir(&draft))
            .map_err(|source| Error::Io { path: draft.clone(), source })?;
        Ok(draft)
    }

    /// Makes the draft the collection, which must not be there.
    pub(super) fn place(&self, name: &CollectionName) -> Result<(), Error> {
        self.at_home(name, |home| fs::rename(self.beside(NEW, name), home))
    }

    /// A folder that is not there, for what is to take the collection's place by [`swap`](Self::swap).
    pub(super) fn next(&self, name: &CollectionName) -> Result<PathBuf, Error> {
        let next = self.beside(NEXT, name);
        remove(&next).map_err(|source| Error::Io { path: next.clone(), source })?;
        Ok(next)
    }

    /// Puts what is next in the collection's place, and the collection, if it is there, aside.
    pub(super) fn swap(&self, name: &CollectionName) -> Result<(), Error> {
        let (next, old) = (self.beside(NEXT, name), self.beside(OLD, name));
        self.at_home(name, |home| {
            if home.exists() {
                remove(&old)?;
                fs::rename(home, &old)?;
            }
            fs::rename(&next, home).or_else(|error| {
                absent_is_fine(fs::rename(&old, home))?;
                Err(error)
            })
        })
    }

    /// Undoes a [`swap`](Self::swap).
    pub(super) fn swap_back(&self, name: &CollectionName) -> Result<(), Error> {
        self.at_home(name, |home| {
            fs::rename(home, self.beside(NEXT, name))?;
            absent_is_fine(fs::rename(self.beside(OLD, name), home))
        })
    }

    /// Takes the collection out of its place; it is gone then.
    pub(super) fn take(&self, name: &CollectionName) -> Result<(), Error> {
        let gone = self.beside(GONE, name);
        self.at_home(name, |home| {
            // What was put aside once must not come back in its place.
            remove(&self.beside(OLD, name))?;
            remove(&gone)?;
            absent_is_fine(fs::rename(home, &gone))
        })
    }

    /// Gives back the space of what was put aside, taken out or never finished. What cannot be removed now is
    /// when the folder is opened next.
    pub(super) fn clear(&self, name: &CollectionName) {
        for folder in [NEXT, OLD, GONE].map(|prefix| self.beside(prefix, name)) {
            if folder == self.beside(OLD, name) && !self.home(name).exists() {
                // It could not be put back, and is all there is.
                continue;
            }
            if let Err(error) = remove(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "what is left of a collection stays for now");
            }
        }
    }

    fn beside(&self, prefix: &str, name: &CollectionName) -> PathBuf {
        self.dir.join(format!("{prefix}{name}"))
    }

    /// Changes what is in the collection's place, for good.
    fn at_home(
        &self,
        name: &CollectionName,
        change: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let home = self.home(name);
        change(&home).and_then(|()| sync_dir(&self.dir)).map_err(|source| Error::Io { path: home, source })
    }

    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let is = |prefix| -> Option<CollectionName> { name.to_str()?.strip_prefix(prefix)?.parse().ok() };
            if let Some(home) = is(OLD).map(|name| self.home(&name)).filter(|home| !home.exists()) {
                tracing::warn!(home = %home.display(), "put a collection back that was not replaced after all");
                fs::rename(&path, home)?;
            } else if [NEW, NEXT, OLD, GONE].into_iter().any(|prefix| is(prefix).is_some()) {
                remove(&path)?;
            }
        }
        sync_dir(&self.dir)
    }
}

/// Makes the file hold the text, at once and for good.
pub(super) fn write_whole(path: &Path, text: &[u8]) -> Result<(), Error> {
    let draft = path.with_extension("new");
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), sync_dir)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Makes the names in a folder last.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove(folder: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(folder))
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
