//! Jobs of tests: described in a line, run to their end, with all they printed.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use host_api::frame::{ClientFrame, ServerFrame, Stream};
use host_api::{AttachFlags, AttachReq, Job, Mountspec};
use host_image::Image;
use kit_ids::{HostId, JobId};

use crate::Node;

/// A job to be run to its end.
#[derive(Clone, Debug)]
pub struct Run {
    /// The job as it will be sent.
    pub job: Job,
    input: Bytes,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status.
    pub exit: u32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// What supervisor and init said.
    pub init: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Node {
    /// A user job of the test-apps image.
    pub async fn job(&self, args: &[&str]) -> anyhow::Result<Run> {
        let host: HostId = self.host.id.parse()?;
        let mut job = Job::new(JobId::random(&host));
        job.mountspecs = self.layers("test-apps").await?;
        job.partition = "user".to_owned();
        job.config.args = vec!["/bin/test-apps".to_owned()];
        job.config.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        job.config.disable_log = true;
        // There is none on such a host; a job that needs it would wait for it.
        job.config.env.insert("DISCOVERD".to_owned(), "none".to_owned());
        Ok(Run { job, input: Bytes::new() })
    }

    /// The layers of an imported image.
    pub async fn layers(&self, image: &str) -> anyhow::Result<Vec<Mountspec>> {
        let images = self.client.images().await?;
        let artifact =
            images.get(image).with_context(|| format!("image {image} is not imported"))?;
        let artifact = artifact.clone();
        let image = Image { name: image.to_owned(), artifact };
        let specs = image.layers()?.into_iter().map(|layer| Mountspec {
            kind: "squashfs".to_owned(),
            id: layer.id,
            url: layer.url,
            size: i64::try_from(layer.size).unwrap_or(i64::MAX),
            hashes: layer.hashes,
            ..Mountspec::default()
        });
        Ok(specs.collect())
    }

    /// Runs a job to its end.
    pub async fn run(&self, run: &Run) -> anyhow::Result<Output> {
        let mut flags = AttachFlags::STDOUT | AttachFlags::STDERR | AttachFlags::STREAM;
        flags = flags | AttachFlags::INIT_LOG;
        if run.job.config.stdin {
            flags = flags | AttachFlags::STDIN;
        }
        let mut attachment = self.client.attach(&AttachReq::new(&run.job.id, flags)).await?;
        attachment.greeting().await.context("before the job is there")?;
        self.client.add_job(&run.job).await.with_context(|| self.log())?;
        let (mut reader, mut writer) = attachment.established().await?.split();
        let feed = async {
            if run.job.config.stdin {
                for piece in run.input.chunks(32 << 10) {
                    writer.send(&ClientFrame::Stdin(Bytes::copy_from_slice(piece))).await?;
                }
                writer.send(&ClientFrame::Stdin(Bytes::new())).await?;
            }
            std::io::Result::Ok(())
        };
        let collect = async {
            let mut output = Output::default();
            while let Some(frame) = reader.next_frame().await? {
                match frame {
                    ServerFrame::Data(Stream::Stdout, bytes) => output.stdout.extend(bytes),
                    ServerFrame::Data(Stream::Stderr, bytes) => output.stderr.extend(bytes),
                    ServerFrame::Data(_, bytes) => output.init.extend(bytes),
                    ServerFrame::Exit(status) => {
                        output.exit = status;
                        return Ok(output);
                    }
                    ServerFrame::Error(text) => bail!("{text}\n{}", self.log()),
                }
            }
            bail!("the attachment ended without an exit status\n{}", self.log())
        };
        let (fed, output) = tokio::join!(feed, tokio::time::timeout(crate::PATIENCE, collect));
        fed?;
        output.with_context(|| format!("{:?} did not end\n{}", run.job.config.args, self.log()))?
    }

    /// Runs a program of the test-apps image to its end and gives what it printed.
    pub async fn run_app(&self, args: &[&str]) -> anyhow::Result<Output> {
        let run = self.job(args).await?;
        self.run(&run).await
    }
}

impl Run {
    /// With standard input.
    #[must_use]
    pub fn with_input(mut self, input: impl Into<Bytes>) -> Self {
        self.job.config.stdin = true;
        self.input = input.into();
        self
    }
}
