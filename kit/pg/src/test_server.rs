//! A throw-away PostgreSQL for tests: one server per test binary, a database per test. For
//! `[dev-dependencies]` only.
//!
//! The server listens on a unix socket in a directory of its own. A guardian process holds the read
//! end of a pipe whose write end this process holds: however the tests end, kill -9 included, the
//! pipe closes, and the guardian stops the server and removes the directory.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{Pool, Settings};

/// How long the server may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// A fresh database of the test server.
#[derive(Debug)]
pub struct TestDatabase {
    settings: Settings,
    pool: Pool,
    url: String,
}

impl TestDatabase {
    /// Makes a database; the first call of a process starts the server.
    ///
    /// # Panics
    /// When there is no PostgreSQL on this machine, or it does not start.
    pub async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(Server::shared).await.expect("the server starts");
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = Pool::new(&server.settings("postgres"), 1).expect("a pool");
        let client = admin.client().await.expect("a connection to the test server");
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let settings = server.settings(&name);
        let pool = Pool::new(&settings, 8).expect("a pool");
        Self { settings, pool, url: server.url(&name) }
    }

    /// How to reach it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Connections to it, for looking behind the tested code.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Its connection string, for other programs.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The server of this process.
struct Server {
    dir: PathBuf,
    /// Holds the pipe; never waited for, it outlives us by design.
    _guardian: Child,
}

impl Server {
    fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let bin = programs();
        let owner = owner();
        let dir = std::env::temp_dir().join(format!("flynn-test-pg-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory for the test server");
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("its mode");
        if let Some((uid, gid)) = owner {
            chown(&dir, Some(uid), Some(gid)).expect("its owner");
        }
        let guardian = guardian(&bin, &dir, owner);
        let server = Self { dir, _guardian: guardian };
        server.wait_until_ready();
        server
    }

    /// The server accepts connections before it takes work; its pid file says when it does.
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + START;
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        while !read("data/postmaster.pid").lines().any(|line| line.trim() == "ready") {
            assert!(Instant::now() < deadline, "PostgreSQL did not start: {}", read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn settings(&self, database: &str) -> Settings {
        Settings::from_url(&self.url(database)).expect("a connection string")
    }

    fn url(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.dir.display())
    }
}

/// The process that starts the server, and stops it when our end of the pipe is gone.
fn guardian(bin: &Path, dir: &Path, owner: Option<(u32, u32)>) -> Child {
    const SCRIPT: &str = r#"
        cd "$2" && exec 3<&0 >log 2>&1 </dev/null
        "$1/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
        "$1/postgres" -D data -k "$2" -c listen_addresses= -c max_connections=400 \
            -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB &
        server=$!
        read -r _ <&3
        kill -QUIT $server; wait $server; rm -rf "$2"
    "#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "guardian"]).arg(bin).arg(dir).stdin(Stdio::piped());
    // Ctrl-C is for the tests; the guardian goes by the pipe.
    command.process_group(0);
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.spawn().expect("a shell")
}

/// Where `initdb` and `postgres` are.
fn programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("FLYNN_TEST_PG_BIN") {
        return dir.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(|entries| {
        entries
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
    });
    let newest = versions.ok().and_then(|versions| {
        versions.max_by_key(|bin| {
            let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            version.and_then(|version| version.parse::<u32>().ok())
        })
    });
    newest
        .expect("PostgreSQL's server programs: install package postgresql or set FLYNN_TEST_PG_BIN")
}

/// Whom the server runs as: it refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?;
    if uid != "0" {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let mut entry = passwd
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"))
        .expect("user postgres")
        .split(':');
    let mut number = || entry.next()?.parse().ok();
    // The fields are password, uid, gid.
    let _: Option<u32> = number();
    number().zip(number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_are_apart_and_errors_are_sorted() {
        let (one, two) = (TestDatabase::create().await, TestDatabase::create().await);
        let client = one.pool().client().await.unwrap();
        client.batch_execute("CREATE TABLE t (n int PRIMARY KEY CHECK (n > 0))").await.unwrap();
        let sorted =
            async |sql: &str| crate::PgError::from(client.batch_execute(sql).await.unwrap_err());
        client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let unique = sorted("INSERT INTO t VALUES (1)").await;
        assert!(matches!(&unique, crate::PgError::Unique { constraint } if constraint == "t_pkey"));
        assert!(matches!(sorted("INSERT INTO t VALUES (0)").await, crate::PgError::Check { .. }));
        assert!(matches!(sorted("SELECT 'x'::int").await, crate::PgError::Data { .. }));
        assert!(matches!(sorted("SELEC").await, crate::PgError::Query(_)));
        let other = two.pool().client().await.unwrap();
        assert!(other.batch_execute("SELECT * FROM t").await.is_err());
        one.pool().check().await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_database_is_unavailable_and_the_pool_comes_back() {
        let database = TestDatabase::create().await;
        let client = database.pool().client().await.unwrap();
        let later = Pool::new(&database.settings().database("later"), 1).unwrap();
        assert!(later.check().await.unwrap_err().is_transient());
        client.batch_execute("CREATE DATABASE later").await.unwrap();
        later.check().await.unwrap();
    }
}
