//! Bad input at every endpoint of a running platform: always an answer, never the server's fault, and
//! everything runs on afterwards.

mod git;
mod harm;
mod router;
mod wire;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_tests::on_shared_platform;
use discoverd_api::{Client, Servers};

use self::harm::Before;

/// One service and what can be asked of it; `*` is where an id goes.
struct Surface {
    name: &'static str,
    paths: &'static [(&'static str, &'static str)],
}

const CONTROLLER: Surface = Surface {
    name: "controller",
    paths: &[
        ("POST", "/apps"),
        ("GET POST DELETE", "/apps/*"),
        ("POST", "/apps/*/meta"),
        ("GET PUT", "/apps/*/release"),
        ("GET", "/apps/*/releases"),
        ("GET", "/apps/*/formations"),
        ("GET PUT DELETE", "/apps/*/formations/*"),
        ("PUT", "/apps/*/scale/*"),
        ("GET POST", "/apps/*/jobs"),
        ("GET PUT DELETE", "/apps/*/jobs/*"),
        ("POST", "/apps/*/deploy"),
        ("GET", "/apps/*/deployments"),
        ("GET", "/apps/*/log"),
        ("GET", "/apps/*/resources"),
        ("GET POST", "/apps/*/routes"),
        ("GET PUT DELETE", "/apps/*/routes/http/*"),
        ("GET", "/apps/*/volumes/*"),
        ("PUT", "/apps/*/volumes/*/decommission"),
        ("POST", "/artifacts"),
        ("GET", "/artifacts/*"),
        ("POST", "/releases"),
        ("GET", "/releases/*"),
        ("GET", "/deployments/*"),
        ("GET", "/events/*"),
        ("POST", "/providers"),
        ("GET", "/providers/*"),
        ("GET POST", "/providers/*/resources"),
        ("GET PUT DELETE", "/providers/*/resources/*"),
        ("PUT DELETE", "/providers/*/resources/*/apps/*"),
        ("PUT", "/volumes/*"),
    ],
};

const HOST: Surface = Surface {
    name: "flynn-host",
    paths: &[
        ("GET PUT DELETE", "/host/jobs/*"),
        ("PUT", "/host/jobs/*/discoverd-deregister"),
        ("PUT", "/host/jobs/*/signal/*"),
        ("POST", "/host/network"),
        ("POST", "/host/discoverd"),
        ("POST", "/host/tags"),
        ("POST", "/host/resource-check"),
        ("GET", "/host/layers/*"),
        ("GET", "/host/images/*"),
        ("POST", "/attach"),
        ("POST", "/storage/providers"),
        ("POST", "/storage/providers/*/volumes"),
        ("GET DELETE", "/storage/volumes/*"),
        ("PUT", "/storage/volumes/*/snapshot"),
        ("POST", "/storage/volumes/*/pull_snapshot"),
        ("GET", "/storage/volumes/*/send"),
        ("PUT DELETE", "/sinks/*"),
    ],
};

const DISCOVERD: Surface = Surface {
    name: "discoverd",
    paths: &[
        ("GET PUT DELETE", "/services/*"),
        ("GET PUT", "/services/*/meta"),
        ("GET", "/services/*/instances"),
        ("PUT DELETE", "/services/*/instances/*"),
        ("GET PUT", "/services/*/leader"),
    ],
};

const BLOBSTORE: Surface =
    Surface { name: "blobstore", paths: &[("GET HEAD DELETE", "/*"), ("GET", "/?dir=*")] };

const LOGAGGREGATOR: Surface =
    Surface { name: "logaggregator", paths: &[("GET", "/log/*?lines=*"), ("GET", "/log/*")] };

const POSTGRES_API: Surface =
    Surface { name: "postgres-api", paths: &[("POST DELETE", "/databases")] };

const ROUTER: Surface = Surface {
    name: "router-api",
    paths: &[("GET POST DELETE", "/*"), ("POST PUT", "/events"), ("GET", "/events?types=*")],
};

/// What nobody has ever been called, and what no id may look like.
const IDS: [&str; 6] = [
    "nobody",
    "00000000-0000-4000-8000-00000000dead",
    "..%2f..%2fetc%2fpasswd",
    "%00%ff",
    "a%27%3B%20DROP%20TABLE%20apps%3B--",
    "-1",
];

/// More than any endpoint takes.
const OVERSIZED: usize = 40 * 1024 * 1024;
/// Answers come soon, or the endpoint hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn bodies() -> Vec<Vec<u8>> {
    let wrong_types = br#"{"id": 5, "name": {}, "ID": [], "env": "x", "processes": [], "meta": 7,
        "release": {}, "type": 9, "uri": [], "config": "x", "provider": 3, "JobID": {}, "args": "x",
        "addr": 1, "index": "x", "tags": 4, "ports": "x", "subnet": 5, "url": 6, "data": 7}"#;
    let mut deep = vec![b'['; 100_000];
    deep.push(b'1');
    vec![
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        wrong_types.to_vec(),
        b"\xff\xfe\x00".to_vec(),
        deep,
    ]
}

/// Sends a request; gives the status of the answer.
fn status_of(
    addr: SocketAddr,
    key: &str,
    (method, path): (&str, &str),
    body: &[u8],
) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // Who refuses a body may hang up before it has all of it; the answer is there all the same.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while answer.len() < 12 {
        let count = stream.read(&mut piece).context("no answer")?;
        ensure!(count > 0, "hung up without an answer");
        answer.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    let line = String::from_utf8_lossy(&answer).into_owned();
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.with_context(|| format!("no status in {line:?}"))
}

struct Prober<'a> {
    key: &'a str,
    problems: Vec<String>,
    asked: usize,
}

impl Prober<'_> {
    fn probe(&mut self, surface: &Surface, addr: SocketAddr) {
        for (methods, template) in surface.paths {
            for method in methods.split(' ') {
                for id in IDS {
                    let path = template.replace('*', id);
                    if method == "GET" || method == "HEAD" || method == "DELETE" {
                        self.ask(surface.name, addr, (method, &path), b"");
                    } else {
                        for body in bodies() {
                            self.ask(surface.name, addr, (method, &path), &body);
                        }
                    }
                    if !template.contains('*') {
                        break;
                    }
                }
                if method == "POST" || method == "PUT" {
                    let path = template.replace('*', IDS[0]);
                    self.ask(surface.name, addr, (method, &path), &vec![b' '; OVERSIZED]);
                }
            }
        }
    }

    fn ask(&mut self, name: &str, addr: SocketAddr, what: (&str, &str), body: &[u8]) {
        self.asked += 1;
        let (method, path) = what;
        let size = body.len();
        let start = String::from_utf8_lossy(body.get(..size.min(20)).unwrap_or_default());
        match status_of(addr, self.key, what, body) {
            Ok(200..=499) => {}
            Ok(status) => self
                .problems
                .push(format!("{name} {method} {path} with {size} bytes {start:?}: {status}")),
            Err(error) => self
                .problems
                .push(format!("{name} {method} {path} with {size} bytes {start:?}: {error:#}")),
        }
    }
}

async fn addr_of(
    registry: &Client,
    service: &str,
    port: Option<u16>,
) -> anyhow::Result<SocketAddr> {
    let instances = registry.instances(service).await?;
    let instance = instances.first().with_context(|| format!("no instance of {service}"))?;
    let addr: SocketAddr = instance.addr.parse()?;
    Ok(SocketAddr::new(addr.ip(), port.unwrap_or(addr.port())))
}

#[test]
fn bad_input_is_told_and_harms_nothing() {
    on_shared_platform(async |platform| {
        let key = STANDARD.encode(format!(":{}", platform.key()?));
        let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
        let before = Before::note(&platform).await?;
        let controller = addr_of(&registry, "controller", None).await?;
        assert_eq!(status_of(controller, &key, ("GET", "/apps"), b"")?, 200, "the key is good");
        let mut prober = Prober { key: &key, problems: Vec::new(), asked: 0 };
        for (surface, port) in [
            (CONTROLLER, None),
            (BLOBSTORE, None),
            (LOGAGGREGATOR, Some(80)),
            (POSTGRES_API, None),
            (ROUTER, None),
        ] {
            prober.probe(&surface, addr_of(&registry, surface.name, port).await?);
        }
        prober.probe(&HOST, SocketAddr::from(([127, 0, 0, 1], 1113)));
        prober.probe(&DISCOVERD, SocketAddr::from(([127, 0, 0, 1], 1111)));
        ensure!(prober.problems.is_empty(), "{:#?}", prober.problems);
        ensure!(prober.asked > 1000, "only {} questions were asked", prober.asked);
        before.has_stayed(&platform).await
    });
}
