//! Finds export files in the paths of a command line.

use std::path::PathBuf;

use walkdir::{DirEntry, WalkDir};

/// A path without exports.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The path, or an entry of the folder, cannot be read.
    #[error("{}", describe(.0))]
    Unreadable(walkdir::Error),
    /// The folder holds no export.
    #[error("{}: no *.json or *.json.gz file in this folder", .0.display())]
    NoExports(PathBuf),
}

impl From<walkdir::Error> for FindError {
    fn from(error: walkdir::Error) -> Self {
        Self::Unreadable(error)
    }
}

fn describe(error: &walkdir::Error) -> String {
    match (error.path(), error.io_error()) {
        (Some(path), Some(reason)) => format!("cannot read {}: {reason}", path.display()),
        _ => error.to_string(),
    }
}

/// Expands `paths` to export files. A file is returned as given; a folder is replaced by the `*.json` and `*.json.gz`
/// files in it and below, sorted. Paths that do not exist and folders that are unreadable or empty are returned as
/// errors.
///
/// Symbolic links are followed, except for loops. Hidden files are skipped, as are the `*.json_Files` folders into
/// which the exporter downloads attachments.
pub fn find_exports(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<FindError>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let before = (files.len(), errors.len());
        for entry in WalkDir::new(path)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(is_export_or_folder)
        {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => files.push(entry.into_path()),
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => errors.push(error.into()),
            }
        }
        if (files.len(), errors.len()) == before {
            errors.push(FindError::NoExports(path.clone()));
        }
    }
    (files, errors)
}

fn is_export_or_folder(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy().to_lowercase();
    if entry.depth() == 0 {
        true
    } else if name.starts_with('.') {
        false
    } else if entry.file_type().is_dir() {
        !name.ends_with(".json_files")
    } else {
        entry.file_type().is_file() && (name.ends_with(".json") || name.ends_with(".json.gz"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Creates a folder with empty files at `paths`.
    fn folder(paths: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(folder: &TempDir) -> Vec<String> {
        let shown = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        find_exports(&[folder.path().to_owned()]).0.into_iter().map(shown).collect()
    }

    #[test]
    fn folders_are_searched_in_order_for_exports() {
        let folder = folder(&[
            "b.json",
            "a.JSON.gz",
            "deep/er/c.json",
            "notes.txt",
            ".hidden.json",
            "._b.json",
            "x.gz",
            "b.json_Files/attachment.json",
        ]);
        assert_eq!(found(&folder), ["a.JSON.gz", "b.json", "deep/er/c.json"]);
    }

    #[test]
    fn files_are_returned_as_given() {
        let folder = folder(&["z.dat", "a.json"]);
        let paths = [folder.path().join("z.dat"), folder.path().join("a.json")];
        assert_eq!(find_exports(&paths).0, paths);
    }

    #[test]
    fn a_folder_without_exports_and_a_missing_path_are_errors() {
        let folder = folder(&["notes.txt"]);
        let (files, errors) = find_exports(&[folder.path().to_owned(), folder.path().join("none")]);
        assert_eq!(files, Vec::<PathBuf>::new());
        assert!(matches!(&errors[..], [FindError::NoExports(_), FindError::Unreadable(_)]));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_except_loops() {
        use std::os::unix::fs::symlink;

        let outside = folder(&["far.json"]);
        let folder = folder(&["in/near.json"]);
        symlink(folder.path(), folder.path().join("in/loop")).unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        assert_eq!(found(&folder), ["in/near.json", "out/far.json"]);
    }
}
