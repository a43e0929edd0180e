//! Followers: each runs one source's stream and starts it again with jittered pauses, for as long as
//! the router, or the route that needs it, lives.

use std::sync::Arc;
use std::time::Duration;

use kit_backoff::Backoff;
use kit_tasks::Tasks;
use tokio::sync::mpsc;

use super::{Members, News};
use crate::source::{BackendSource, RouteSource, SourceError};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Updates of one source that wait to be taken.
const UPDATES: usize = 64;

/// Follows the routes.
pub(crate) async fn follow_routes(source: Arc<dyn RouteSource>, news: mpsc::Sender<News>) {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, rand::random());
    loop {
        let (sender, mut updates) = mpsc::channel(UPDATES);
        let mut stream = source.follow(sender);
        let ended = loop {
            tokio::select! {
                biased;
                Some(update) = updates.recv() => {
                    if pause.attempts() > 0 {
                        pause.reset();
                        drop(news.send(News::RouteSource(Ok(()))).await);
                    }
                    if news.send(News::Routes(update)).await.is_err() {
                        return;
                    }
                }
                ended = &mut stream => break ended,
            }
        };
        let reason = reason(ended);
        tracing::warn!(%reason, "route stream ended; routes stay as they are until it runs again");
        drop(news.send(News::RouteSource(Err(reason))).await);
        tokio::time::sleep(pause.next_delay()).await;
    }
}

/// Follows a service until the returned node is stopped.
pub(crate) fn follow_service(members: &Members, name: &str) -> Tasks {
    let node = members.tasks.child(&format!("service-{name}"));
    let (source, news, name) = (members.source.clone(), members.news.clone(), name.to_owned());
    node.spawn_until_stop("watch", follow_backends(source, news, name));
    node
}

async fn follow_backends(source: Arc<dyn BackendSource>, news: mpsc::Sender<News>, name: String) {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, rand::random());
    loop {
        let (sender, mut updates) = mpsc::channel(UPDATES);
        let mut stream = source.follow(name.clone(), sender);
        let ended = loop {
            tokio::select! {
                biased;
                Some(instances) = updates.recv() => {
                    pause.reset();
                    if news.send(News::Instances(name.clone(), instances)).await.is_err() {
                        return;
                    }
                }
                ended = &mut stream => break ended,
            }
        };
        let reason = reason(ended);
        tracing::warn!(service = %name, %reason, "watch ended; backends stay as they are");
        tokio::time::sleep(pause.next_delay()).await;
    }
}

fn reason(ended: Result<(), SourceError>) -> String {
    ended.err().map_or_else(|| "the stream ended".to_owned(), |error| error.chain())
}
