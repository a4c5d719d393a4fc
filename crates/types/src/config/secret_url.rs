//! Connection URLs, which hold passwords.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// Query parameters that are shown; any other may be a password, or a part of one.
const SHOWN: [&str; 6] = ["application_name", "db", "dbname", "protocol", "sslmode", "sslrootcert"];

/// A connection URL. `Display`, `Debug` and `Serialize` hide its password and all query parameters that are
/// not known to be harmless; [`expose`](Self::expose) returns the whole URL.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

/// Error of a text that is not a connection URL. The message holds no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// The text does not parse as a URL.
    #[error("not a URL ({0}): write scheme://user:password@host:port/name, special characters as %XX")]
    Syntax(#[from] url::ParseError),
    /// The URL has no address to connect to.
    #[error("not a connection URL: write scheme://user:password@host:port/name")]
    NoAddress,
    /// An unescaped special character ends the password too early, so the rest may be a part of the password.
    #[error("it holds an unescaped special character: write @ as %40, / as %2F, ? as %3F and # as %23")]
    Unescaped,
}

impl SecretUrl {
    /// The whole URL with its password, for the client that connects.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The whole URL with its password, parsed.
    pub fn expose_url(&self) -> &Url {
        &self.0
    }

    /// The part before `://`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }
}

impl FromStr for SecretUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text.trim())?;
        if url.cannot_be_a_base() {
            return Err(InvalidUrl::NoAddress);
        }
        let rest = [url.path(), url.query().unwrap_or_default(), url.fragment().unwrap_or_default()];
        // The only fragment in use is Redis' `#insecure`.
        let fragment_fits = matches!(url.fragment(), None | Some("insecure"));
        if fragment_fits && rest.iter().all(|part| !part.contains('@')) {
            Ok(Self(url))
        } else {
            Err(InvalidUrl::Unescaped)
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "{}://", url.scheme())?;
        match (url.username(), url.password()) {
            ("", None) => {}
            // A name without a password may be a token.
            (_, None) => f.write_str("***@")?,
            (name, Some(_)) => write!(f, "{name}:***@")?,
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        let pairs = url.query().into_iter().flat_map(|query| query.split('&'));
        for (i, pair) in pairs.enumerate() {
            let harmless = pair.split_once('=').is_some_and(|(name, _)| SHOWN.contains(&name));
            write!(f, "{}{}", if i == 0 { '?' } else { '&' }, if harmless { pair } else { "***" })?;
        }
        url.fragment().map_or(Ok(()), |fragment| write!(f, "#{fragment}"))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        url.parse::<SecretUrl>().unwrap().to_string()
    }

    #[test]
    fn possible_secrets_are_hidden() {
        for (url, expected) in [
            ("postgres://me:pw@db:5433/guildex", "postgres://me:***@db:5433/guildex"),
            ("postgres://me:p@ss@db/x", "postgres://me:***@db/x"),
            ("postgres://db/x?password=pw&sslmode=require", "postgres://db/x?***&sslmode=require"),
            ("postgres://db/x?%70assword=pw&half", "postgres://db/x?***&***"),
            ("postgres:///x?host=/run/postgresql", "postgres:///x?***"),
            ("redis://:pw@[::1]:6380/3", "redis://:***@[::1]:6380/3"),
            ("redis://token@cache", "redis://***@cache"),
            ("rediss://cache/#insecure", "rediss://cache/#insecure"),
            (" redis://cache\n", "redis://cache"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn an_unescaped_password_is_rejected() {
        for url in [
            "postgres://me:1/2@db/x",
            "postgres://me:1?2@db/x",
            "redis://me:1#2@db",
            "redis://h?password=1#2",
        ] {
            assert_eq!(url.parse::<SecretUrl>(), Err(InvalidUrl::Unescaped), "{url}");
        }
        assert_eq!("postgres:x".parse::<SecretUrl>(), Err(InvalidUrl::NoAddress));
        assert!(matches!("localhost".parse::<SecretUrl>(), Err(InvalidUrl::Syntax(_))));
    }

    #[test]
    fn expose_returns_the_url_as_given() {
        let url = "postgres://me:p%40ss@db:5433/guildex?password=x&sslmode=require";
        assert_eq!(url.parse::<SecretUrl>().unwrap().expose(), url);
    }
}
