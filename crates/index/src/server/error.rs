//! Maps errors of the server and of the connection to [`Error`].

use std::error::Error as StdError;

use qdrant_client::QdrantError;
use tonic::{Code, Status};

use crate::{CollectionName, Error};

/// Length at which server messages are truncated.
const MAX_MESSAGE_CHARS: usize = 300;

/// Maps a failed call about a collection; `None` is a timeout.
pub(super) fn for_collection(collection: &CollectionName, error: Option<QdrantError>, server: &str) -> Error {
    match &error {
        Some(QdrantError::ResponseError { status }) => match status.code() {
            Code::NotFound => Error::NoCollection(collection.clone()),
            Code::InvalidArgument => match wrong_dimensions(status.message()) {
                Some((expected, given)) => Error::Vector { expected, given },
                None => from_qdrant(error, server),
            },
            _ => from_qdrant(error, server),
        },
        _ => from_qdrant(error, server),
    }
}

/// Maps a failed call; `None` is a timeout. `server` is its host and port.
pub(super) fn from_qdrant(error: Option<QdrantError>, server: &str) -> Error {
    match error {
        None => Error::Unavailable(format!("{server} did not respond in time")),
        Some(QdrantError::ResponseError { status }) => from_grpc_status(&status, server),
        Some(QdrantError::ResourceExhaustedError { retry_after_seconds, .. }) => {
            Error::Unavailable(format!("{server} asks to retry after {retry_after_seconds} s"))
        }
        Some(QdrantError::Io(error)) => Error::Unavailable(format!("{server}: {error}")),
        Some(error) => Error::Engine(truncate(&error.to_string())),
    }
}

fn from_grpc_status(status: &Status, server: &str) -> Error {
    let message = status.message();
    if is_disk_full(message) {
        return Error::Full(truncate(message));
    }
    match status.code() {
        // From the client.
        Code::Internal if message.starts_with("Failed to connect") => {
            Error::Unavailable(format!("cannot connect to {server}"))
        }
        // From the server; all other internal errors are the connection's.
        Code::Internal if message.starts_with("Service internal error") => Error::Engine(truncate(message)),
        Code::Internal | Code::Unknown => Error::Unavailable(format!("{server}: {}", truncate(message))),
        Code::Cancelled | Code::DeadlineExceeded => {
            Error::Unavailable(format!("{server} did not respond in time"))
        }
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::FailedPrecondition => {
            Error::Unavailable(format!("{server}: {}", truncate(message)))
        }
        Code::Unauthenticated => Error::Unavailable(format!("{server} rejected the API key")),
        _ => Error::Engine(truncate(message)),
    }
}

/// Maps an HTTP error response.
pub(super) fn from_http_status(status: u16, message: &str, server: &str) -> Error {
    match status {
        _ if is_disk_full(message) => Error::Full(truncate(message)),
        401 => Error::Unavailable(format!("{server} rejected the API key")),
        408 | 429 | 502..=504 => Error::Unavailable(format!("{server} responded with status {status}")),
        _ => Error::Engine(format!("{server} responded with status {status}: {}", truncate(message))),
    }
}

/// Whether a message reports a full disk. The server has no status code for it.
fn is_disk_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left", "disk space", "disk usage is at", "disk quota"]
        .iter()
        .any(|text| message.contains(text))
}

/// Whether the server refused to create something because it exists.
pub(super) fn already_exists(error: &QdrantError) -> bool {
    matches!(error, QdrantError::ResponseError { status }
        if status.code() == Code::AlreadyExists || status.message().contains("already exists"))
}

/// Parses the expected and given dimensions from the server's message.
fn wrong_dimensions(message: &str) -> Option<(usize, usize)> {
    let (_, rest) = message.split_once("expected dim: ")?;
    let (expected, rest) = rest.split_once(", got ")?;
    let given: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((expected.parse().ok()?, given.parse().ok()?))
}

/// Joins an error with its sources.
pub(super) fn error_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn truncate(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(code: Code, message: &str) -> Error {
        let status = Status::new(code, message);
        for_collection(&"c".parse().unwrap(), Some(QdrantError::ResponseError { status }), "host:6334")
    }

    #[test]
    fn unavailable_servers_are_distinguished_from_failed_calls() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Aborted,
            Code::ResourceExhausted,
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::Unknown,
        ] {
            assert!(map(code, "something").is_unavailable(), "{code:?}");
        }
        assert!(map(Code::Internal, "Failed to connect to http://host:6334/: refused").is_unavailable());
        assert!(map(Code::Internal, "h2 protocol error: error reading a body").is_unavailable());
        assert!(matches!(map(Code::Internal, "Service internal error: it broke"), Error::Engine(_)));
        assert!(matches!(map(Code::InvalidArgument, "Wrong input: no such field"), Error::Engine(_)));
        assert!(matches!(map(Code::PermissionDenied, "Forbidden: not so"), Error::Engine(_)));
        assert!(matches!(
            map(Code::NotFound, "Not found: Collection `c` doesn't exist!"),
            Error::NoCollection(_)
        ));
    }

    #[test]
    fn full_disks_count_as_unavailable() {
        for message in [
            "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
            "Service internal error: No space left on device (os error 28)",
            "Forbidden: Disk usage is at 97% of total capacity, exceeding the configured limit of 95%",
        ] {
            let error = map(Code::Internal, message);
            assert!(matches!(error, Error::Full(_)) && error.is_unavailable(), "{error:?}");
        }
    }

    #[test]
    fn wrong_dimensions_are_reported_with_both_numbers() {
        let message = "Wrong input: Vector dimension error: expected dim: 4, got 3";
        assert!(matches!(map(Code::InvalidArgument, message), Error::Vector { expected: 4, given: 3 }));
    }
}
