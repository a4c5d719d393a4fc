use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use super::check::{Check, Finding, LIMIT};
use crate::app::App;

/// Less free space than this is told, in bytes.
const LITTLE: u64 = 1 << 30;

pub async fn check(app: &App, file: Option<PathBuf>) -> Vec<Check> {
    let configuration = async {
        Ok(Finding::fine(match file {
            Some(file) => format!("read from {}", file.display()),
            None => "no file: from the environment and defaults; `guildex config` prints it".to_owned(),
        }))
    };
    let folder = app.config().data_dir.clone();
    let probe = async move { tokio::task::spawn_blocking(move || probe(&folder)).await? };
    let advice = "let this user write data_dir (GUILDEX_DATA_DIR), or set it to a folder of this user's";
    vec![
        Check::run("configuration", LIMIT, "", configuration).await,
        Check::run("data folder", LIMIT, advice, probe).await,
    ]
}

/// Writes a file into the folder and removes it.
fn probe(folder: &Path) -> anyhow::Result<Finding> {
    let whole = std::path::absolute(folder).context("there is no working directory")?;
    if !whole.try_exists()? {
        let advice = "`guildex up` or `guildex init` makes it; if there ought to be one, correct data_dir";
        return Ok(Finding::fine(format!("{} is not there yet", whole.display())).but_if(true, advice));
    }
    let file = whole.join(format!(".health-{}", Uuid::new_v4()));
    let written = fs::write(&file, b"health").and_then(|()| fs::read(&file));
    let removed = fs::remove_file(&file);
    written.and(removed).with_context(|| format!("cannot write in {}", whole.display()))?;
    let free = fs4::available_space(&whole)?;
    let found = format!("{}: {} MiB free", whole.display(), free >> 20);
    Ok(Finding::fine(found).but_if(free < LITTLE, "make room: what the index cannot write waits"))
}
