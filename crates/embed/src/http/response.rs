//! Reads vectors from a response of the API.

use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

use super::client::Reply;
use super::error::{ErrorKind, RequestError};

#[derive(Deserialize)]
struct EmbeddingsResponse {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// APIs that omit it return vectors in order.
    index: Option<usize>,
    embedding: Vec<Option<f32>>,
}

/// Returns the vectors of `count` texts in the order of the texts, each of length one.
pub(super) fn vectors(reply: &Reply, count: usize, dimensions: usize) -> Result<Vec<Vec<f32>>, RequestError> {
    let Ok(EmbeddingsResponse { data }) = serde_json::from_slice(&reply.body) else {
        return Err(unreadable(reply));
    };
    let invalid = |reason: String| RequestError::new(ErrorKind::InvalidResponse, reason);
    if data.len() != count {
        return Err(invalid(format!("the response has {} vectors for {count} texts", data.len())));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for (place, Item { index, embedding }) in data.into_iter().enumerate() {
        if embedding.len() != dimensions {
            let found = embedding.len();
            let reason = format!(
                "the vectors have {found} dimensions, not the configured {dimensions}: check dimensions"
            );
            return Err(RequestError::new(ErrorKind::Misconfigured, reason));
        }
        let vector = normalized(embedding).ok_or_else(|| {
            invalid("the response has a vector of length zero or with invalid numbers".into())
        })?;
        match vectors.get_mut(index.unwrap_or(place)) {
            Some(slot @ None) => *slot = Some(vector),
            _ => return Err(invalid("the indexes of the vectors are invalid".into())),
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

/// Classifies a response that cannot be parsed. JSON comes from an API that cannot handle a text; anything else comes from
/// a proxy or a web page.
fn unreadable(reply: &Reply) -> RequestError {
    let kind =
        reply.headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_lowercase());
    if kind.is_some_and(|kind| kind.contains("json")) {
        RequestError::new(ErrorKind::InvalidResponse, "the response does not contain vectors")
    } else {
        RequestError::new(ErrorKind::Misconfigured, "the response is not JSON: check base_url")
    }
}

fn normalized(embedding: Vec<Option<f32>>) -> Option<Vec<f32>> {
    let vector: Vec<f32> = embedding.into_iter().collect::<Option<_>>()?;
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    (length.is_finite() && length > 0.0)
        .then(|| vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;

    use super::*;

    fn read(kind: &'static str, body: &str) -> Result<Vec<Vec<f32>>, RequestError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        vectors(&Reply { status: StatusCode::OK, headers, body: body.to_owned().into() }, 2, 2)
    }

    fn kind(body: &str) -> ErrorKind {
        read("application/json", body).unwrap_err().kind
    }

    #[test]
    fn vectors_are_ordered_by_index_and_normalized() {
        let body = r#"{"object":"list","data":[{"index":1,"embedding":[0,2]},{"index":0,"embedding":[3.0,-4e0]}],"usage":{}}"#;
        assert_eq!(read("application/json", body).unwrap(), [[0.6, -0.8], [0.0, 1.0]]);
        let body = r#"{"data":[{"embedding":[1,0]},{"embedding":[0,1e-30]}]}"#;
        assert_eq!(read("application/json; charset=utf-8", body).unwrap(), [[1.0, 0.0], [0.0, 1.0]]);
    }

    #[test]
    fn unusable_vectors_are_an_invalid_response() {
        for second in [
            r#"{"index":0,"embedding":[1,0]}"#,
            r#"{"index":2,"embedding":[1,0]}"#,
            r#"{"index":1,"embedding":[1,null]}"#,
            r#"{"index":1,"embedding":[1,1e39]}"#,
            r#"{"index":1,"embedding":[0,0]}"#,
            r#"{"index":1,"embedding":[NaN,0]}"#,
            r#"{"index":-1,"embedding":[1,0]}"#,
            r#"{"index":1,"embedding":"AACAPw=="}"#,
            r#"{"index":1}"#,
        ] {
            let body = format!(r#"{{"data":[{{"index":0,"embedding":[1,0]}},{second}]}}"#);
            assert_eq!(kind(&body), ErrorKind::InvalidResponse, "{second}");
        }
        assert_eq!(kind(r#"{"data":[{"index":0,"embedding":[1,0]}]}"#), ErrorKind::InvalidResponse);
        assert_eq!(kind(r#"{"data":[]}"#), ErrorKind::InvalidResponse);
        assert_eq!(kind(r#"{"error":"secret"}"#), ErrorKind::InvalidResponse);
    }

    #[test]
    fn wrong_dimensions_and_web_pages_are_a_configuration_error() {
        assert_eq!(
            kind(r#"{"data":[{"index":0,"embedding":[1,0,0]},{"index":1,"embedding":[1,0,0]}]}"#),
            ErrorKind::Misconfigured
        );
        assert_eq!(read("text/html", "<html>secret").unwrap_err().kind, ErrorKind::Misconfigured);
    }

    #[test]
    fn reasons_do_not_repeat_the_response() {
        for body in [r#"{"data":"secret"}"#, "secret", r#"{"secret":1}"#] {
            let failure = read("application/json", body).unwrap_err();
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        }
    }

    /// Accepted responses have two vectors of two dimensions and length one.
    fn check(body: &str) -> Result<(), TestCaseError> {
        if let Ok(vectors) = read("application/json", body) {
            prop_assert_eq!(vectors.len(), 2);
            for vector in vectors {
                prop_assert_eq!(vector.len(), 2);
                let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
            }
        }
        Ok(())
    }

    fn response() -> impl Strategy<Value = serde_json::Value> {
        (any::<[f32; 4]>(), any::<bool>()).prop_map(|([a, b, c, d], swapped)| {
            let (one, other) = if swapped { (1, 0) } else { (0, 1) };
            serde_json::json!({"object": "list", "model": "m", "usage": {"total_tokens": 7}, "data": [
                {"object": "embedding", "index": one, "embedding": [a, b]},
                {"object": "embedding", "index": other, "embedding": [c, d]},
            ]})
        })
    }

    proptest! {
        #[test]
        fn an_altered_response_is_valid_or_rejected(body in response().prop_flat_map(guildex_test_support::damage::altered)) {
            check(&body.to_string())?;
        }

        #[test]
        fn a_damaged_response_is_valid_or_rejected(
            body in response().prop_flat_map(|response| guildex_test_support::damage::damaged(response.to_string().into_bytes())),
        ) {
            check(&String::from_utf8_lossy(&body))?;
        }
    }
}
