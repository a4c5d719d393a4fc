//! A [`SecretString`] that may be unset. It is written as `***`.

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer};
use serde::ser::Serializer;

/// Writes `***`, or an empty text if the secret is not set.
pub fn serialize<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_some() { "***" } else { "" })
}

/// Reads a secret without the white space around it, or an empty text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(SecretString::from))
}
