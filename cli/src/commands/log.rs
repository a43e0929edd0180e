//! `flynn log`: what the app's processes print. A log that is followed is asked for again when it ends,
//! as it does when its aggregator or the controller is replaced.

mod seen;

use std::time::Duration;

use futures_util::StreamExt as _;
use kit_http::ClientError;
use serde::Deserialize;
use tokio::time::Instant;

use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use self::seen::Seen;

/// Show the app's log
#[derive(Debug, clap::Parser)]
#[command(override_usage = "flynn log [-f] [-j <id>] [-n <lines>] [-r] [-s] [-t <type>] [-i]")]
pub(crate) struct Args {
    /// Go on with new lines
    #[arg(short, long)]
    follow: bool,
    /// Only this job's
    #[arg(short, long)]
    job: Option<String>,
    /// So many lines at most
    #[arg(short, long, allow_hyphen_values = true)]
    number: Option<String>,
    /// The text alone
    #[arg(short, long)]
    raw_output: bool,
    /// What was printed to stderr goes to stderr
    #[arg(short, long)]
    split_stderr: bool,
    /// Only this process type's; empty for one-off jobs
    #[arg(short = 't', long)]
    process_type: Option<String>,
    /// What the containers' init says too, on stderr
    #[arg(short, long)]
    init: bool,
}

/// A line as the log aggregator tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    job_id: String,
    msg: String,
    process_type: String,
    source: String,
    stream: String,
    timestamp: Option<chrono::DateTime<chrono::FixedOffset>>,
}

/// The longest line read, far above what the aggregator cuts at.
const MAX_LINE: usize = 1 << 20;

/// As many as an aggregator keeps of an app. Without a number, whoever follows gets new ones only.
const ALL_LINES: &str = "10000";

/// How long a log that ended is asked for again, and how often.
const AGAIN_FOR: Duration = Duration::from_secs(300);
const AGAIN_PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut told = Told { args, seen: Seen::default(), first: None };
    let end = told.read(&controller, &app, context).await?;
    if !told.args.follow {
        return end.map_err(Failure::from);
    }
    let mut give_up = Instant::now() + AGAIN_FOR;
    loop {
        tokio::time::sleep(AGAIN_PAUSE).await;
        told.seen.again(told.first);
        match told.read(&controller, &app, context).await {
            Ok(_) => give_up = Instant::now() + AGAIN_FOR,
            Err(Failure::Controller(error)) if may_pass(&error) && Instant::now() < give_up => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether somebody may be away for a moment. What is wrong with the request stays so.
fn may_pass(error: &ClientError) -> bool {
    if let ClientError::Api { status, .. } | ClientError::Status { status, .. } = error {
        return !status.is_client_error();
    }
    !error.is_not_found()
}

/// A log and what was printed of it.
struct Told {
    args: Args,
    seen: Seen,
    /// The time of the first line that was printed. There are older ones, which nobody asked for.
    first: Option<chrono::DateTime<chrono::FixedOffset>>,
}

impl Told {
    /// Asks for the log and prints it to its end; gives the break, if that was its end.
    async fn read(
        &mut self,
        controller: &Controller,
        app: &str,
        context: &mut Context<'_>,
    ) -> Result<Result<(), ClientError>, Failure> {
        let path = self.args.path(app, self.seen.is_empty())?;
        let mut body = Box::pin(controller.raw(path).await?.into_stream(None));
        let mut rest = Vec::new();
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => rest.extend_from_slice(&piece),
                Err(error) => return Ok(Err(error)),
            }
            let read = self.tell_messages(&rest, context)?;
            rest.drain(..read);
            if rest.len() > MAX_LINE {
                return Err(Failure::said("the controller sent a log line longer than 1 MiB"));
            }
        }
        Ok(Ok(()))
    }

    /// Prints the whole messages among the bytes and answers how many bytes they are. They stand one
    /// after the other, with or without line ends.
    fn tell_messages(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Result<usize, Failure> {
        let mut messages = serde_json::Deserializer::from_slice(bytes).into_iter::<Message>();
        let mut read = 0;
        loop {
            match messages.next() {
                Some(Ok(message)) => {
                    read = messages.byte_offset();
                    self.tell(&message, context)?;
                }
                Some(Err(error)) if error.is_eof() => return Ok(read),
                Some(Err(error)) => {
                    return Err(Failure::said(format!("the controller sent no log line: {error}")));
                }
                None => return Ok(read),
            }
        }
    }

    fn tell(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if self.args.follow {
            if !self.seen.is_new(&message.job_id, &message.stream, message.timestamp) {
                return Ok(());
            }
            self.first = self.first.or(message.timestamp);
        }
        self.args.tell(message, context)
    }
}

impl Args {
    /// With `from_start`, as it was asked for; else all lines that are there, for those after the last.
    fn path(&self, app: &str, from_start: bool) -> Result<Path, Failure> {
        let mut path = Path::of(&["apps", app, "log"]);
        if self.follow {
            path = path.with("follow", "true");
        }
        if let Some(job) = &self.job {
            path = path.with("job_id", job);
        }
        if let Some(number) = &self.number {
            let _: i64 = number.parse().map_err(|_| {
                Failure::said(format!("strconv.Atoi: parsing {number:?}: invalid syntax"))
            })?;
            if from_start {
                path = path.with("lines", number);
            }
        }
        if !from_start {
            path = path.with("lines", ALL_LINES);
        }
        if let Some(process_type) = &self.process_type {
            path = path.with("process_type", process_type);
        }
        Ok(path.with("stream_types", if self.init { "stdout,stderr,init" } else { "stdout,stderr" }))
    }

    fn tell(&self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let line = if self.raw_output { message.msg.clone() } else { message.whole() };
        match message.stream.as_str() {
            "init" => context.tell(line),
            "stderr" if self.split_stderr => context.tell(line),
            _ => context.say(line),
        }
    }
}

impl Message {
    fn whole(&self) -> String {
        let time = self.timestamp.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        let (time, source, kind) = (time.unwrap_or_default(), &self.source, &self.process_type);
        format!("{time} {source}[{kind}.{}]: {}", self.job_id, self.msg)
    }
}
