//! `flynn version`.

use crate::context::Context;
use crate::failure::Outcome;

/// Show the version
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn version")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &mut Context<'_>) -> Outcome {
    context.say(crate::VERSION)
}
