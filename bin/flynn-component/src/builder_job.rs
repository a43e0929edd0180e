//! A build job: one build, then the process ends with the status of the build.

use builder::{Config, Output};

/// As a shell has it for SIGTERM.
const TERMINATED: i32 = 143;

/// Builds what comes on standard input. Asked to end, it does so at once, with every program of the build.
pub(crate) async fn run() -> anyhow::Result<()> {
    if std::env::var_os("FLYNN_LOG").is_some() {
        // Otherwise the person who pushes would read our log between the lines of the build.
        kit_telemetry::start();
    }
    let config = Config::from_env(std::env::vars())?;
    let output = Output::standard();
    let code = tokio::select! {
        result = builder::build(&config, std::io::stdin(), &output) => match result {
            Ok(()) => 0,
            Err(error) => {
                output.complaint(&error.report());
                i32::from(error.exit_code())
            }
        },
        asked = kit_tasks::terminate_signal() => {
            asked?;
            TERMINATED
        }
    };
    // Returning would wait for a thread that may read standard input for ever.
    std::process::exit(code)
}
