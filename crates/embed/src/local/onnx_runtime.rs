//! Loads ONNX Runtime.
//!
//! It is a shared library that is loaded once per process. By default `ort` loads it on first use and panics if it is
//! missing or too old; loading it explicitly turns the panic into an error.

use std::env::{self, consts};
use std::path::{Path, PathBuf};

use crate::error::LoadError;

/// Loads ONNX Runtime from `path`, else from `ORT_DYLIB_PATH`, else from the system's library path. Does nothing if the
/// process has already loaded it.
///
/// # Errors
/// If there is no such library, or it is too old.
pub fn load(path: Option<&Path>) -> Result<(), LoadError> {
    let path = path.map(Path::to_owned).or_else(from_environment).unwrap_or_else(system_library);
    match ort::init_from(&path) {
        // fastembed builds the environment; there can be only one.
        Ok(_builder) => Ok(()),
        Err(source) => Err(LoadError::Runtime { path, source: Box::new(source) }),
    }
}

/// Version of the loaded library, such as `git-branch=rel-1.24.1`. Call it only after a local model was loaded: otherwise
/// it loads the library, and panics if there is none.
pub fn version() -> &'static str {
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
