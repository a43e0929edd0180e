//! What the person who pushes sees. Standard output of the hook is told line by line behind an escape
//! that overwrites git's `remote: `; standard error stands behind it.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Back to the first column, and the line erased.
const OVERWRITE: &[u8] = b"\x1b[1G\x1b[K";
/// A line longer than this is told in pieces.
const MAX_LINE: usize = 64 << 10;

type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// The two outputs of this process. That nobody reads them any more is not an error here: whoever went
/// away is noticed elsewhere.
pub(crate) struct Terminal {
    out: Sink,
    err: Sink,
    overwrites: bool,
    line: Vec<u8>,
}

impl Terminal {
    /// Of the hook.
    pub(crate) fn of_hook() -> Self {
        Self::new(Box::new(tokio::io::stdout()), Box::new(tokio::io::stderr()), true)
    }

    /// Of a receiver run by hand.
    pub(crate) fn plain() -> Self {
        Self::new(Box::new(tokio::io::stdout()), Box::new(tokio::io::stderr()), false)
    }

    fn new(out: Sink, err: Sink, overwrites: bool) -> Self {
        Self { out, err, overwrites, line: Vec::new() }
    }

    /// A line of our own.
    pub(crate) async fn say(&mut self, text: &str) {
        self.output(format!("{text}\n").as_bytes()).await;
    }

    /// A line that stands behind git's `remote: `.
    pub(crate) async fn say_bare(&mut self, text: &str) {
        self.end_line().await;
        drop(self.out.write_all(format!("{text}\n").as_bytes()).await);
        drop(self.out.flush().await);
    }

    /// What went wrong.
    pub(crate) async fn complain(&mut self, text: &str) {
        self.end_line().await;
        self.error_output(format!("ERROR: {text}\n").as_bytes()).await;
    }

    /// Output of a build, in pieces of any size.
    pub(crate) async fn output(&mut self, bytes: &[u8]) {
        if !self.overwrites {
            drop(self.out.write_all(bytes).await);
        } else {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.line.len() > MAX_LINE {
                    self.tell_line().await;
                }
            }
        }
        drop(self.out.flush().await);
    }

    /// Errors of a build, as they are.
    pub(crate) async fn error_output(&mut self, bytes: &[u8]) {
        drop(self.err.write_all(bytes).await);
        drop(self.err.flush().await);
    }

    /// Tells what is left of a line without an end.
    pub(crate) async fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.tell_line().await;
        }
        drop(self.out.flush().await);
    }

    async fn tell_line(&mut self) {
        let mut line = OVERWRITE.to_vec();
        line.append(&mut self.line);
        drop(self.out.write_all(&line).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn told(overwrites: bool) -> String {
        let (out, mut seen) = tokio::io::duplex(4096);
        let mut terminal = Terminal::new(Box::new(out), Box::new(tokio::io::sink()), overwrites);
        terminal.say("-----> Building a...").await;
        terminal.output(b"one\ntw").await;
        terminal.output(b"o\nrest").await;
        terminal.complain("no").await;
        drop(terminal);
        let mut text = String::new();
        seen.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn every_line_of_the_hook_overwrites_what_git_puts_before_it() {
        let want = "\x1b[1G\x1b[K-----> Building a...\n\x1b[1G\x1b[Kone\n\x1b[1G\x1b[Ktwo\n\x1b[1G\x1b[Krest\n";
        assert_eq!(told(true).await, want);
        assert_eq!(told(false).await, "-----> Building a...\none\ntwo\nrest");
    }
}
