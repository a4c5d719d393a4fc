//! Reading vectors out of the service's answer.

use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::client::Reply;
use super::failure::{Failure, Kind};

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Services that leave it out answer in order.
    index: Option<usize>,
    embedding: Vec<Option<f32>>,
}

/// The vectors for `count` texts, in the texts' order, each of length one.
pub(super) fn vectors(reply: &Reply, count: usize, dimensions: usize) -> Result<Vec<Vec<f32>>, Failure> {
    let Ok(Answer { data }) = serde_json::from_slice(&reply.body) else { return Err(unreadable(reply)) };
    let unusable = |reason: String| Failure::new(Kind::Unusable, reason);
    if data.len() != count {
        return Err(unusable(format!("it gave {} vectors for {count} texts", data.len())));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for (place, Item { index, embedding }) in data.into_iter().enumerate() {
        if embedding.len() != dimensions {
            let found = embedding.len();
            let reason = format!(
                "its vectors have {found} dimensions, not the configured {dimensions}: check dimensions"
            );
            return Err(Failure::new(Kind::Setting, reason));
        }
        let vector = of_length_one(embedding)
            .ok_or_else(|| unusable("it gave a vector without a direction".into()))?;
        match vectors.get_mut(index.unwrap_or(place)) {
            Some(slot @ None) => *slot = Some(vector),
            _ => return Err(unusable("its vectors do not say whose they are".into())),
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

/// A service that answers in JSON has met a text that it cannot handle; what answers in anything else is no such
/// service, but a proxy or a web page.
fn unreadable(reply: &Reply) -> Failure {
    let kind =
        reply.headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_lowercase());
    if kind.is_some_and(|kind| kind.contains("json")) {
        Failure::new(Kind::Unusable, "its answer cannot be read as vectors")
    } else {
        Failure::new(Kind::Setting, "its answer is not JSON: check base_url")
    }
}

fn of_length_one(embedding: Vec<Option<f32>>) -> Option<Vec<f32>> {
    let vector: Vec<f32> = embedding.into_iter().collect::<Option<_>>()?;
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    (length.is_finite() && length > 0.0)
        .then(|| vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    use super::*;

    fn read(kind: &'static str, body: &str) -> Result<Vec<Vec<f32>>, Failure> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        vectors(&Reply { status: StatusCode::OK, headers, body: body.to_owned().into() }, 2, 2)
    }

    fn kind(body: &str) -> Kind {
        read("application/json", body).unwrap_err().kind
    }

    #[test]
    fn vectors_go_where_their_index_says_and_get_length_one() {
        let body = r#"{"object":"list","data":[{"index":1,"embedding":[0,2]},{"index":0,"embedding":[3.0,-4e0]}],"usage":{}}"#;
        assert_eq!(read("application/json", body).unwrap(), [[0.6, -0.8], [0.0, 1.0]]);
        let body = r#"{"data":[{"embedding":[1,0]},{"embedding":[0,1e-30]}]}"#;
        assert_eq!(read("application/json; charset=utf-8", body).unwrap(), [[1.0, 0.0], [0.0, 1.0]]);
    }

    #[test]
    fn vectors_that_cannot_be_used_are_the_texts_affair() {
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
            assert_eq!(kind(&body), Kind::Unusable, "{second}");
        }
        assert_eq!(kind(r#"{"data":[{"index":0,"embedding":[1,0]}]}"#), Kind::Unusable);
        assert_eq!(kind(r#"{"data":[]}"#), Kind::Unusable);
        assert_eq!(kind(r#"{"error":"secret"}"#), Kind::Unusable);
    }

    #[test]
    fn vectors_of_another_length_and_web_pages_are_the_operators_affair() {
        assert_eq!(
            kind(r#"{"data":[{"index":0,"embedding":[1,0,0]},{"index":1,"embedding":[1,0,0]}]}"#),
            Kind::Setting
        );
        assert_eq!(read("text/html", "<html>secret").unwrap_err().kind, Kind::Setting);
    }

    #[test]
    fn no_reason_repeats_the_answer() {
        for body in [r#"{"data":"secret"}"#, "secret", r#"{"secret":1}"#] {
            let failure = read("application/json", body).unwrap_err();
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        }
    }

    /// What is taken is what was asked for: two vectors of two dimensions and length one.
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

    fn answer() -> impl Strategy<Value = serde_json::Value> {
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
        fn an_altered_answer_is_vectors_or_none(body in answer().prop_flat_map(guildex_test_support::damage::altered)) {
            check(&body.to_string())?;
        }

        #[test]
        fn a_damaged_answer_is_vectors_or_none(
            body in answer().prop_flat_map(|answer| guildex_test_support::damage::damaged(answer.to_string().into_bytes())),
        ) {
            check(&String::from_utf8_lossy(&body))?;
        }
    }
}
