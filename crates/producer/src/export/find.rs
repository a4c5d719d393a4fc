//! Finds the exports that a command line means.

use std::path::PathBuf;

use walkdir::{DirEntry, WalkDir};

/// A path that leads to no export.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The path, or something in the folder, cannot be looked at.
    #[error("{}", describe(.0))]
    Unreadable(walkdir::Error),
    /// There is nothing to read in the folder.
    #[error("{}: no *.json or *.json.gz in this folder", .0.display())]
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

/// The files among `paths` as they are given, and in place of each folder the `*.json` and `*.json.gz` in it and
/// below, sorted; and beside them what led nowhere: a path that does not exist, a folder that cannot be read or has
/// no export in it.
///
/// Links are followed, loops left out. Hidden files are left out, and so are the folders `*.json_Files` into
/// which the exporter downloads attachments.
pub fn find(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<FindError>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let before = (files.len(), errors.len());
        for entry in
            WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_wanted)
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

fn is_wanted(entry: &DirEntry) -> bool {
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

    /// A folder with empty files at `paths`.
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
        find(&[folder.path().to_owned()]).0.into_iter().map(shown).collect()
    }

    #[test]
    fn folders_are_searched_in_order_for_exports_alone() {
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
    fn files_are_taken_as_given_in_the_order_given() {
        let folder = folder(&["z.dat", "a.json"]);
        let paths = [folder.path().join("z.dat"), folder.path().join("a.json")];
        assert_eq!(find(&paths).0, paths);
    }

    #[test]
    fn a_folder_without_exports_and_a_missing_path_are_errors() {
        let folder = folder(&["notes.txt"]);
        let (files, errors) = find(&[folder.path().to_owned(), folder.path().join("none")]);
        assert_eq!(files, Vec::<PathBuf>::new());
        assert!(matches!(&errors[..], [FindError::NoExports(_), FindError::Unreadable(_)]));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_left_out() {
        use std::os::unix::fs::symlink;

        let elsewhere = folder(&["far.json"]);
        let folder = folder(&["in/near.json"]);
        symlink(folder.path(), folder.path().join("in/loop")).unwrap();
        symlink(elsewhere.path(), folder.path().join("out")).unwrap();
        assert_eq!(found(&folder), ["in/near.json", "out/far.json"]);
    }
}
