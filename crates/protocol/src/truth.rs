//! Sessions and books, as `guildex_store::sessions` and `guildex_store::books` keep them.

use crate::{Config, Flaw, GuildId, Revision, State};

/// A row of `sessions`, and one of `indexed_sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its tenant.
    pub guild: GuildId,
    /// Its live messages; with none it is a tombstone.
    pub content: Content,
    /// `revision`.
    pub revision: Revision,
    /// `removed_revision`.
    pub removed_revision: Revision,
    /// What the collection holds of it.
    pub book: Option<Book>,
    /// Whether a backfill will look at it.
    pub is_asked_for: bool,
    /// What a job that is dead was claimed to reach; 0 if none is.
    pub dead: Revision,
}

/// A row of `indexed_sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Book {
    /// `point_revision`.
    pub point_revision: Revision,
    /// `indexed_revision`.
    pub indexed_revision: Revision,
    /// `content_hash`.
    pub content_hash: Option<Content>,
    /// `points`.
    pub points: u8,
}

/// What is said: a set of texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content(u8);

impl Content {
    /// The first message.
    pub const A: Self = Self(1);
    /// The first message after an edit; another makes it [`A`](Self::A) again.
    pub const B: Self = Self(2);
    /// The first message, edited until the session is too small to be indexed.
    pub const SMALL: Self = Self(4);
    /// The same, edited once more.
    pub const SMALLER: Self = Self(8);
    /// A second message.
    pub const MORE: Self = Self(16);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Whether all of these texts are in it.
    pub fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With these texts.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without these texts.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// `Eligibility::admits`.
    pub fn is_eligible(self) -> bool {
        !self.without(Self::SMALL).without(Self::SMALLER).is_none()
    }

    /// Whether it is a tombstone's.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Its chunks: one a text.
    pub fn chunks(self) -> impl Iterator<Item = Self> {
        (0..u8::BITS).map(|bit| Self(1 << bit)).filter(move |text| self.holds(*text))
    }
}

/// What `sessions::load` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Read {
    pub(crate) revision: Revision,
    pub(crate) content: Content,
    pub(crate) book: Option<Book>,
}

impl Session {
    /// `sessions::load`; none if the guild has no such session.
    pub(crate) fn load(&self, config: &Config, guild: GuildId) -> Option<Read> {
        let is_theirs = self.guild == guild || config.has(Flaw::LoadOfAnyGuild);
        is_theirs.then_some(Read { revision: self.revision, content: self.content, book: self.book })
    }

    /// `sessions::begin_rewrite`: whether it still is at the revision that was read.
    pub(crate) fn begin_rewrite(&mut self, config: &Config, revision: Revision) -> bool {
        let is_current = self.revision == revision || config.has(Flaw::RewriteOfAnyRevision);
        if let Some(book) = self.book.as_mut().filter(|_| is_current && !config.has(Flaw::HashKept)) {
            book.content_hash = None;
        }
        is_current
    }

    /// `books::void`, in the transaction of a deletion.
    pub(crate) fn void(&mut self) {
        if let Some(book) = &mut self.book {
            book.content_hash = None;
        }
    }

    /// `sessions::record`: none takes the session out of the books.
    pub(crate) fn record(&mut self, config: &Config, revision: Revision, book: Option<Book>) {
        let is_current = self.revision == revision || config.has(Flaw::RecordOfAnyRevision);
        if is_current && (book.is_none() || !self.content.is_none()) {
            self.book = book;
        } else if let Some(book) = book.filter(|book| self.is_worth_recording(config, book)) {
            self.book = Some(Book {
                content_hash: book.content_hash.filter(|_| config.has(Flaw::HashOfOlder)),
                ..book
            });
        }
    }

    /// Whether points that were written show the session as it was at an earlier revision, and nothing was removed from
    /// it since.
    fn is_worth_recording(&self, config: &Config, new: &Book) -> bool {
        let is_known = self.book.is_some_and(|book| book.indexed_revision >= new.indexed_revision);
        new.point_revision == new.indexed_revision
            && (self.removed_revision <= new.indexed_revision || config.has(Flaw::RecordOfRemoved))
            && (!is_known || config.has(Flaw::RecordOfKnown))
            && !self.content.is_none()
    }

    /// What `sessions::missing` looks for.
    pub(crate) fn is_missing(&self) -> bool {
        self.content.is_eligible() && self.book.is_none_or(|book| book.indexed_revision != self.revision)
    }

    /// What `search::admitted` says of a hit.
    pub(crate) fn admits(&self, config: &Config, guild: GuildId, point_revision: Revision) -> bool {
        let (any, removed, dead) =
            (config.has(Flaw::ShowsAnyPoint), config.has(Flaw::ShowsRemoved), config.has(Flaw::ShowsDead));
        self.guild == guild
            && (!self.content.is_none() || dead)
            && self.book.is_some_and(|book| {
                (book.point_revision == point_revision || any)
                    && (book.indexed_revision >= self.removed_revision || removed)
            })
    }
}

impl State {
    /// `sessions::touch`, in the transaction of a change.
    pub(crate) fn touch(
        &mut self,
        config: &Config,
        session: usize,
        content: Content,
        removed: bool,
    ) -> Option<Revision> {
        let next = self.next_revision();
        let touched = self.sessions.get_mut(session)?;
        touched.content = content;
        if !(content.is_none() && config.has(Flaw::TombstoneWithoutRevision)) {
            touched.revision = next;
        }
        if removed && !config.has(Flaw::RemovalNotNoted) {
            touched.removed_revision = touched.revision;
        }
        Some(touched.revision)
    }
}
