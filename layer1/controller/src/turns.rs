//! Turns of schedulers: which of two that believe they lead may record jobs. The later one; a scheduler
//! that was paused in the middle of its plan finds its turn over when it wakes.

use axum::extract::State;
use controller_api::{SCHEDULER_TURN, SchedulerTurn};
use http::HeaderMap;
use kit_http::{ApiError, Json};

use crate::change::Change;
use crate::failure::{Answer, Failure};
use crate::server::Controller;

/// `POST /scheduler-turns`
pub(crate) async fn begin(State(controller): State<Controller>) -> Answer<Json<SchedulerTurn>> {
    let client = controller.client().await?;
    // Waits for those that record a job in the turn before.
    let query = "UPDATE scheduler_turn SET turn = turn + 1 RETURNING turn";
    let turn = client.query_one(query, &[]).await?.try_get(0)?;
    Ok(Json(SchedulerTurn { turn }))
}

/// Refuses what is recorded in a turn that is over. Held to the end of the change, so that a turn which
/// begins meanwhile sees it whole.
pub(crate) async fn check(change: &Change<'_>, headers: &HeaderMap) -> Answer<()> {
    let Some(value) = headers.get(SCHEDULER_TURN) else { return Ok(()) };
    let turn: Option<i64> = value.to_str().ok().and_then(|text| text.parse().ok());
    let turn = turn.ok_or_else(|| Failure::field(SCHEDULER_TURN, "must be a number"))?;
    let query = "SELECT turn FROM scheduler_turn FOR SHARE";
    let latest: i64 = change.tx().query_one(query, &[]).await?.try_get(0)?;
    if turn == latest {
        return Ok(());
    }
    let text = format!("the scheduler's turn {turn} is over: this is turn {latest}");
    Err(ApiError::precondition_failed(text).into())
}
