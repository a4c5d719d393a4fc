use guildex_producer::eval;

use super::print;
use crate::app::App;
use crate::cli::EvalSessions;

/// Scores the sessionizer against marked conversations.
pub async fn sessions(app: &App, args: EvalSessions) -> anyhow::Result<()> {
    let rules = app.config().sessions.rules();
    let report =
        tokio::task::spawn_blocking(move || eval::evaluate(&args.exports, &args.gold, &rules)).await??;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(())
}
