//! Processes of a server whose first process was killed. They notice it only when they next wait for
//! something; until then they go on writing, and a server started beside them would ruin the data. A
//! server's own guard against that is its lock file, which says nothing after a power cut.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

/// What the server's processes are called.
const NAME: &str = "postgres";
/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Makes orphans of servers children of this process, where [`end_all`] finds them.
pub(crate) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Ends all orphans; when this returns well there is none.
pub(crate) async fn end_all() -> io::Result<()> {
    let started = Instant::now();
    loop {
        let orphans = find()?;
        if orphans.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            let text =
                format!("{} processes of a server that was killed do not end", orphans.len());
            return Err(io::Error::other(text));
        }
        for orphan in orphans {
            // Both fail only when it has ended and was waited for already.
            let _ended = kill_process(orphan, Signal::KILL);
            let _reaped = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn find() -> io::Result<Vec<Pid>> {
    let me = getpid().as_raw_pid();
    let mut orphans = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
        if let Some(process) = Process::parse(&stat).filter(|process| process.is_orphan_of(me)) {
            orphans.extend(Pid::from_raw(process.pid));
        }
    }
    Ok(orphans)
}

/// A line of /proc/*/stat, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Process<'a> {
    pid: i32,
    name: &'a str,
    parent: i32,
    session: i32,
}

impl<'a> Process<'a> {
    fn parse(stat: &'a str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        // A name may have any characters.
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ').skip(1);
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self { pid: pid.parse().ok()?, name, parent, session })
    }

    /// Children of a server make sessions of their own; the servers that this process starts do not.
    fn is_orphan_of(&self, adopter: i32) -> bool {
        self.parent == adopter && self.name == NAME && self.session == self.pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_with_a_session_of_its_own_is_an_orphan_and_a_server_is_not() {
        for (stat, is_orphan) in [
            ("71 (postgres) R 7 71 71 0 -1", true),
            ("71 (postgres) Z 7 71 71 0 -1", true),
            ("70 (postgres) S 7 7 5 0 -1", false),
            ("72 (postgres) S 70 72 72 0 -1", false),
            ("73 (a) (b) S 7 73 73 0 -1", false),
        ] {
            assert_eq!(Process::parse(stat).unwrap().is_orphan_of(7), is_orphan, "{stat}");
        }
        assert_eq!(Process::parse("7 (postgres"), None);
    }
}
