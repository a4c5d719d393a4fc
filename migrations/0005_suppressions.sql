-- Content that must not be stored (again). None of these tables requires that the guild is known.

-- Messages that were deleted before they were stored. Stored messages become tombstones in their own rows. Without a
-- channel, because message ids are unique.
CREATE TABLE tombstones (
    guild_id   bigint NOT NULL CHECK (guild_id > 0),
    message_id bigint NOT NULL CHECK (message_id > 0),
    PRIMARY KEY (guild_id, message_id)
);

-- Erased members, channels and guilds: messages sent at or before this time are not stored again. A channel's cutoff
-- applies to its threads; the target of a guild's cutoff is the guild.
CREATE TABLE ingest_cutoffs (
    guild_id    bigint      NOT NULL CHECK (guild_id > 0),
    scope       text        NOT NULL CHECK (scope IN ('guild', 'channel', 'member')),
    target_id   bigint      NOT NULL CHECK (target_id > 0),
    sent_before timestamptz NOT NULL,
    PRIMARY KEY (guild_id, scope, target_id)
);

-- Members and channels (with their threads) whose messages are not stored, in addition to those of the configuration.
CREATE TABLE opt_outs (
    guild_id  bigint      NOT NULL CHECK (guild_id > 0),
    scope     text        NOT NULL CHECK (scope IN ('channel', 'member')),
    target_id bigint      NOT NULL CHECK (target_id > 0),
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guild_id, scope, target_id)
);
