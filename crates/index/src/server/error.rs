//! What the server and the way to it say when something fails, as our errors.

use qdrant_client::QdrantError;
use tonic::{Code, Status};

use crate::{CollectionName, Error};

/// How much of a message is passed on.
const MESSAGE_CHARS: usize = 300;

/// A failed call about a collection; `None` if its time was up.
pub(super) fn for_collection(collection: &CollectionName, error: Option<QdrantError>, place: &str) -> Error {
    match &error {
        Some(QdrantError::ResponseError { status }) => match status.code() {
            Code::NotFound => Error::NoCollection(collection.clone()),
            Code::InvalidArgument => match wrong_dimensions(status.message()) {
                Some((expected, given)) => Error::Vector { expected, given },
                None => from_qdrant(error, place),
            },
            _ => from_qdrant(error, place),
        },
        _ => from_qdrant(error, place),
    }
}

/// A failed call; `None` if its time was up. `place` is where the server is.
pub(super) fn from_qdrant(error: Option<QdrantError>, place: &str) -> Error {
    match error {
        None => Error::Unavailable(format!("{place} does not answer in time")),
        Some(QdrantError::ResponseError { status }) => from_grpc_status(&status, place),
        Some(QdrantError::ResourceExhaustedError { retry_after_seconds, .. }) => {
            Error::Unavailable(format!("{place} asks to wait for {retry_after_seconds} s"))
        }
        Some(QdrantError::Io(error)) => Error::Unavailable(format!("{place}: {error}")),
        Some(error) => Error::Engine(cut(&error.to_string())),
    }
}

fn from_grpc_status(status: &Status, place: &str) -> Error {
    let message = status.message();
    if is_full(message) {
        return Error::Full(cut(message));
    }
    match status.code() {
        // The client's own, whose message names the address.
        Code::Internal if message.starts_with("Failed to connect") => {
            Error::Unavailable(format!("no connection to {place}"))
        }
        // The server says so of what it did not expect; everything else is from the connection.
        Code::Internal if message.starts_with("Service internal error") => Error::Engine(cut(message)),
        Code::Internal | Code::Unknown => Error::Unavailable(format!("{place}: {}", cut(message))),
        Code::Cancelled | Code::DeadlineExceeded => {
            Error::Unavailable(format!("{place} does not answer in time"))
        }
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::FailedPrecondition => {
            Error::Unavailable(format!("{place}: {}", cut(message)))
        }
        Code::Unauthenticated => Error::Unavailable(format!("{place} does not accept the API key")),
        _ => Error::Engine(cut(message)),
    }
}

/// A refused request over HTTP.
pub(super) fn from_http_status(status: u16, message: &str, place: &str) -> Error {
    match status {
        _ if is_full(message) => Error::Full(cut(message)),
        401 => Error::Unavailable(format!("{place} does not accept the API key")),
        408 | 429 | 502..=504 => Error::Unavailable(format!("{place} answers {status}")),
        _ => Error::Engine(format!("{place} answers {status}: {}", cut(message))),
    }
}

/// Whether a message tells of a disk without room. The server has no code for it.
fn is_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left", "disk space", "disk usage is at", "disk quota"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Whether the server refused to make what is there.
pub(super) fn already_exists(error: &QdrantError) -> bool {
    matches!(error, QdrantError::ResponseError { status }
        if status.code() == Code::AlreadyExists || status.message().contains("already exists"))
}

/// The dimensions expected and given, from the server's message.
fn wrong_dimensions(message: &str) -> Option<(usize, usize)> {
    let (_, rest) = message.split_once("expected dim: ")?;
    let (expected, rest) = rest.split_once(", got ")?;
    let given: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((expected.parse().ok()?, given.parse().ok()?))
}

fn cut(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_error(code: Code, message: &str) -> Error {
        let status = Status::new(code, message);
        about(&"c".parse().unwrap(), Some(QdrantError::ResponseError { status }), "host:6334")
    }

    #[test]
    fn what_is_away_is_told_from_what_is_wrong() {
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
            assert!(map_error(code, "something").is_unavailable(), "{code:?}");
        }
        assert!(
            map_error(Code::Internal, "Failed to connect to http://host:6334/: refused").is_unavailable()
        );
        assert!(map_error(Code::Internal, "h2 protocol error: error reading a body").is_unavailable());
        assert!(matches!(map_error(Code::Internal, "Service internal error: it broke"), Error::Engine(_)));
        assert!(matches!(map_error(Code::InvalidArgument, "Wrong input: no such field"), Error::Engine(_)));
        assert!(matches!(map_error(Code::PermissionDenied, "Forbidden: not so"), Error::Engine(_)));
        assert!(matches!(
            map_error(Code::NotFound, "Not found: Collection `c` doesn't exist!"),
            Error::NoCollection(_)
        ));
    }

    #[test]
    fn a_full_disk_is_named_and_away() {
        for message in [
            "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
            "Service internal error: No space left on device (os error 28)",
            "Forbidden: Disk usage is at 97% of total capacity, exceeding the configured limit of 95%",
        ] {
            let error = map_error(Code::Internal, message);
            assert!(matches!(error, Error::Full(_)) && error.is_unavailable(), "{error:?}");
        }
    }

    #[test]
    fn wrong_dimensions_are_told_with_both_numbers() {
        let message = "Wrong input: Vector dimension error: expected dim: 4, got 3";
        assert!(matches!(map_error(Code::InvalidArgument, message), Error::Vector { expected: 4, given: 3 }));
    }
}
