//! An app as people write them, which can be told by its environment to fail in one of several ways.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::network::{Request, greeting, port, reply, variable};
use crate::process::{catch, was_told_to_end};
use crate::sha1;

/// How often a thread looks whether the program was told to end.
const LOOK: Duration = Duration::from_millis(50);
/// How long connections may take to end after that.
const GRACE: Duration = Duration::from_secs(5);
/// The constant of RFC 6455.
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A close frame: going away.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Serves until it is told to end, unless `MODE` says otherwise.
pub(crate) fn run() -> ExitCode {
    let mode = variable("MODE");
    match mode.as_str() {
        "crash" => return ExitCode::from(3),
        "deaf" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        _ => {}
    }
    catch(libc::SIGTERM);
    let Ok(listener) = TcpListener::bind(("0.0.0.0", port())) else { return ExitCode::from(1) };
    let status = if mode == "broken" { "500 Internal Server Error" } else { "200 OK" };
    let sockets = Arc::new(AtomicUsize::new(0));
    let counted = sockets.clone();
    std::thread::spawn(move || accept(&listener, status, &counted));
    let started = Instant::now();
    while !was_told_to_end() {
        if mode == "crash-later" && started.elapsed() > Duration::from_secs(3) {
            return ExitCode::from(4);
        }
        std::thread::sleep(LOOK);
    }
    let told = Instant::now();
    while sockets.load(Ordering::SeqCst) > 0 && told.elapsed() < GRACE {
        std::thread::sleep(LOOK);
    }
    ExitCode::SUCCESS
}

fn accept(listener: &TcpListener, status: &'static str, sockets: &Arc<AtomicUsize>) {
    let greeting: Arc<str> = greeting().into();
    for stream in listener.incoming().flatten() {
        let (greeting, sockets) = (greeting.clone(), sockets.clone());
        std::thread::spawn(move || serve(&stream, status, &greeting, &sockets));
    }
}

fn serve(stream: &TcpStream, status: &str, greeting: &str, sockets: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = Request::read(&mut reader)?;
        if let Some(key) = request.websocket {
            sockets.fetch_add(1, Ordering::SeqCst);
            let ended = echo(stream, &key);
            sockets.fetch_sub(1, Ordering::SeqCst);
            return ended;
        }
        if let Some(wait) = request.path.strip_prefix("/slow/") {
            std::thread::sleep(Duration::from_millis(wait.parse().unwrap_or(0)));
        }
        reply(stream, status, greeting)?;
    }
}

/// Sends short messages back; closes in order when the program was told to end.
fn echo(mut stream: &TcpStream, key: &str) -> Option<()> {
    let sum = sha1::digest(format!("{key}{WEBSOCKET}").as_bytes());
    let accept = base64::engine::general_purpose::STANDARD.encode(sum);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    loop {
        stream.set_read_timeout(Some(LOOK)).ok()?;
        let mut first = [0];
        match stream.read(&mut first) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if was_told_to_end() {
                    stream.write_all(&GOING_AWAY).ok()?;
                    // Until the client has closed its side, so that nothing is reset.
                    stream.set_read_timeout(Some(GRACE)).ok()?;
                    return std::io::copy(&mut stream, &mut std::io::sink()).ok().map(drop);
                }
                continue;
            }
            Err(_) => return None,
        }
        stream.set_read_timeout(Some(GRACE)).ok()?;
        let (mut length, mut mask) = ([0], [0; 4]);
        stream.read_exact(&mut length).ok()?;
        stream.read_exact(&mut mask).ok()?;
        let length = length[0] & 0x7f;
        let mut payload = vec![0; usize::from(length)];
        stream.read_exact(&mut payload).ok()?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let mut frame = vec![first[0], length];
        frame.extend(payload);
        stream.write_all(&frame).ok()?;
        if first[0] == GOING_AWAY[0] {
            return Some(());
        }
    }
}
