//! `flynn log`: what the app's processes print.

use futures_util::StreamExt as _;
use serde::Deserialize;

use crate::connection::Path;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

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

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (controller, app) = context.controller_and_app()?;
    let mut body = Box::pin(controller.raw(args.path(&app)?).await?.into_stream(None));
    let mut rest = Vec::new();
    while let Some(piece) = body.next().await {
        rest.extend_from_slice(&piece?);
        let read = tell_messages(&rest, &args, context)?;
        rest.drain(..read);
        if rest.len() > MAX_LINE {
            return Err(Failure::said("the controller sent a log line longer than 1 MiB"));
        }
    }
    Ok(())
}

/// Prints the whole messages among the bytes and answers how many bytes they are. They stand one after
/// the other, with or without line ends.
fn tell_messages(bytes: &[u8], args: &Args, context: &mut Context<'_>) -> Result<usize, Failure> {
    let mut messages = serde_json::Deserializer::from_slice(bytes).into_iter::<Message>();
    let mut read = 0;
    loop {
        match messages.next() {
            Some(Ok(message)) => {
                read = messages.byte_offset();
                args.tell(&message, context)?;
            }
            Some(Err(error)) if error.is_eof() => return Ok(read),
            Some(Err(error)) => return Err(Failure::said(format!("the controller sent no log line: {error}"))),
            None => return Ok(read),
        }
    }
}

impl Args {
    fn path(&self, app: &str) -> Result<Path, Failure> {
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
            path = path.with("lines", number);
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
