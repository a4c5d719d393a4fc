//! An error with its causes.

use std::error::Error;
use std::fmt;

/// Displays an error followed by its sources, separated by `: `. A source whose text is already there is left
/// out.
///
/// ```
/// # use guildex_types::ErrorChain;
/// let error = "x".parse::<u8>().unwrap_err();
/// assert_eq!(ErrorChain(&error).to_string(), "invalid digit found in string");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for source in std::iter::successors(self.0.source(), |&error| error.source()) {
            let source = source.to_string();
            if !text.contains(&source) {
                text.push_str(": ");
                text.push_str(&source);
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn displayed(texts: &[&'static str]) -> String {
        let chain = texts.iter().rev().fold(None, |source, &text| Some(Box::new(Link { text, source })));
        ErrorChain(&*chain.unwrap()).to_string()
    }

    #[test]
    fn causes_follow_the_error() {
        assert_eq!(displayed(&["no connection"]), "no connection");
        assert_eq!(
            displayed(&["cannot load", "no file", "access denied"]),
            "cannot load: no file: access denied"
        );
    }

    #[test]
    fn a_cause_is_not_repeated() {
        assert_eq!(
            displayed(&["cannot load: no file", "no file", "os error 2"]),
            "cannot load: no file: os error 2"
        );
    }
}
