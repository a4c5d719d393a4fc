//! What a backup says of itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use guildex_index::CollectionName;
use guildex_types::ModelSlug;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The file that makes a folder a backup. Written last: one that was cut short has none.
const NAME: &str = "backup.json";
/// How backups are laid out.
const LAYOUT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    layout: u32,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The installation whose sessions it holds.
    pub database: Uuid,
    /// The newest migration of the schema that it was made under.
    pub schema: i64,
    pub collections: Vec<Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub model: ModelSlug,
    pub dimensions: usize,
    /// As it was called, which is also its folder's name.
    pub collection: String,
    /// Of the file with its books.
    pub books_sha256: String,
}

/// Why a folder is no backup to work with.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder or a file in it cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not empty, so a backup would mix with what is there.
    #[error("the folder {} is not empty: name a new one", .0.display())]
    NotEmpty(PathBuf),
    /// It holds no backup, or one that is not whole.
    #[error("{} is no whole backup: {reason}", folder.display())]
    NotABackup {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Manifest {
    pub fn new(database: Uuid, schema: i64, collections: Vec<Saved>) -> Self {
        Self { layout: LAYOUT, at: Utc::now(), database, schema, collections }
    }

    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let refused = |reason: String| BackupError::NotABackup { folder: folder.to_owned(), reason };
        let text = fs::read(folder.join(NAME))
            .map_err(|error| refused(format!("its {NAME} cannot be read: {error}")))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("its {NAME} cannot be understood: {error}")))?;
        if manifest.layout != LAYOUT {
            return Err(refused(format!("its layout is {}, this release knows {LAYOUT}", manifest.layout)));
        }
        for saved in &manifest.collections {
            // It names a folder: nothing but a collection's name may stand there.
            if saved.collection.parse::<CollectionName>().is_err() {
                return Err(refused("it names what is no collection".to_owned()));
            }
            if hash(&books(folder, &saved.collection))? != saved.books_sha256 {
                return Err(refused(format!(
                    "the books of {} are not as they were written",
                    saved.collection
                )));
            }
        }
        Ok(manifest)
    }

    pub fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(NAME);
        let io = |source| BackupError::Io { path: path.clone(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        let draft = folder.join(format!(".{NAME}"));
        fs::write(&draft, text).map_err(io)?;
        fs::File::open(&draft).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&draft, &path).map_err(io)
    }
}

/// Where the books of a collection are in a backup: one JSON document a line.
pub(crate) fn books(folder: &Path, collection: &str) -> PathBuf {
    folder.join(format!("{collection}.books.jsonl"))
}

/// Where the collection itself is in a backup.
pub(crate) fn points(folder: &Path, collection: &str) -> PathBuf {
    folder.join(collection)
}

/// The SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> Result<String, BackupError> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let mut hash = Sha256::new();
    io::copy(&mut fs::File::open(path).map_err(io)?, &mut hash).map_err(io)?;
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A backup of one collection, whose manifest is these bytes.
    fn read(manifest: &[u8]) -> (TempDir, Result<Manifest, BackupError>) {
        let folder = TempDir::new().unwrap();
        fs::write(books(folder.path(), "guildex_minilm"), "{}\n").unwrap();
        fs::write(folder.path().join(NAME), manifest).unwrap();
        let manifest = Manifest::read(folder.path());
        (folder, manifest)
    }

    fn manifest() -> serde_json::Value {
        let folder = TempDir::new().unwrap();
        let path = books(folder.path(), "guildex_minilm");
        fs::write(&path, "{}\n").unwrap();
        let saved = Saved {
            model: "minilm".parse().unwrap(),
            dimensions: 384,
            collection: "guildex_minilm".to_owned(),
            books_sha256: hash(&path).unwrap(),
        };
        serde_json::to_value(Manifest::new(Uuid::from_u128(7), 4, vec![saved])).unwrap()
    }

    /// What is taken names collections whose books are as they were, and nothing outside of the folder.
    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        let (folder, manifest) = read(bytes);
        match manifest {
            Ok(manifest) => {
                prop_assert_eq!(manifest.layout, LAYOUT);
                for saved in manifest.collections {
                    let path = books(folder.path(), &saved.collection);
                    prop_assert_eq!(path.parent(), Some(folder.path()));
                    prop_assert_eq!(hash(&path).unwrap(), saved.books_sha256);
                }
            }
            Err(error) => {
                let told = error.to_string();
                prop_assert!(told.contains(&folder.path().display().to_string()), "{}", told);
            }
        }
        Ok(())
    }

    #[test]
    fn a_manifest_reads_as_it_was_written() {
        let written = manifest();
        let (_folder, read) = read(written.to_string().as_bytes());
        assert_eq!(serde_json::to_value(read.unwrap()).unwrap(), written);
    }

    proptest! {
        #[test]
        fn an_altered_manifest_is_whole_or_refused(manifest in guildex_test_support::damage::altered(manifest())) {
            check(manifest.to_string().as_bytes())?;
        }

        #[test]
        fn a_damaged_manifest_is_whole_or_refused(bytes in guildex_test_support::damage::damaged(manifest().to_string().into_bytes())) {
            check(&bytes)?;
        }
    }
}
