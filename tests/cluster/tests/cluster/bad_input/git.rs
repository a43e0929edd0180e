//! What no git sends, to gitreceive: statuses and texts of spec/pipeline.md §3, and nothing is stored.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_tests::{Platform, on_shared_platform};
use discoverd_api::{Client, Servers};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::addr_of;
use super::harm::Before;
use super::wire::{Case, Want, ask};

const APP: &str = "badgit";
const ANONYMOUS: Want = Want::Text(401, "Authentication required\n");
const FORBIDDEN: Want = Want::Text(403, "Forbidden\n");
const UNKNOWN: Want = Want::Text(404, "unknown app\n");
const DUMB: Want = Want::Text(404, "Not Found\n");
const REFS: &str = "/badgit.git/info/refs?service=git-receive-pack";
const PUSH: &str = "/badgit.git/git-receive-pack";
const FETCH: &str = "/badgit.git/git-upload-pack";
/// More than any push of these tests, all of it zeros.
const LARGE: usize = 40 << 20;

#[test]
fn gitreceive_refuses_what_no_git_sends() {
    on_shared_platform(async |platform| {
        platform.flynn(&["create", "--remote", "", APP])?;
        let before = Before::note(&platform).await?;
        let registry = Client::new(&Servers::parse("http://127.0.0.1:1111"))?;
        let addr = addr_of(&registry, "gitreceive", None).await?;
        let asker = Asker::new(&platform)?;
        let mut cases = asker.keys();
        cases.extend(asker.paths());
        cases.extend(asker.bodies());
        cases.extend(asker.heads());
        let problems: Vec<_> =
            cases.iter().filter_map(|case| case.problem(ask(addr, case))).collect();
        ensure!(problems.is_empty(), "{problems:#?}");
        ensure!(cases.len() > 80, "only {} questions", cases.len());
        let refs =
            ask(addr, &asker.case("refs afterwards", ("GET", REFS), "", b"", Want::Harmless));
        let refs = String::from_utf8_lossy(&refs?).into_owned();
        ensure!(refs.contains(" capabilities^{}"), "there are refs: {refs}");
        before.has_stayed(&platform).await
    });
}

struct Asker {
    key: String,
}

impl Asker {
    fn new(platform: &Platform) -> anyhow::Result<Self> {
        let key = platform.key().context("no key")?;
        Ok(Self { key: STANDARD.encode(format!("git:{key}")) })
    }

    /// A request with the key; `more` are whole lines of its head.
    fn case(
        &self,
        name: &str,
        (method, path): (&str, &str),
        more: &str,
        body: &[u8],
        want: Want,
    ) -> Case {
        let key = format!("Authorization: Basic {}\r\n{more}", self.key);
        Case::new(&format!("{name}: {method} {path:.60}"), request(method, path, &key, body), want)
    }

    fn keys(&self) -> Vec<Case> {
        let half = self.key.get(..8).unwrap_or_default();
        let lines = [
            String::new(),
            "Authorization: Basic\r\n".to_owned(),
            "Authorization: Basic !!!\r\n".to_owned(),
            "Authorization: Basic Og==\r\n".to_owned(),
            format!("Authorization: Basic {half}\r\n"),
            format!("Authorization: Digest {}\r\n", self.key),
            "Authorization: Bearer \r\n".to_owned(),
            "Authorization: Bearer x.AAAA\r\n".to_owned(),
            format!("Authorization: Basic {}\r\n", "A".repeat(20_000)),
        ];
        let ways = [("GET", REFS), ("POST", PUSH), ("POST", FETCH), ("GET", "/"), ("PUT", "/x")];
        let mut cases = Vec::new();
        for line in &lines {
            for (method, path) in ways {
                let name = format!("key {line:.40?}: {method} {path}");
                cases.push(Case::new(&name, request(method, path, line, b""), ANONYMOUS));
            }
        }
        cases
    }

    fn paths(&self) -> Vec<Case> {
        let long = format!("/{}.git/info/refs?service=git-receive-pack", "a".repeat(2000));
        let forbidden = [
            ("GET", "/"),
            ("GET", "//info/refs?service=git-receive-pack"),
            ("GET", "/badgit.git"),
            ("GET", "/badgit.git/HEAD"),
            ("GET", "/badgit.git/objects/info/packs"),
            ("GET", "/badgit.git/../../etc/passwd"),
            ("GET", "/..%2f..%2fetc.git/info/refs?service=git-receive-pack"),
            ("GET", "/%00%ff.git/info/refs"),
            ("GET", "/BadGit.git/info/refs"),
            ("GET", "/bad--git.git/info/refs"),
            ("GET", "/badgit.git.git/info/refs"),
            ("GET", "/badgit.git/info/refs/"),
            ("GET", PUSH),
            ("POST", REFS),
            ("POST", "/badgit.git/git-archive"),
            ("POST", "/badgit.git/git-receive-pack/"),
            ("PUT", PUSH),
            ("DELETE", REFS),
            ("OPTIONS", REFS),
            ("TRACE", REFS),
            ("git", REFS),
        ];
        let unknown = [
            ("GET", "/nobody.git/info/refs?service=git-receive-pack"),
            ("GET", "/00000000-0000-4000-8000-00000000dead.git/info/refs"),
            ("GET", long.as_str()),
            ("POST", "/nobody.git/git-receive-pack"),
            ("POST", "/nobody/git-upload-pack"),
        ];
        let dumb = [
            ("GET", "/badgit.git/info/refs"),
            ("GET", "/badgit/info/refs?service="),
            ("GET", "/badgit.git/info/refs?service=git-x"),
            ("GET", "/badgit.git/info/refs?service=git-receive-pack%00"),
            ("GET", "/badgit.git/info/refs?&&==&%zz"),
        ];
        let of = |ways: &[(&str, &str)], want| -> Vec<_> {
            ways.iter().map(|way| self.case("path", *way, "", b"", want)).collect()
        };
        let mut cases = of(&forbidden, FORBIDDEN);
        cases.extend(of(&unknown, UNKNOWN));
        cases.extend(of(&dumb, DUMB));
        cases.push(self.case("head", ("HEAD", REFS), "", b"", Want::Status(403)));
        cases
    }

    /// git says in its answer what it thinks of these; the status comes before it has.
    fn bodies(&self) -> Vec<Case> {
        let command = packet(&format!(
            "{} {} refs/heads/master\0 report-status\n",
            "0".repeat(40),
            "1".repeat(40)
        ));
        let outside = packet(&format!("{} {} ../../x\n", "0".repeat(40), "1".repeat(40)));
        let pack = b"PACK\0\0\0\x02\0\0\0\x01".as_slice();
        let want = packet(&format!("want {}\n", "1".repeat(40)));
        let bodies = [
            Vec::new(),
            b"0000".to_vec(),
            b"hello".to_vec(),
            b"zzzz".to_vec(),
            b"0001".to_vec(),
            b"0003".to_vec(),
            b"ffffshort".to_vec(),
            b"\xff\xfe\0\0".to_vec(),
            command.clone(),
            [&command, b"0000".as_slice()].concat(),
            [&command, b"0000PACK".as_slice()].concat(),
            [&command, b"0000".as_slice(), pack].concat(),
            [&command, b"0000".as_slice(), pack, &[0x5a; 4096]].concat(),
            [&outside, b"0000".as_slice()].concat(),
            [&want, b"00000009done\n".as_slice()].concat(),
            packet("want x\n"),
            packet("deepen -1\n"),
            vec![0; LARGE],
        ];
        let mut cases = Vec::new();
        for path in [PUSH, FETCH] {
            for body in &bodies {
                let name = format!("{} bytes {:.20?}", body.len(), String::from_utf8_lossy(body));
                cases.push(self.case(&name, ("POST", path), "", body, Want::Harmless));
            }
            cases.extend(self.packed(path));
            cases.extend(self.broken(path));
        }
        cases
    }

    /// Bodies that say they are gzip.
    fn packed(&self, path: &str) -> Vec<Case> {
        let more = "Content-Encoding: gzip\r\n";
        let packed = |bytes: &[u8]| -> Vec<u8> {
            let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
            drop(zip.write_all(bytes));
            zip.finish().unwrap_or_default()
        };
        let whole = packed(b"0000");
        let bomb = packed(&vec![0; LARGE]);
        let case = |name, body: &[u8], want| self.case(name, ("POST", path), more, body, want);
        vec![
            case("no gzip", b"no gzip at all", Want::Status(400)),
            case("gzip and more", &[&whole[..], b"more"].concat(), Want::Harmless),
            case("half gzip", &whole[..whole.len() / 2], Want::Harmless),
            case("gzip head alone", &whole[..10], Want::Harmless),
            case("gzip of very much", &bomb, Want::Harmless),
        ]
    }

    /// Requests that end too early, or say other things than they do.
    fn broken(&self, path: &str) -> Vec<Case> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {}\r\n\
             Connection: close\r\n",
            self.key
        );
        vec![
            Case::broken_off("short", format!("{head}Content-Length: 1000\r\n\r\n0000")),
            Case::broken_off("no chunk", format!("{head}Transfer-Encoding: chunked\r\n\r\n")),
            Case::broken_off(
                "half a chunk",
                format!("{head}Transfer-Encoding: chunked\r\n\r\nff\r\n0000"),
            ),
            Case::new(
                "bad chunk",
                format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n0000"),
                Want::Harmless,
            ),
            Case::new("bad length", format!("{head}Content-Length: -1\r\n\r\n"), Want::Refused),
        ]
    }

    fn heads(&self) -> Vec<Case> {
        let long = format!("X: {}\r\n", "x".repeat(1 << 20));
        let many = "A: b\r\n".repeat(300);
        let path = format!("/{}", "x".repeat(1 << 20));
        vec![
            self.case("long header", ("GET", REFS), &long, b"", Want::Refused),
            self.case("many headers", ("GET", REFS), &many, b"", Want::Refused),
            self.case("long path", ("GET", &path), "", b"", Want::Refused),
            Case::new("no request", "hello\r\n\r\n", Want::Refused),
            Case::new("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), Want::Refused),
        ]
    }
}

fn request(method: &str, path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{more}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A packet line: its length in four hex digits, which count too.
fn packet(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}
