//! Errors of loading ONNX Runtime. In its own file because a process loads the library only once.

#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::path::Path;

use guildex_embed::{LoadError, LocalConfig, LocalEmbedder};

fn load_error(library: &Path) -> LoadError {
    let config = LocalConfig {
        onnx_runtime: Some(library.to_owned()),
        ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
    };
    match LocalEmbedder::load(config) {
        Err(error @ LoadError::Runtime { .. }) => error,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the model was loaded"),
    }
}

#[test]
fn a_missing_library_is_an_error_with_advice() {
    let error = load_error(Path::new("/no/such/libonnxruntime.so")).to_string();
    assert!(error.contains("/no/such/libonnxruntime.so"), "{error}");
    assert!(error.contains("ORT_DYLIB_PATH") && error.contains("scripts/setup"), "{error}");
}

#[test]
fn a_file_that_is_not_a_library_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libonnxruntime.so");
    std::fs::write(&file, "not a library").unwrap();
    assert!(load_error(&file).source().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn another_library_is_an_error() {
    let error = load_error(Path::new("libc.so.6"));
    let reason = error.source().unwrap().to_string();
    assert!(reason.contains("OrtGetApiBase"), "{reason}");
}
