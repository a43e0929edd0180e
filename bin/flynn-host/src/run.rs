//! `run` and `log`: attach connections. A logless job whose daemon dies is attached to again for a
//! minute, from where its output stopped; a terminal ends with a clear error.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use host_api::{
    AttachFlags, AttachReq, Attachment, FrameReader, FrameWriter, Job, Mountspec, Offsets,
    ResourceKind, Resources, VolumeBinding, VolumeInfo,
};
use host_image::Image;
use kit_ids::JobId;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::hosts::{Host, Hosts};

/// How long a broken connection is tried again.
const REATTACH_FOR: Duration = Duration::from_secs(60);
const REATTACH_PAUSE: Duration = Duration::from_millis(200);
/// Pieces of input on their way: more wait in the pipe.
const INPUT_QUEUE: usize = 8;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The host to run on; any if empty.
    #[arg(long)]
    host: Option<String>,
    /// An imported image, in place of the artifact.
    #[arg(long)]
    image: Option<String>,
    /// A new volume, destroyed with the job, at this path.
    #[arg(long)]
    volume: Option<String>,
    /// Limits, as in memory=512MB,cpu=500.
    #[arg(long)]
    limits: Option<String>,
    /// Where the program starts.
    #[arg(long, default_value = "")]
    workdir: String,
    /// Use the host's network; makes it a job of partition system.
    #[arg(long)]
    hostnet: bool,
    /// Artifact file or - (without --image), then the program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What supervisor and init say too.
    #[arg(long)]
    init: bool,
    /// Go on until the job ends.
    #[arg(short, long)]
    follow: bool,
    /// The last lines only.
    #[arg(long, default_value_t = 0)]
    lines: usize,
    /// Standard error to standard error.
    #[arg(long)]
    split_stderr: bool,
    id: String,
}

pub(crate) async fn run(args: RunArgs, hosts: &Hosts) -> anyhow::Result<ExitCode> {
    let host = match &args.host {
        Some(id) => hosts.host(id).await?,
        None => hosts.any().await?,
    };
    let tty = kit_terminal::is_there();
    let job = job(&args, &host, tty).await?;
    let mut flags = AttachFlags::STDOUT | AttachFlags::STREAM | AttachFlags::STDIN;
    if !tty {
        flags = flags | AttachFlags::STDERR;
    }
    let mut request = AttachReq::new(&job.id, flags);
    if let Some((height, width)) = kit_terminal::size().filter(|_| tty) {
        (request.height, request.width) = (height, width);
    }
    let mut attachment = host.client.attach(&request).await?;
    attachment.greeting().await?;
    host.client.add_job(&job).await?;
    let attached = attachment.established().await?;
    let raw = if tty { Some(kit_terminal::Raw::enter()?) } else { None };
    let status = Session { host, job: job.id, request, tty }.follow(attached).await;
    drop(raw);
    Ok(ExitCode::from(u8::try_from(status?).unwrap_or(u8::MAX)))
}

pub(crate) async fn log(args: LogArgs, hosts: &Hosts) -> anyhow::Result<ExitCode> {
    let (host, id) = hosts.of_job(&args.id).await?;
    let active = host.client.job(&id).await.map_err(|_| anyhow!("no such job"))?;
    let mut flags = AttachFlags::STDOUT | AttachFlags::STDERR | AttachFlags::LOGS;
    if args.init {
        flags = flags | AttachFlags::INIT_LOG;
    }
    if args.follow && args.lines == 0 && !active.status.has_ended() {
        flags = flags | AttachFlags::STREAM;
    }
    if active.status.has_ended() && active.job.config.tty {
        return Ok(ExitCode::SUCCESS);
    }
    let attached = host.client.attach(&AttachReq::new(&id, flags)).await?.established().await?;
    let (mut reader, _writer) = attached.split();
    let mut kept: std::collections::VecDeque<(Stream, Bytes)> = std::collections::VecDeque::new();
    while let Some(frame) = reader.next_frame().await? {
        match frame {
            ServerFrame::Data(stream, bytes) if args.lines == 0 => {
                print(stream, &bytes, args.split_stderr)
            }
            ServerFrame::Data(stream, bytes) => {
                kept.push_back((stream, bytes));
                while kept.len() > args.lines {
                    kept.pop_front();
                }
            }
            ServerFrame::Exit(_) => break,
            ServerFrame::Error(error) => bail!(error),
        }
    }
    for (stream, bytes) in kept {
        print(stream, &bytes, args.split_stderr);
    }
    Ok(ExitCode::SUCCESS)
}

/// A job this process has attached to.
struct Session {
    host: Host,
    job: JobId,
    request: AttachReq,
    tty: bool,
}

impl Session {
    /// Passes everything both ways until the job ends; gives its exit status.
    async fn follow(self, attached: Attachment) -> anyhow::Result<u32> {
        let mut offsets = Offsets::default();
        let mut inputs = inputs()?;
        let (mut reader, mut writer) = attached.split();
        loop {
            let ended = self.pass(&mut reader, &mut writer, &mut inputs, &mut offsets).await;
            let broken = match ended {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => anyhow!("the connection to the host ended"),
                Err(error) => error,
            };
            if broken.is::<Ended>() {
                return Err(broken);
            }
            if self.tty {
                return Err(broken
                    .context("the terminal's connection is lost and the job is being stopped"));
            }
            (reader, writer) =
                self.again(offsets).await.with_context(|| format!("{broken:#}"))?.split();
        }
    }

    async fn pass(
        &self,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
        inputs: &mut mpsc::Receiver<ClientFrame>,
        offsets: &mut Offsets,
    ) -> anyhow::Result<Option<u32>> {
        let mut takes_input = true;
        loop {
            tokio::select! {
                frame = reader.next_frame() => match frame? {
                    Some(ServerFrame::Data(stream, bytes)) => {
                        count(offsets, stream, bytes.len());
                        print(stream, &bytes, true);
                    }
                    Some(ServerFrame::Exit(status)) => return Ok(Some(status)),
                    Some(ServerFrame::Error(error)) => return Err(Ended(error).into()),
                    None => return Ok(None),
                },
                input = inputs.recv(), if takes_input => match input {
                    Some(frame) => writer.send(&frame).await?,
                    None => takes_input = false,
                },
            }
        }
    }

    /// Attaches again behind what was printed.
    async fn again(&self, offsets: Offsets) -> anyhow::Result<Attachment> {
        let request = AttachReq { offsets: Some(offsets), ..self.request.clone() };
        let give_up = Instant::now() + REATTACH_FOR;
        loop {
            let error = match self.attach_once(&request).await {
                Ok(attached) => return Ok(attached),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            if Instant::now() >= give_up {
                return Err(error.context(format!("job {} cannot be attached to again", self.job)));
            }
            tokio::time::sleep(REATTACH_PAUSE).await;
        }
    }

    async fn attach_once(&self, request: &AttachReq) -> anyhow::Result<Attachment> {
        Ok(self.host.client.attach(request).await?.established().await?)
    }
}

/// The host's last word on a job without an exit status.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(String);

/// A refusal is final, but for that of a host which has not noticed yet that the old connection is gone.
fn is_final(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<host_api::AttachError>() {
        Some(host_api::AttachError::Refused(reason)) => reason != "host: job is attached",
        Some(_) | None => false,
    }
}

fn count(offsets: &mut Offsets, stream: Stream, bytes: usize) {
    let offset = match stream {
        Stream::Stdout => &mut offsets.stdout,
        Stream::Stderr => &mut offsets.stderr,
        Stream::Init => &mut offsets.init,
    };
    *offset += bytes as u64;
}

fn print(stream: Stream, bytes: &[u8], split: bool) {
    // A reader that left misses nothing it wants.
    let _ = if split && stream != Stream::Stdout {
        std::io::stderr().write_all(bytes)
    } else {
        std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
    };
}

/// Standard input, the terminal's size and signals as frames.
fn inputs() -> anyhow::Result<mpsc::Receiver<ClientFrame>> {
    let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
    let tasks = kit_tasks::Tasks::root("run");
    let stdin = sender.clone();
    tasks.spawn("stdin", async move {
        let mut input = tokio::io::stdin();
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(count) = input.read(&mut chunk).await {
            let sent =
                stdin.send(ClientFrame::Stdin(Bytes::copy_from_slice(&chunk[..count]))).await;
            if count == 0 || sent.is_err() {
                return;
            }
        }
    });
    for (kind, number) in
        [(SignalKind::interrupt(), 2), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)]
    {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tasks.spawn("signals", async move {
            while signals.recv().await.is_some() {
                if sender.send(ClientFrame::Signal(number)).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut changes = signal(SignalKind::window_change())?;
    tasks.spawn("window", async move {
        while changes.recv().await.is_some() {
            let Some((height, width)) = kit_terminal::size() else { continue };
            if sender.send(ClientFrame::Resize { height, width }).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

async fn job(args: &RunArgs, host: &Host, tty: bool) -> anyhow::Result<Job> {
    let (image, command) = image(args, host).await?;
    if command.is_empty() {
        bail!("a command is needed after the artifact");
    }
    let entrypoint = image.entrypoint()?;
    let mut job = Job::new(JobId::random(&host.id.parse()?));
    job.mountspecs = image.layers()?.into_iter().map(mountspec).collect();
    job.resources = limits(args.limits.as_deref().unwrap_or_default())?;
    job.config.args = command.to_vec();
    job.config.env = entrypoint.env;
    job.config.working_dir =
        if args.workdir.is_empty() { entrypoint.cwd } else { args.workdir.clone() };
    (job.config.uid, job.config.gid) = (entrypoint.uid, entrypoint.gid);
    (job.config.tty, job.config.stdin, job.config.disable_log) = (tty, true, true);
    let status = host.client.status().await?;
    // Nothing would ever tell this job where discoverd is.
    if status.discoverd.is_none() {
        job.config.env.insert("DISCOVERD".to_owned(), "none".to_owned());
    }
    if args.hostnet {
        job.config.host_network = true;
        job.partition = "system".to_owned();
    }
    if let Some(target) = &args.volume {
        let volume = host.client.create_volume("default", &VolumeInfo::default()).await?;
        let target = target.clone();
        let binding =
            VolumeBinding { target, volume: volume.id, writeable: true, delete_on_stop: true };
        job.config.volumes.push(binding);
    }
    Ok(job)
}

async fn image<'a>(args: &'a RunArgs, host: &Host) -> anyhow::Result<(Image, &'a [String])> {
    if let Some(name) = &args.image {
        let mut images: BTreeMap<String, serde_json::Value> = host.client.images().await?;
        let artifact =
            images.remove(name).ok_or_else(|| anyhow!("no image {name:?} on host {}", host.id))?;
        return Ok((Image { name: name.clone(), artifact }, &args.command));
    }
    let (path, command) = args.command.split_first().context("an artifact is needed")?;
    let text = if path == "-" {
        let mut text = String::new();
        tokio::io::stdin().read_to_string(&mut text).await?;
        text
    } else {
        tokio::fs::read_to_string(PathBuf::from(path))
            .await
            .with_context(|| format!("cannot read {path}"))?
    };
    let artifact = serde_json::from_str(&text).with_context(|| format!("{path} is no artifact"))?;
    Ok((Image { name: path.clone(), artifact }, command))
}

fn mountspec(layer: host_image::Layer) -> Mountspec {
    Mountspec {
        kind: "squashfs".to_owned(),
        id: layer.id,
        url: layer.url,
        size: i64::try_from(layer.size).unwrap_or(i64::MAX),
        hashes: layer.hashes,
        meta: BTreeMap::new(),
    }
}

/// `memory=512MB,cpu=500`.
fn limits(text: &str) -> anyhow::Result<Resources> {
    let mut resources = Resources::default();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (name, value) =
            item.split_once('=').with_context(|| format!("{item:?}: write kind=value"))?;
        let (kind, amount) = match name {
            "memory" => (ResourceKind::Memory, value.parse::<kit_units::Bytes>()?.0),
            "temp_disk" => (ResourceKind::TempDisk, value.parse::<kit_units::Bytes>()?.0),
            "cpu" => (ResourceKind::Cpu, value.parse()?),
            "max_fd" => (ResourceKind::MaxFd, value.parse()?),
            other => {
                bail!("unknown resource {other:?}: they are memory, cpu, temp_disk and max_fd")
            }
        };
        let amount = Some(i64::try_from(amount)?);
        resources.set(kind, amount, amount);
    }
    Ok(resources)
}
