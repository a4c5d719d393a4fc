//! Manifest of a backup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use guildex_index::CollectionName;
use guildex_types::ModelSlug;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// File name of the manifest. It is written last, so an interrupted backup has none.
const NAME: &str = "backup.json";
/// Version of the directory layout.
const LAYOUT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    layout: u32,
    /// Creation time.
    pub at: DateTime<Utc>,
    /// Identity of the database.
    pub database: Uuid,
    /// Version of the database schema.
    pub schema: i64,
    pub collections: Vec<Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub model: ModelSlug,
    pub dimensions: usize,
    /// Name of the collection and of its directory.
    pub collection: String,
    /// SHA-256 of the file with its rows.
    pub rows_sha256: String,
}

/// Error of reading or writing a backup directory.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory or a file in it cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the file or directory.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The directory is not empty.
    #[error("the directory {} is not empty: choose a new one", .0.display())]
    NotEmpty(PathBuf),
    /// The directory does not contain a complete backup.
    #[error("{} is not a complete backup: {reason}", folder.display())]
    NotABackup {
        /// Path of the directory.
        folder: PathBuf,
        /// Problem.
        reason: String,
    },
}

impl Manifest {
    pub fn new(database: Uuid, schema: i64, collections: Vec<Saved>) -> Self {
        Self { layout: LAYOUT, at: Utc::now(), database, schema, collections }
    }

    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let invalid = |reason: String| BackupError::NotABackup { folder: folder.to_owned(), reason };
        let text = fs::read(folder.join(NAME))
            .map_err(|error| invalid(format!("{NAME} cannot be read: {error}")))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("{NAME} cannot be parsed: {error}")))?;
        if manifest.layout != LAYOUT {
            return Err(invalid(format!(
                "layout {} is not supported; this release supports {LAYOUT}",
                manifest.layout
            )));
        }
        for saved in &manifest.collections {
            // It becomes part of a path, so only a valid collection name is allowed.
            if saved.collection.parse::<CollectionName>().is_err() {
                return Err(invalid("it contains an invalid collection name".to_owned()));
            }
            if hash(&rows(folder, &saved.collection))? != saved.rows_sha256 {
                return Err(invalid(format!("the rows of {} do not match their checksum", saved.collection)));
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

/// Path of a collection's rows in a backup, one JSON document per line.
pub(crate) fn rows(folder: &Path, collection: &str) -> PathBuf {
    folder.join(format!("{collection}.indexed_sessions.jsonl"))
}

/// Path of a collection's snapshot in a backup.
pub(crate) fn points(folder: &Path, collection: &str) -> PathBuf {
    folder.join(collection)
}

/// SHA-256 of a file.
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

    /// Backup of one collection with these bytes as its manifest.
    fn read(manifest: &[u8]) -> (TempDir, Result<Manifest, BackupError>) {
        let folder = TempDir::new().unwrap();
        fs::write(rows(folder.path(), "guildex_minilm"), "{}\n").unwrap();
        fs::write(folder.path().join(NAME), manifest).unwrap();
        let manifest = Manifest::read(folder.path());
        (folder, manifest)
    }

    fn manifest() -> serde_json::Value {
        let folder = TempDir::new().unwrap();
        let path = rows(folder.path(), "guildex_minilm");
        fs::write(&path, "{}\n").unwrap();
        let saved = Saved {
            model: "minilm".parse().unwrap(),
            dimensions: 384,
            collection: "guildex_minilm".to_owned(),
            rows_sha256: hash(&path).unwrap(),
        };
        serde_json::to_value(Manifest::new(Uuid::from_u128(7), 4, vec![saved])).unwrap()
    }

    /// An accepted manifest names only collections with matching checksums inside the directory.
    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        let (folder, manifest) = read(bytes);
        match manifest {
            Ok(manifest) => {
                prop_assert_eq!(manifest.layout, LAYOUT);
                for saved in manifest.collections {
                    let path = rows(folder.path(), &saved.collection);
                    prop_assert_eq!(path.parent(), Some(folder.path()));
                    prop_assert_eq!(hash(&path).unwrap(), saved.rows_sha256);
                }
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.contains(&folder.path().display().to_string()), "{}", message);
            }
        }
        Ok(())
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        let written = manifest();
        let (_folder, read) = read(written.to_string().as_bytes());
        assert_eq!(serde_json::to_value(read.unwrap()).unwrap(), written);
    }

    proptest! {
        #[test]
        fn an_altered_manifest_is_whole_or_invalid(manifest in guildex_test_support::damage::altered(manifest())) {
            check(manifest.to_string().as_bytes())?;
        }

        #[test]
        fn a_damaged_manifest_is_whole_or_invalid(bytes in guildex_test_support::damage::damaged(manifest().to_string().into_bytes())) {
            check(&bytes)?;
        }
    }
}
