//! Content of a session.

/// Set of message texts, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content(u8);

impl Content {
    /// First message.
    pub const A: Self = Self(1);
    /// First message after an edit; another edit restores [`A`](Self::A).
    pub const B: Self = Self(2);
    /// First message, edited until the session is too small to be indexed.
    pub const SMALL: Self = Self(4);
    /// First message, edited again while the session is too small.
    pub const SMALLER: Self = Self(8);
    /// Second message.
    pub const MORE: Self = Self(16);
    /// No message.
    pub const NONE: Self = Self(0);

    /// Returns whether it includes all texts of `other`.
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds texts.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Removes texts.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns whether a session with this content is indexed (`Eligibility::admits`).
    pub fn is_eligible(self) -> bool {
        !self.without(Self::SMALL).without(Self::SMALLER).is_empty()
    }

    /// Returns whether it has no text, as in a tombstone.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Iterates over its chunks; each text is one chunk.
    pub fn chunks(self) -> impl Iterator<Item = Self> {
        (0..u8::BITS).map(|bit| Self(1 << bit)).filter(move |text| self.includes(*text))
    }
}
