//! A real server: it comes back after every end, keeps its data, and makes databases for apps.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use appliance_postgres::{peer, provision};
use discoverd_api::{Client, Servers};
use kit_tasks::Tasks;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "not'simple";

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A volume whose server may start without asking a discoverd that is not there.
fn volume() -> tempfile::TempDir {
    let readable = std::fs::Permissions::from_mode(0o755);
    let volume = tempfile::Builder::new().permissions(readable).tempdir().unwrap();
    std::fs::write(volume.path().join("was_primary"), "").unwrap();
    volume
}

fn config(volume: &Path, port: u16) -> peer::Config {
    peer::Config {
        service: "postgres".to_owned(),
        port,
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        external_ip: "127.0.0.1".to_owned(),
        volume: volume.to_owned(),
        socket_dir: volume.join("socket"),
        account: None,
        password: provision::Secret(PASSWORD.to_owned()),
        meta: Vec::new(),
        version: "test".to_owned(),
    }
}

async fn start(volume: &Path, port: u16, tasks: &Tasks) -> kit_http::Client {
    let discoverd = Client::new(&Servers::parse("127.0.0.1:1")).unwrap();
    let running = peer::start(config(volume, port), discoverd, tasks).await.unwrap();
    kit_http::Client::new(&format!("http://{}", running.addr())).unwrap()
}

async fn until_running(peer: &kit_http::Client) -> Value {
    let started = Instant::now();
    loop {
        let status: Value = peer.get_json("/status").await.unwrap();
        if status["database"]["running"] == true {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "the database does not run: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn query(url: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let questions = async {
        let mut rows = Vec::new();
        for message in client.simple_query(sql).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push(row.get(0).unwrap_or_default().to_owned());
            }
        }
        Ok(rows)
    };
    tokio::select! {
        rows = questions => rows,
        end = connection => { end?; unreachable!("the connection outlives its question") }
    }
}

fn superuser(port: u16) -> String {
    let password = PASSWORD.replace('\'', "%27");
    format!("postgres://flynn:{password}@127.0.0.1:{port}/postgres")
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// What a server that came after `killed` answers.
async fn until_back(volume: &Path, port: u16, killed: i32, sql: &str) -> Vec<String> {
    let started = Instant::now();
    loop {
        match query(&superuser(port), sql).await {
            Ok(rows) if postmaster(volume) != killed => return rows,
            _ => assert!(started.elapsed() < PATIENCE, "the server did not come back"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn postmaster(volume: &Path) -> i32 {
    let text = std::fs::read_to_string(volume.join("db/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_with_its_data() {
    let (volume, port, tasks) = (volume(), free_port(), Tasks::root("test"));
    let peer = start(volume.path(), port, &tasks).await;
    let status = until_running(&peer).await;
    assert_eq!(status["peer"]["role"], "primary");
    assert_eq!(status["database"]["read_write"], true);

    query(&superuser(port), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
        .await
        .unwrap();
    let killed = postmaster(volume.path());
    kill(killed);
    assert_eq!(until_back(volume.path(), port, killed, "SELECT n FROM kept").await, ["42"]);

    tasks.shutdown(PATIENCE).await;
    assert!(!volume.path().join("db/postmaster.pid").exists(), "the stop was a clean one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_never_runs_beside_what_a_killed_one_left() {
    let (volume, port, tasks) = (volume(), free_port(), Tasks::root("test"));
    let peer = start(volume.path(), port, &tasks).await;
    until_running(&peer).await;
    // Never waits for anything, and so never notices that its server is gone.
    let busy = "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$";
    let url = superuser(port);
    let (busy, ()) = tokio::join!(query(&url, busy), async {
        let who = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
        let started = Instant::now();
        let pid = loop {
            assert!(started.elapsed() < PATIENCE, "the question does not run");
            if let [pid] = &query(&url, who).await.unwrap()[..] {
                break pid.clone();
            }
        };
        let killed = postmaster(volume.path());
        kill(killed);
        until_back(volume.path(), port, killed, "SELECT 1").await;
        assert!(!Path::new("/proc").join(pid).exists(), "it still runs");
    });
    busy.unwrap_err();
    tasks.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_gets_a_database_of_its_own() {
    let (volume, port, tasks) = (volume(), free_port(), Tasks::root("test"));
    let peer = start(volume.path(), port, &tasks).await;
    until_running(&peer).await;
    let config = provision::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        service: "postgres".to_owned(),
        connection: provision::Connection {
            host: "127.0.0.1".to_owned(),
            port,
            user: "flynn".to_owned(),
            password: provision::Secret(PASSWORD.to_owned()),
        },
        version: "test".to_owned(),
    };
    let api = provision::start(config, &tasks).await.unwrap();
    let api = kit_http::Client::new(&format!("http://{}", api.addr())).unwrap();

    let first: Value = api.post_json("/databases", &Value::Null).await.unwrap();
    let second: Value = api.post_json("/databases", &Value::Null).await.unwrap();
    let url = first["env"]["DATABASE_URL"].as_str().unwrap();
    query(url, "CREATE TABLE mine (n int)").await.unwrap();
    // The second app's account cannot reach the first app's database.
    let (user, password) = (&second["env"]["PGUSER"], &second["env"]["PGPASSWORD"]);
    let (user, password) = (user.as_str().unwrap(), password.as_str().unwrap());
    let theirs = first["env"]["PGDATABASE"].as_str().unwrap();
    let foreign = format!("postgres://{user}:{password}@127.0.0.1:{port}/{theirs}");
    assert!(query(&foreign, "SELECT 1").await.is_err());

    let id = first["id"].as_str().unwrap();
    for _ in 0..2 {
        api.delete(&format!("/databases?id={id}")).await.unwrap();
    }
    assert!(query(url, "SELECT 1").await.is_err());
    let refused = api.delete("/databases?id=/databases/flynn:postgres").await.unwrap_err();
    assert_eq!(refused.api().unwrap().message, "id is invalid");
    tasks.shutdown(PATIENCE).await;
}
