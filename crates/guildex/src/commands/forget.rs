use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use guildex_store::erasures::{self, Erasure, Target};
use guildex_store::suppressions::Subject;
use guildex_types::{ChannelId, GuildId, UserId};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::backfill::Stall;
use super::print;
use crate::app::App;
use crate::cli::{Forget, OptIn, OptOut, Waiting};
use crate::progress::{Progress, Unit};
use crate::shutdown;

const POLL: Duration = Duration::from_millis(250);
/// Time without progress after which a hint is logged.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Deletes messages, waits until their last point is deleted, and prints the receipt.
pub async fn run(app: &App, args: Forget) -> anyhow::Result<ExitCode> {
    let Forget { guild, user, messages, channel, all, waiting } = args;
    let target = match (user, channel) {
        (Some(member), _) => Target::Member { member },
        (_, Some(channel)) => Target::Channel { channel },
        _ if all => Target::Guild,
        _ => Target::Messages { messages },
    };
    if !confirmed(guild, &target, &waiting).await? {
        return Ok(ExitCode::FAILURE);
    }
    let stop = shutdown::on_signal()?;
    let ingest = app.ingest(app.database().await?);
    let erasure = ingest.erase(guild, target).await?;
    finish(ingest.pool(), erasure, &waiting, &stop).await
}

/// Stops storing the messages of a member or channel, and deletes the stored ones as [`run`] does.
pub async fn opt_out(app: &App, args: OptOut) -> anyhow::Result<ExitCode> {
    let OptOut { guild, user, channel, waiting } = args;
    let (subject, target) = subject_and_target(user, channel)?;
    if !confirmed(guild, &target, &waiting).await? {
        return Ok(ExitCode::FAILURE);
    }
    let stop = shutdown::on_signal()?;
    let ingest = app.ingest(app.database().await?);
    let erasure = ingest.opt_out(guild, subject).await?;
    finish(ingest.pool(), erasure, &waiting, &stop).await
}

/// Ends an opt-out.
pub async fn opt_in(app: &App, args: OptIn) -> anyhow::Result<()> {
    let OptIn { guild, user, channel } = args;
    let (subject, target) = subject_and_target(user, channel)?;
    let ingest = app.ingest(app.database().await?);
    let ended = ingest.opt_in(guild, subject).await?;
    let note = if ended { "new messages are stored again" } else { "was not opted out by `guildex opt-out`" };
    print(&format!("{} of guild {guild}: {note}\n", name(&target)))
}

fn subject_and_target(user: Option<UserId>, channel: Option<ChannelId>) -> anyhow::Result<(Subject, Target)> {
    match (user, channel) {
        (Some(member), _) => Ok((Subject::Member(member), Target::Member { member })),
        (None, Some(channel)) => Ok((Subject::Channel(channel), Target::Channel { channel })),
        (None, None) => bail!("name --user or --channel"),
    }
}

/// Asks for confirmation on a terminal. Without one, only a whole guild needs `--yes`.
async fn confirmed(guild: GuildId, target: &Target, waiting: &Waiting) -> anyhow::Result<bool> {
    if waiting.yes || matches!(target, Target::Messages { .. }) {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        if *target == Target::Guild {
            bail!("deleting everything of guild {guild} cannot be undone: pass --yes to confirm");
        }
        return Ok(true);
    }
    let question = format!("Forget {} of guild {guild}? This cannot be undone. [y/N] ", name(target));
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        std::io::stderr().write_all(question.as_bytes())?;
        std::io::stdin().read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    })
    .await?
    .context("cannot ask for confirmation: pass --yes")?;
    let is_confirmed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_confirmed {
        tracing::warn!("not confirmed; no messages were deleted");
    }
    Ok(is_confirmed)
}

async fn finish(
    pool: &PgPool,
    erasure: Erasure,
    waiting: &Waiting,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let erasure = if waiting.detach { erasure } else { wait(pool, erasure, stop).await? };
    let receipt = if waiting.json {
        format!("{}\n", serde_json::to_string_pretty(&erasure)?)
    } else {
        receipt(&erasure)
    };
    print(&receipt)?;
    let stopped = erasure.completed_at.is_none() && !waiting.detach;
    Ok(if stopped { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Waits until the erasure's jobs are finished, or until `stop`; returns its last state.
async fn wait(pool: &PgPool, erasure: Erasure, stop: &CancellationToken) -> anyhow::Result<Erasure> {
    if erasure.completed_at.is_some() {
        return Ok(erasure);
    }
    tracing::info!("deleted from searches; waiting for workers to remove the points");
    let mut progress = Progress::new("forgetting", Unit::Things("jobs"), 0);
    let (mut most, mut stall) = (0, Stall::after(STALL_TIMEOUT));
    loop {
        erasures::settle(pool).await?;
        let now = erasures::progress(pool, erasure.guild_id, erasure.id).await?;
        let now = now.context("the receipt has been deleted")?;
        most = most.max(now.jobs);
        if now.erasure.completed_at.is_some() {
            progress.update(most, most, "");
            progress.finish("done");
            return Ok(now.erasure);
        }
        progress.update(most - now.unfinished.min(most), most, "");
        stall.watch(now.unfinished);
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("stopped waiting; workers continue");
                return Ok(now.erasure);
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Formats the receipt.
fn receipt(erasure: &Erasure) -> String {
    let Erasure { id, guild_id, target, messages, sessions, points, asked_at, completed_at } = erasure;
    let completed = completed_at.map_or_else(|| "not yet".to_owned(), time);
    format!(
        "forgotten  {} of guild {guild_id}\n\
         messages   {messages}\n\
         sessions   {sessions}\n\
         points     {points}\n\
         asked      {}\n\
         completed  {completed}\n\
         receipt    {id}\n",
        name(target),
        time(*asked_at),
    )
}

fn name(target: &Target) -> String {
    match target {
        Target::Messages { messages } => match messages.as_slice() {
            [message] => format!("message {message}"),
            many => format!("{} messages", many.len()),
        },
        Target::Member { member } => format!("member {member}"),
        Target::Channel { channel } => format!("channel {channel}"),
        Target::Guild => "everything".to_owned(),
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
