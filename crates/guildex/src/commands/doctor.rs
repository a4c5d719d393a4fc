use std::process::ExitCode;
use crate::app::App;
use crate::cli::Doctor;
pub async fn run(_app: &App, _args: Doctor) -> anyhow::Result<ExitCode> { Ok(ExitCode::SUCCESS) }
