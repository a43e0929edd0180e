//! `flynn git-credentials`: what git runs to learn the key of a cluster.

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Answer git's question for the key of a cluster
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn git-credentials <operation>")]
pub(crate) struct Args {
    /// What git wants: only `get` is answered
    operation: String,
}

/// Most bytes of a question that are read.
const MAX_QUESTION: u64 = 64 << 10;

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    if args.operation != "get" {
        return Ok(());
    }
    let (protocol, host) = question(context)?;
    if protocol != "https" {
        return Ok(());
    }
    let rc = context.rc()?;
    match rc.clusters.iter().find(|cluster| cluster.git_host() == Some(host.as_str())) {
        Some(cluster) => context
            .print(&format!("protocol=https\nusername=user\nhost={host}\npassword={}\n", cluster.key)),
        None => Ok(()),
    }
}

/// `key=value` lines up to an empty one.
fn question(context: &mut Context<'_>) -> Result<(String, String), Failure> {
    use std::io::{BufRead as _, Read as _};
    let (mut protocol, mut host) = (String::new(), String::new());
    for line in (&mut context.streams.input).take(MAX_QUESTION).lines() {
        let line = line.map_err(Failure::io("could not read git's question"))?;
        match line.split_once('=') {
            Some(("protocol", value)) => value.clone_into(&mut protocol),
            Some(("host", value)) => value.clone_into(&mut host),
            Some(_) => {}
            None => break,
        }
    }
    Ok((protocol, host))
}
