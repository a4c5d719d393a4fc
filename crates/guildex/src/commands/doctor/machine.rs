use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use super::check::{Check, Finding, LIMIT};
use crate::app::App;

/// Free space below which the check warns, in bytes.
const MIN_FREE: u64 = 1 << 30;

pub async fn check(app: &App, file: Option<PathBuf>) -> Vec<Check> {
    let configuration = async {
        Ok(Finding::ok(match file {
            Some(file) => format!("read from {}", file.display()),
            None => {
                "no file; `guildex config` prints the values of the environment and the defaults".to_owned()
            }
        }))
    };
    let folder = app.config().data_dir.clone();
    let probe = async move { tokio::task::spawn_blocking(move || probe(&folder)).await? };
    let advice = "make data_dir (GUILDEX_DATA_DIR) writable for this user, or set it to another folder";
    vec![
        Check::run("configuration", LIMIT, "", configuration).await,
        Check::run("data folder", LIMIT, advice, probe).await,
    ]
}

/// Writes a file to the folder and removes it.
fn probe(folder: &Path) -> anyhow::Result<Finding> {
    let whole = std::path::absolute(folder).context("there is no working directory")?;
    if !whole.try_exists()? {
        let advice = "`guildex up` or `guildex init` creates it; if there should be one, correct data_dir";
        return Ok(Finding::ok(format!("{} does not exist yet", whole.display())).warn_if(true, advice));
    }
    let file = whole.join(format!(".health-{}", Uuid::new_v4()));
    let written = fs::write(&file, b"health").and_then(|()| fs::read(&file));
    let removed = fs::remove_file(&file);
    written.and(removed).with_context(|| format!("cannot write in {}", whole.display()))?;
    let free = fs4::available_space(&whole)?;
    let found = format!("{}: {} MiB free", whole.display(), free >> 20);
    Ok(Finding::ok(found)
        .warn_if(free < MIN_FREE, "free some space: jobs wait while the index cannot be written"))
}
