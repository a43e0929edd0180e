//! One task tree per process: every task has a name, an owner and an end.
//!
//! `main` makes the root with [`Tasks::root`]; each server is handed a [`Tasks`] and makes a
//! [`child`](Tasks::child) of its own. Stopping a node stops everything below it. A task that is asked
//! to stop sees [`Tasks::stopping`] resolve and has the grace time of [`Tasks::shutdown`] to finish;
//! what is left then is aborted and named in the log.
//!
//! A task that panics is logged with its name; it takes nothing else down.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// A node of the task tree. Cheap to clone; clones are the same node.
#[derive(Clone, Debug)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    stop: CancellationToken,
    tracker: TaskTracker,
    /// Handles of tasks that may still run, so that a shutdown whose grace is over can end them.
    running: Mutex<Vec<(String, AbortHandle)>>,
    parent: Option<Tasks>,
}

impl Tasks {
    /// The root of a process's tree.
    pub fn root(name: &str) -> Self {
        Self::node(name.to_owned(), CancellationToken::new(), None)
    }

    /// A node below this one: it stops when this one stops, and can be stopped alone.
    pub fn child(&self, name: &str) -> Self {
        let name = format!("{}/{name}", self.inner.name);
        Self::node(name, self.inner.stop.child_token(), Some(self.clone()))
    }

    fn node(name: String, stop: CancellationToken, parent: Option<Self>) -> Self {
        let (tracker, running) = (TaskTracker::new(), Mutex::default());
        Self { inner: Arc::new(Inner { name, stop, tracker, running, parent }) }
    }

    /// The node's name, with those of its owners before it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `future` as a task of this node. It is not ended by a stop: it should watch
    /// [`stopping`](Self::stopping), or be started with [`spawn_until_stop`](Self::spawn_until_stop).
    pub fn spawn<F>(&self, name: &str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let full_name = format!("{}/{name}", self.inner.name);
        let span = tracing::debug_span!("task", name = %full_name);
        let shown = full_name.clone();
        let guarded = std::panic::AssertUnwindSafe(future.instrument(span)).catch_unwind();
        let tokens: Vec<_> = self.lineage().map(|node| node.inner.tracker.token()).collect();
        let whole = async move {
            let _tokens = tokens;
            if let Err(panic) = guarded.await {
                tracing::error!(task = %shown, reason = %panic_text(panic.as_ref()), "task panicked");
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        let handle = tokio::spawn(whole).abort_handle();
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(_, task)| !task.is_finished());
        running.push((full_name, handle));
    }

    /// Runs `future` until it ends or the node is stopped, whichever comes first.
    pub fn spawn_until_stop<F>(&self, name: &str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.inner.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }

    /// Resolves once this node, or one above it, was asked to stop.
    pub async fn stopping(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Whether this node, or one above it, was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    /// The token behind [`stopping`](Self::stopping), for libraries that take one.
    pub fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Asks this node and all below it to stop, without waiting.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// Stops this node and all below it, waits up to `grace` for the tasks to end, and aborts those
    /// of this node that did not.
    pub async fn shutdown(&self, grace: Duration) {
        self.stop();
        self.inner.tracker.close();
        if tokio::time::timeout(grace, self.inner.tracker.wait()).await.is_ok() {
            return;
        }
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, task) in running.iter().filter(|(_, task)| !task.is_finished()) {
            tracing::warn!(task = %name, ?grace, "task did not stop in time and was ended");
            task.abort();
        }
    }

    /// This node and its owners, so that a node's shutdown waits for all tasks below it.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.inner.parent.as_ref())
    }
}

/// The text of a panic's payload.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// A started server: where it listens and how it is stopped. What every component's
/// `start(config, deps)` returns.
#[derive(Debug)]
pub struct Running {
    /// The addresses listened on, in the order of the configuration. Port 0 was replaced.
    pub addrs: Vec<SocketAddr>,
    /// The server's own node of the task tree.
    pub tasks: Tasks,
}

impl Running {
    /// The first address.
    ///
    /// # Panics
    /// If the server listens nowhere, which is a mistake of the caller.
    pub fn addr(&self) -> SocketAddr {
        *self.addrs.first().expect("a server that was asked for its address listens somewhere")
    }

    /// Stops the server and waits up to `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.tasks.shutdown(grace).await;
    }
}

/// Resolves when the process is asked to end (SIGTERM or SIGINT).
pub async fn terminate_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn a_stop_reaches_everything_below() {
        let root = Tasks::root("test");
        let ended = Arc::new(AtomicBool::new(false));
        let (child, seen) = (root.child("child"), ended.clone());
        let inner = child.clone();
        child.spawn("worker", async move {
            inner.stopping().await;
            seen.store(true, Ordering::SeqCst);
        });
        root.shutdown(Duration::from_secs(30)).await;
        assert!(ended.load(Ordering::SeqCst), "the root's shutdown waited for the child's task");
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_ended() {
        struct SetOnDrop(Arc<AtomicBool>);
        impl Drop for SetOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let root = Tasks::root("test");
        let ended = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(ended.clone());
        root.spawn("deaf", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        root.shutdown(Duration::from_millis(1)).await;
        while !ended.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_task() {
        let root = Tasks::root("test");
        root.spawn("broken", async { panic!("on purpose") });
        root.shutdown(Duration::from_secs(30)).await;
        assert!(root.is_stopping());
    }
}
