//! The program of the run stack, chosen by the name it is called by: `init` starts a slug's process,
//! `static` serves a static site. It only chooses.

mod init;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kit_tasks::Tasks;

/// How long open requests have when the job is to end.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_owned();
    let words: Vec<OsString> = words.collect();
    match name.to_str() {
        Some("init") => init::become_process(&words),
        Some("static") => serve().map(|()| ExitCode::SUCCESS),
        Some(_) | None => bail!("call this program by the name init or static"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let port = match variable("PORT").as_str() {
        "" => 8080,
        text => text.parse().with_context(|| format!("PORT={text:?} is no port"))?,
    };
    let settings = site::Settings::of_app(Path::new("."))?;
    let tasks = Tasks::root("static");
    let listen = ([0, 0, 0, 0], port).into();
    site::start(settings, listen, &variable("FLYNN_RELEASE_ID"), &tasks).await?;
    kit_tasks::terminate_signal().await?;
    tasks.shutdown(GRACE).await;
    Ok(())
}
