//! Methods of calling a model.

use std::fmt;
use std::str::FromStr;

/// Method of calling a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbedMethod {
    /// Guildex's embedder with this number of single-threaded instances.
    Ours(usize),
    /// fastembed with all cores and all texts in one call, in batches of this size.
    Fastembed(usize),
    /// No model: the model's matrix products on this number of threads.
    Gemm(usize),
}

/// Default batch size of fastembed.
pub(super) const DEFAULT_BATCH: usize = 256;

impl fmt::Display for EmbedMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(threads) => write!(f, "ours:{threads}"),
            Self::Fastembed(batch) => write!(f, "fastembed:{batch}"),
            Self::Gemm(threads) => write!(f, "gemm:{threads}"),
        }
    }
}

impl FromStr for EmbedMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text} is not a method of calling a model");
        let (name, number) = text.split_once(':').ok_or_else(unknown)?;
        let number = number.parse().map_err(|_| unknown())?;
        match name {
            "ours" => Ok(Self::Ours(number)),
            "fastembed" => Ok(Self::Fastembed(number)),
            "gemm" => Ok(Self::Gemm(number)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_parses_from_its_text() {
        for method in [EmbedMethod::Ours(2), EmbedMethod::Fastembed(256), EmbedMethod::Gemm(1)] {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        assert!("ours".parse::<EmbedMethod>().is_err() && "theirs:1".parse::<EmbedMethod>().is_err());
    }
}
