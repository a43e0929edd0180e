//! One platform for all tests that only use it, so that not each of them waits for a bootstrap.
//!
//! The first test that wants it makes it, in a thread that lives on: a host's first process ends with the
//! thread that started it. The tests take turns, in any order, each with apps of its own. One that fails
//! takes the platform with it; the next one gets a new one. Tests that kill have platforms of their own,
//! one at a time as well, beside this one: waiting for the world is most of what either does.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use harness::hosts::{Host, Hosts};

use crate::node::{Node, in_network, tell};
use crate::platform::Platform;

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

/// Runs `test` on a platform that other tests used before and will use after it.
pub fn on_shared_platform<F, T>(test: F)
where
    F: FnOnce(Platform) -> T + Send,
    T: Future<Output = anyhow::Result<()>>,
{
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let loan = shared.get_or_insert_with(|| Shared::start().expect("a platform")).loan.clone();
    let run = || {
        let id = loan.host.id.clone();
        in_network(&id, async { test(loan.platform()?).await })
    };
    let outcome = std::thread::scope(|scope| scope.spawn(run).join());
    if !matches!(outcome, Ok(Ok(()))) {
        // What the test left is nobody's business.
        shared.take().into_iter().for_each(Shared::end);
    }
    drop(shared);
    tell(outcome);
}

/// A platform and the thread that keeps it.
struct Shared {
    loan: Loan,
    /// Its end is the platform's.
    order: SyncSender<()>,
    keeper: JoinHandle<anyhow::Result<()>>,
}

/// What a test needs to have the platform as its own.
#[derive(Clone)]
struct Loan {
    host: Arc<Host>,
    said: String,
    home: PathBuf,
}

impl Shared {
    fn start() -> anyhow::Result<Self> {
        let (order, orders) = sync_channel(1);
        let (ready, loans) = sync_channel(1);
        let keeper = std::thread::spawn(move || keep(&ready, &orders));
        match loans.recv() {
            Ok(loan) => Ok(Self { loan, order, keeper }),
            Err(_never_sent) => {
                let ended = keeper.join().map_err(|_panic| anyhow::anyhow!("a panic"))?;
                Err(ended.err().context("it ended")?)
            }
        }
    }

    /// Returns when nothing of the platform runs.
    fn end(self) {
        drop((self.loan, self.order));
        drop(self.keeper.join());
    }
}

/// Makes a platform and keeps it until nobody can order its end any more.
fn keep(ready: &SyncSender<Loan>, orders: &Receiver<()>) -> anyhow::Result<()> {
    static MADE: Mutex<u8> = Mutex::new(0);
    let number = {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        *made += 1;
        *made
    };
    let id = format!("shared{number}");
    let host = Hosts::in_sandbox()?.add(&id)?;
    in_network(&id, async {
        let mut node = Node::on(Arc::new(host))?;
        node.boot().await?;
        let platform = Platform::bootstrap(node).await?;
        let Platform { node, said, home } = &platform;
        let loan = Loan { host: node.host.clone(), said: said.clone(), home: home.clone() };
        ready.send(loan).context("nobody waits for it")?;
        while orders.recv().is_ok() {}
        Ok(())
    })
}

impl Loan {
    fn platform(self) -> anyhow::Result<Platform> {
        Ok(Platform { node: Node::on(self.host)?, said: self.said, home: self.home })
    }
}
