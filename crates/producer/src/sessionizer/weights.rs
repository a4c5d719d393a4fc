//! Weights of the linear score.
//!
//! They are those of a conditional logit (McFadden 1974): among the sessions that a turn may join, and a new one,
//! the probability of the right one grows with its score. They are fitted on `train` of irc-disentanglement (Kummerfeld et
//! al., ACL 2019), 59,217 annotated messages, with sessions as the sessionizer itself had made them so far (DAgger: Ross et
//! al., AISTATS 2011), so that they account for its mistakes. `docs/sessions.md` has the details.

/// Weight of each feature, in hundredths of log-odds. A boolean feature counts once; an amount counts
/// `log2(1 + amount)` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The author's latest turn is in the session.
    pub own: i64,
    /// The author wrote in the session, and in another one since.
    pub own_before: i64,
    /// The author started the session.
    pub own_started: i64,
    /// The latest turn of a mentioned member is in the session.
    pub mentioned: i64,
    /// A mentioned member wrote in the session, and in another one since.
    pub mentioned_before: i64,
    /// A mentioned member started the session.
    pub mentioned_started: i64,
    /// The latest turn that mentions the author is in the session.
    pub addressed: i64,
    /// The latest turn of the session mentions the author.
    pub to_author: i64,
    /// The latest turn of the session is by another member and mentions only others.
    pub to_others: i64,
    /// Amount: turns in the channel since the latest one of the session.
    pub turns: i64,
    /// Amount: minutes since the latest turn of the session.
    pub minutes: i64,
    /// Constant of a new session.
    pub start: i64,
    /// Amount, for a new session: minutes since the last turn of the channel.
    pub pause: i64,
    /// Amount, for a new session: sessions active in the last five minutes.
    pub busy: i64,
    /// For a new session: the author started the session of their latest turn.
    pub starter: i64,
}

/// Weights by the kind of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// The turn mentions a member.
    pub mentioning: Weights,
    /// The turn has no mention and its author wrote within the lookback.
    pub active_author: Weights,
    /// The turn has no mention and its author did not write within the lookback.
    pub new_author: Weights,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            mentioning: Weights {
                own: 119,
                own_before: 134,
                own_started: 166,
                mentioned: 253,
                mentioned_before: 234,
                mentioned_started: 153,
                addressed: -27,
                to_author: 34,
                to_others: -1,
                turns: -13,
                minutes: -56,
                start: 167,
                pause: -75,
                busy: 14,
                starter: -26,
            },
            active_author: Weights {
                own: 199,
                own_before: 199,
                own_started: 72,
                mentioned: 0,
                mentioned_before: 0,
                mentioned_started: 0,
                addressed: 31,
                to_author: 55,
                to_others: -40,
                turns: -39,
                minutes: -32,
                start: 23,
                pause: 5,
                busy: 15,
                starter: 27,
            },
            new_author: Weights {
                own: 0,
                own_before: 0,
                own_started: 0,
                mentioned: 0,
                mentioned_before: 0,
                mentioned_started: 0,
                addressed: 166,
                to_author: 137,
                to_others: -49,
                turns: -53,
                minutes: -46,
                start: 138,
                pause: 42,
                busy: 41,
                starter: 0,
            },
        }
    }
}
