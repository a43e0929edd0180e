//! What the person who pushes sees. Titles and indented lines go to standard output, each beginning with
//! the sequence that overwrites what a git client puts before it; complaints go to standard error.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Moves to the first column.
const COLUMN: &str = "\u{1b}[1G";
const INDENT: &str = "       ";

type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// Where a build writes. Cheap to clone; clones write to the same places.
#[derive(Clone)]
pub struct Output {
    out: Sink,
    err: Sink,
}

impl Output {
    /// Writes to these.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(Box::new(out))), err: Arc::new(Mutex::new(Box::new(err))) }
    }

    /// Writes to the process's own standard output and error.
    pub fn standard() -> Self {
        Self::new(io::stdout(), io::stderr())
    }

    /// `-----> TEXT`
    pub(crate) fn title(&self, text: &str) {
        write(&self.out, format!("{COLUMN}-----> {text}\n").as_bytes());
    }

    /// TEXT below a title.
    pub(crate) fn note(&self, text: &str) {
        write(&self.out, format!("{COLUMN}{INDENT}{text}\n").as_bytes());
    }

    /// A line of a tool: below a title unless it is one.
    pub(crate) fn tool_line(&self, line: &[u8]) {
        let line = line.trim_ascii();
        let indent = if line.starts_with(b"--") { "" } else { INDENT };
        let mut whole = format!("{COLUMN}{indent}").into_bytes();
        whole.extend_from_slice(line);
        whole.push(b'\n');
        write(&self.out, &whole);
    }

    /// What went wrong, or what should be known, in the form buildpacks use.
    pub fn complaint(&self, text: &str) {
        let lines: String = text.lines().map(|line| format!(" !     {line}\n")).collect();
        write(&self.err, lines.as_bytes());
    }

    /// What a tool wrote to its standard error, unchanged.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        write(&self.err, bytes);
    }
}

/// Whoever reads may have gone: the build is cancelled by a signal, not by a closed pipe.
fn write(sink: &Sink, bytes: &[u8]) {
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    drop(sink.write_all(bytes).and_then(|()| sink.flush()));
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_look_as_pushers_know_them() {
        let (out, err) = (Shared::default(), Shared::default());
        let output = Output::new(out.clone(), err.clone());
        output.title("Node.js app detected");
        output.note("Procfile declares types -> web");
        output.tool_line(b"   installing  ");
        output.tool_line(b"-----> Building");
        output.tool_line(b"");
        output.complaint("it failed\nfor a reason");
        output.error_bytes(b"raw");
        let text = |shared: &Shared| String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text(&out),
            "\u{1b}[1G-----> Node.js app detected\n\u{1b}[1G       Procfile declares types -> web\n\
             \u{1b}[1G       installing\n\u{1b}[1G-----> Building\n\u{1b}[1G       \n"
        );
        assert_eq!(text(&err), " !     it failed\n !     for a reason\nraw");
    }
}
