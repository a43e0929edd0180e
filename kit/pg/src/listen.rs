//! `LISTEN`, as a wake-up. What was notified is not handed on: a notification can be lost with its
//! connection, so whoever listens reads its table again at every wake-up, and after a reconnect.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::poll_fn;
use futures_util::{FutureExt as _, StreamExt as _};
use kit_backoff::Backoff;
use kit_tasks::Tasks;
use tokio::sync::watch;
use tokio_postgres::AsyncMessage;

use crate::error::PgError;
use crate::settings::Settings;

/// How long a connection may be silent before it is asked whether it lives.
const PROBE: Duration = Duration::from_secs(20);

/// Wakes whoever reads a table.
#[derive(Clone, Debug)]
pub struct Listener {
    wakes: watch::Receiver<u64>,
}

impl Listener {
    /// Waits until something was notified, or the connection was made anew, since the last call.
    /// Several wake-ups in a row count as one. Pending for ever once the listener's task is stopped.
    pub async fn woken(&mut self) {
        if self.wakes.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Listens on `channel` until the node is stopped, through every loss of the database.
pub fn listen(tasks: &Tasks, settings: &Settings, channel: &str) -> Listener {
    let (wake, wakes) = watch::channel(0);
    let settings = settings.application("listener");
    // An identifier in double quotes; ours hold none.
    let command = Arc::new(format!("LISTEN \"{}\"", channel.replace('"', "")));
    tasks.spawn_until_stop("listen", async move {
        let mut pause =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rand::random());
        loop {
            let ended = listen_once(&settings, &command, &wake, &mut pause).await;
            tracing::info!(error = %ended, "listening for notifications ended, connecting again");
            tokio::time::sleep(pause.next_delay()).await;
        }
    });
    Listener { wakes }
}

/// One connection, from its start to its end.
async fn listen_once(
    settings: &Settings,
    command: &str,
    wake: &watch::Sender<u64>,
    pause: &mut Backoff,
) -> PgError {
    let (client, mut connection) = match settings.connect().await {
        Ok(connected) => connected,
        Err(error) => return error,
    };
    let mut messages = poll_fn(move |cx| connection.poll_message(cx));
    let mut begin = std::pin::pin!(client.batch_execute(command).fuse());
    let mut listens = false;
    loop {
        tokio::select! {
            begun = &mut begin, if !listens => match begun {
                Ok(()) => {
                    listens = true;
                    pause.reset();
                    wake.send_modify(|count| *count += 1);
                }
                Err(error) => return error.into(),
            },
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(_))) => wake.send_modify(|count| *count += 1),
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.into(),
                None => return PgError::Unavailable(None),
            },
            () = tokio::time::sleep(PROBE) => {
                if let Err(error) = probe(&client, &mut messages, wake).await {
                    return error;
                }
            }
        }
    }
}

/// Whether a silent connection lives. Its messages must be read for the answer to come.
async fn probe<S>(
    client: &tokio_postgres::Client,
    messages: &mut S,
    wake: &watch::Sender<u64>,
) -> Result<(), PgError>
where
    S: futures_util::Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Unpin,
{
    let mut asked = std::pin::pin!(tokio::time::timeout(PROBE, client.simple_query("SELECT 1")));
    loop {
        tokio::select! {
            answer = &mut asked => return match answer {
                Ok(answer) => answer.map(drop).map_err(PgError::from),
                Err(_) => Err(PgError::Timeout { what: "an answer on the listening connection" }),
            },
            message = messages.next() => match message {
                Some(Ok(_)) => wake.send_modify(|count| *count += 1),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(PgError::Unavailable(None)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::TestDatabase;

    /// Far above what a wake-up takes; only a lost one lasts as long.
    const DEADLINE: Duration = Duration::from_secs(60);

    async fn wait(listener: &mut Listener) {
        tokio::time::timeout(DEADLINE, listener.woken()).await.expect("woken in time");
    }

    #[tokio::test]
    async fn a_listener_wakes_on_notifications_and_after_a_lost_connection() {
        let database = TestDatabase::create().await;
        let tasks = Tasks::root("test");
        let mut listener = listen(&tasks, database.settings(), "changes");
        wait(&mut listener).await;
        let client = database.pool().client().await.unwrap();
        client.batch_execute("NOTIFY changes, 'x'").await.unwrap();
        wait(&mut listener).await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE application_name = 'listener' AND datname = current_database()";
        client.batch_execute(kill).await.unwrap();
        wait(&mut listener).await;
        client.batch_execute("NOTIFY changes").await.unwrap();
        wait(&mut listener).await;
        tasks.shutdown(DEADLINE).await;
    }
}
