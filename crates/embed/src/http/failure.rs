//! What a service's refusal means, and who is to mend it.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::client::Reply;

/// The longest that a service is left alone because it asked for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most characters of a service's own words for an error.
const LONGEST_CODE: usize = 64;

/// Why a request gave no vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// For people. It never holds the texts, not even where the service repeats them.
    pub(super) reason: String,
    /// When the service wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The service is busy or away, which passes.
    Away,
    /// The service broke down, by itself or over these texts.
    Broken,
    /// The service does not take the request: these texts, or any.
    Refused,
    /// The operator has to mend something.
    Setting,
    /// The answer has no vectors that can be used for these texts.
    Unusable,
}

impl Kind {
    /// Whether the same request may do better later.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Away | Self::Broken)
    }
}

impl Failure {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), retry_after: None }
    }

    /// What an answer other than success means.
    pub(super) fn of(reply: &Reply) -> Self {
        let status = reply.status;
        let said = match codes(&reply.body) {
            codes if codes.is_empty() => format!("it answered {}", status.as_u16()),
            codes => format!("it answered {} ({})", status.as_u16(), codes.join(", ")),
        };
        let kind = match status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::FAILED_DEPENDENCY => Kind::Broken,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Kind::Refused
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Kind::Away,
            status if status.is_server_error() => Kind::Away,
            _ => Kind::Setting,
        };
        let reason = match (kind, status) {
            (Kind::Setting, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("{said}: check api_key")
            }
            (Kind::Setting, _) => format!("{said}: check base_url and model"),
            _ => said,
        };
        Self { kind, reason, retry_after: kind.may_pass().then(|| retry_after(&reply.headers)).flatten() }
    }
}

/// The service's codes for what is wrong. Its messages are left out, since they may repeat the texts, and so is
/// every code that does not look like one.
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
        if (1..=LONGEST_CODE).contains(&code.len()) && code.chars().all(plain) && !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes.truncate(2);
    codes
}

/// The pause that the service asks for: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: &str, body: &str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_owned().into() }
    }

    fn kind(status: u16) -> Kind {
        Failure::of(&reply(status, "1", "")).kind
    }

    #[test]
    fn each_status_says_whose_fault_it_is() {
        assert!([408, 429, 502, 503, 504, 529].map(kind).iter().all(|&kind| kind == Kind::Away));
        assert!([500, 424].map(kind).iter().all(|&kind| kind == Kind::Broken));
        assert!([400, 413, 422].map(kind).iter().all(|&kind| kind == Kind::Refused));
        assert!([301, 307, 401, 402, 403, 404, 405].map(kind).iter().all(|&kind| kind == Kind::Setting));
    }

    #[test]
    fn the_reason_has_the_services_codes_and_none_of_its_words() {
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
            assert_eq!(Failure::of(&reply(400, "1", body)).reason, format!("it answered 400{reason}"));
        }
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(65));
        assert_eq!(Failure::of(&reply(400, "1", &long)).reason, "it answered 400");
    }

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date() {
        let pause = |value: &str| Failure::of(&reply(429, value, "")).retry_after;
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("0"), Some(Duration::ZERO));
        assert_eq!(pause("18446744073709551615"), Some(LONGEST_PAUSE));
        assert_eq!(pause("99999999999999999999999"), None);
        assert_eq!(pause("-1"), None);
        assert_eq!(pause("soon"), None);
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause = pause(&in_a_minute).unwrap();
        assert!(pause > Duration::ZERO && pause <= Duration::from_secs(60), "{pause:?}");
    }

    #[test]
    fn a_pause_means_something_only_where_waiting_helps() {
        assert_eq!(Failure::of(&reply(400, "7", "")).retry_after, None);
        assert_eq!(Failure::of(&reply(401, "7", "")).retry_after, None);
    }
}
