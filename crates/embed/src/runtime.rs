//! Loading ONNX Runtime.
//!
//! It is a shared library, loaded once a process. Left to itself `ort` loads it at the first use and panics if
//! it is missing or too old; loading it first turns that into an error.

use std::env::{self, consts};
use std::path::{Path, PathBuf};

use crate::error::LoadError;

/// Loads ONNX Runtime from `path`, else from where `ORT_DYLIB_PATH` points, else from where the system looks
/// for libraries. A process that has loaded it keeps what it has, whatever the path.
///
/// # Errors
/// If there is no such library, or it is too old.
pub fn load(path: Option<&Path>) -> Result<(), LoadError> {
    let path = path.map(Path::to_owned).or_else(from_environment).unwrap_or_else(system_library);
    match ort::init_from(&path) {
        // The environment is fastembed's to build: there may be but one.
        Ok(_builder) => Ok(()),
        Err(source) => Err(LoadError::Runtime { path, source: Box::new(source) }),
    }
}

/// What the loaded library says of itself, such as `git-branch=rel-1.24.1`. To be asked once a local model is loaded:
/// before, it would load the library, and panic if there is none.
pub fn onnx_runtime() -> &'static str {
    let info = ort::info();
    // `ORT Build Info: git-branch=.., git-commit-id=.., ..`
    let first = info.split(',').next().unwrap_or(info);
    first.rsplit(' ').next().unwrap_or(first)
}

fn from_environment() -> Option<PathBuf> {
    env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn system_library() -> PathBuf {
    format!("{}onnxruntime{}", consts::DLL_PREFIX, consts::DLL_SUFFIX).into()
}
