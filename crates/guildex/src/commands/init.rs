use std::process::ExitCode;

use guildex_consistency::ownership::{ensure_owned, model_collection, recreate};
use guildex_index::VectorIndex;
use guildex_producer::Ingest;
use guildex_store::models::{self, IndexModel, ModelState};

use super::print;
use crate::app::App;
use crate::cli::Init;
use crate::startup;

/// Creates and updates the collections of all models, or only reports how they differ.
pub async fn run(app: &App, args: Init) -> anyhow::Result<ExitCode> {
    let pool = app.connect().await?;
    if args.check {
        guildex_store::check_schema(&pool).await?;
    } else {
        guildex_store::migrate(&pool).await?;
    }
    let index = if args.check { startup::existing_index(app).await? } else { startup::index(app).await? };
    startup::active_model(app, &pool).await?;
    let ingest = app.ingest(pool.clone());
    let mut matches = true;
    for model in models::list(&pool).await? {
        if model.state != ModelState::Dropping {
            matches &= one(app, &args, &ingest, index.as_ref(), &model).await?;
        }
    }
    Ok(if matches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns whether the model's collection has the right settings.
async fn one(
    app: &App,
    args: &Init,
    ingest: &Ingest,
    index: &dyn VectorIndex,
    model: &IndexModel,
) -> anyhow::Result<bool> {
    let base = &app.config().index.collection_prefix;
    let collection = model_collection(base, model)?;
    let name = &collection.name;
    if args.recreate {
        let lost = recreate(ingest, index, base, model).await?;
        print(&format!("{name}: recreated; {lost} sessions will be indexed again\n"))?;
        return Ok(true);
    }
    if !args.check {
        ensure_owned(ingest, index, base, model).await?;
        index.update_in_place(&collection).await?;
    }
    let differences = match index.differences(&collection).await {
        Err(guildex_index::Error::NoCollection(_)) => {
            print(&format!("{name}: missing; `guildex init` creates it\n"))?;
            return Ok(false);
        }
        differences => differences?,
    };
    if differences.is_empty() {
        print(&format!("{name}: ok\n"))?;
    }
    for difference in &differences {
        let remedy = match (difference.fatal, args.check) {
            (true, _) => "`guildex init --recreate` recreates it",
            (false, true) => "`guildex init` fixes it",
            (false, false) => "it cannot be changed in place; `guildex init --recreate` recreates it",
        };
        print(&format!("{name}: {difference}: {remedy}\n"))?;
    }
    Ok(differences.is_empty())
}
