//! Programs that listen or dial.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) fn port() -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Greets with what tells one job from another.
pub(crate) fn hello() -> ExitCode {
    let greeting = greeting();
    http(move |_| greeting.clone())
}

pub(crate) fn greeting() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "Hello from Flynn on port {} from container {} release {}\n",
        port(),
        host.trim(),
        variable("FLYNN_RELEASE_ID")
    )
}

/// Takes as many milliseconds as the path says: `/5000`.
pub(crate) fn slow() -> ExitCode {
    http(|path| {
        let wait: u64 = path.trim_start_matches('/').parse().unwrap_or(0);
        std::thread::sleep(Duration::from_millis(wait));
        format!("waited {wait}\n")
    })
}

/// A HTTP/1.1 server with keep-alive and one answer.
pub(crate) fn http(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> ExitCode {
    let Ok(listener) = TcpListener::bind(("0.0.0.0", port())) else { return ExitCode::from(1) };
    let answer = std::sync::Arc::new(answer);
    for stream in listener.incoming().flatten() {
        let answer = answer.clone();
        std::thread::spawn(move || serve(&stream, &*answer));
    }
    ExitCode::SUCCESS
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&str) -> String) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = Request::read(&mut reader)?;
        reply(stream, "200 OK", &answer(&request.path))?;
    }
}

/// What matters of a request; its body is read and forgotten.
pub(crate) struct Request {
    pub(crate) path: String,
    /// The key of a WebSocket handshake.
    pub(crate) websocket: Option<String>,
}

impl Request {
    /// None at the end of the connection.
    pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
        let (mut length, mut websocket) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            let Some((name, value)) = line.trim().split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "sec-websocket-key" => websocket = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
        Some(Self { path, websocket })
    }
}

/// Sends a whole answer.
pub(crate) fn reply(mut stream: &TcpStream, status: &str, body: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

/// Sends every line back.
pub(crate) fn echo() -> ExitCode {
    let Ok(listener) = TcpListener::bind(("0.0.0.0", port())) else { return ExitCode::from(1) };
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut reader = stream.try_clone().ok()?;
            let mut writer = stream;
            std::io::copy(&mut reader, &mut writer).ok()
        });
    }
    ExitCode::SUCCESS
}

/// Says for each `host:port` whether a connection could be made: `ADDRESS open|closed`. All are tried at
/// once, for the closed ones take their time.
pub(crate) fn dial(addresses: &[String]) -> ExitCode {
    let is_open = |address: &str| {
        let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
        resolved.is_some_and(|to| TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok())
    };
    std::thread::scope(|scope| {
        let tries: Vec<_> =
            addresses.iter().map(|address| (address, scope.spawn(|| is_open(address)))).collect();
        for (address, dialled) in tries {
            let open = dialled.join().unwrap_or(false);
            println!("{address} {}", if open { "open" } else { "closed" });
        }
    });
    ExitCode::SUCCESS
}
