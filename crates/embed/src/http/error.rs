//! Classifies failed requests to the API.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::client::Reply;

/// Maximum pause that an API can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum length of an error code of the API.
const MAX_CODE_LEN: usize = 64;

/// Failed request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestError {
    pub(super) kind: ErrorKind,
    /// Description for operators. Never contains the texts, not even if the API repeats them.
    pub(super) reason: String,
    /// Pause that the API requested.
    pub(super) retry_after: Option<Duration>,
}

/// Kind of a failure, by what can resolve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The API is busy or unavailable; a retry may succeed.
    Unavailable,
    /// The API failed, either in general or on these texts.
    ServerError,
    /// The API rejects the request, either these texts or every text.
    Rejected,
    /// The operator must correct a setting.
    Misconfigured,
    /// The response has no usable vectors for these texts.
    InvalidResponse,
}

impl ErrorKind {
    /// Whether a retry may succeed.
    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::ServerError)
    }
}

impl RequestError {
    pub(super) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), retry_after: None }
    }

    /// Classifies a response with an error status.
    pub(super) fn from_response(reply: &Reply) -> Self {
        let status = reply.status;
        let status_text = match codes(&reply.body) {
            codes if codes.is_empty() => format!("status {}", status.as_u16()),
            codes => format!("status {} ({})", status.as_u16(), codes.join(", ")),
        };
        let kind = match status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::FAILED_DEPENDENCY => ErrorKind::ServerError,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                ErrorKind::Rejected
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                ErrorKind::Unavailable
            }
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Misconfigured,
        };
        let reason = match (kind, status) {
            (ErrorKind::Misconfigured, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("{status_text}: check api_key")
            }
            (ErrorKind::Misconfigured, _) => format!("{status_text}: check base_url and model"),
            _ => status_text,
        };
        Self { kind, reason, retry_after: kind.is_transient().then(|| retry_after(&reply.headers)).flatten() }
    }
}

/// Extracts the error codes of the API. Ignores its messages, which may repeat the texts, and values that do not look like
/// codes.
fn codes(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let inner = body.get("error").into_iter().flat_map(|error| [error.get("type"), error.get("code")]);
    let outer = [body.get("error_type"), body.get("type"), body.get("code")];
    let mut codes: Vec<String> = Vec::new();
    for code in inner.chain(outer).flatten() {
        let code = match code {
            Value::String(code) => code.clone(),
            Value::Number(code) => code.to_string(),
            _ => continue,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=MAX_CODE_LEN).contains(&code.len()) && code.chars().all(plain) && !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes.truncate(2);
    codes
}

/// Reads the `Retry-After` header: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: &str, body: &str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_owned().into() }
    }

    fn kind(status: u16) -> ErrorKind {
        RequestError::from_response(&reply(status, "1", "")).kind
    }

    #[test]
    fn statuses_map_to_error_kinds() {
        assert!([408, 429, 502, 503, 504, 529].map(kind).iter().all(|&kind| kind == ErrorKind::Unavailable));
        assert!([500, 424].map(kind).iter().all(|&kind| kind == ErrorKind::ServerError));
        assert!([400, 413, 422].map(kind).iter().all(|&kind| kind == ErrorKind::Rejected));
        assert!(
            [301, 307, 401, 402, 403, 404, 405]
                .map(kind)
                .iter()
                .all(|&kind| kind == ErrorKind::Misconfigured)
        );
    }

    #[test]
    fn the_reason_contains_codes_but_no_messages() {
        for (body, reason) in [
            (
                r#"{"error":{"message":"secret","type":"invalid_request_error","code":"too_long"}}"#,
                " (invalid_request_error, too_long)",
            ),
            (r#"{"error":"secret","error_type":"Validation"}"#, " (Validation)"),
            (
                r#"{"object":"error","message":"secret","type":"BadRequestError","code":400}"#,
                " (BadRequestError, 400)",
            ),
            (r#"{"error":{"type":"the text was: secret","code":null}}"#, ""),
            (r#"{"error":{"type":["secret"],"code":""}}"#, ""),
            ("secret", ""),
        ] {
            assert_eq!(
                RequestError::from_response(&reply(400, "1", body)).reason,
                format!("status 400{reason}")
            );
        }
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(65));
        assert_eq!(RequestError::from_response(&reply(400, "1", &long)).reason, "status 400");
    }

    #[test]
    fn retry_after_is_in_seconds_or_a_date() {
        let pause = |value: &str| RequestError::from_response(&reply(429, value, "")).retry_after;
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("0"), Some(Duration::ZERO));
        assert_eq!(pause("18446744073709551615"), Some(MAX_RETRY_AFTER));
        assert_eq!(pause("99999999999999999999999"), None);
        assert_eq!(pause("-1"), None);
        assert_eq!(pause("soon"), None);
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause = pause(&in_a_minute).unwrap();
        assert!(pause > Duration::ZERO && pause <= Duration::from_secs(60), "{pause:?}");
    }

    #[test]
    fn retry_after_is_ignored_if_a_retry_cannot_help() {
        assert_eq!(RequestError::from_response(&reply(400, "7", "")).retry_after, None);
        assert_eq!(RequestError::from_response(&reply(401, "7", "")).retry_after, None);
    }
}
