//! What every command is handed: the surroundings, the streams, and the controller's client, made when
//! it is first needed because several commands need none.

use std::fmt::Display;
use std::io::{BufRead, Write};

use crate::connection::Controller;
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::rc::Rc;
use crate::target::{Target, Wanted};

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// Values, tables and questions.
    pub out: &'a mut dyn Write,
    /// Confirmations and errors.
    pub err: &'a mut dyn Write,
    /// Answers.
    pub input: &'a mut dyn BufRead,
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// One invocation.
pub(crate) struct Context<'a> {
    /// What the process was started with.
    pub(crate) environment: &'a Environment,
    /// `-a` and `-c`, or their variables.
    pub(crate) wanted: Wanted,
    /// The person's terminal.
    pub(crate) streams: Streams<'a>,
}

impl Context<'_> {
    /// A line on stdout.
    pub(crate) fn say(&mut self, line: impl Display) -> Outcome {
        write_all(self.streams.out, &format!("{line}\n"))
    }

    /// Text on stdout that brings its own line ends.
    pub(crate) fn print(&mut self, text: &str) -> Outcome {
        write_all(self.streams.out, text)
    }

    /// A line on stderr, where confirmations go.
    pub(crate) fn tell(&mut self, line: impl Display) -> Outcome {
        write_all(self.streams.err, &format!("{line}\n"))
    }

    /// The config file's content.
    pub(crate) fn rc(&self) -> Result<Rc, Failure> {
        Ok(Rc::load(&self.environment.rc_path()?)?)
    }

    /// Replaces the config file.
    pub(crate) fn save(&self, rc: &Rc) -> Outcome {
        Ok(rc.save(&self.environment.rc_path()?)?)
    }

    /// The cluster, and the app if one can be named.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        Ok(Target::find(&self.wanted, &self.rc()?, self.environment)?)
    }

    /// The cluster's controller.
    pub(crate) fn controller(&self) -> Result<Controller, Failure> {
        Controller::of(&self.target()?.cluster)
    }

    /// The controller, and the app's name or id.
    pub(crate) fn controller_and_app(&self) -> Result<(Controller, String), Failure> {
        let Target { cluster, app } = self.target()?;
        Ok((Controller::of(&cluster)?, app?))
    }
}

/// Writes at once: what a person waits for must not sit in a buffer. A reader that went away ends the
/// command without a word, as `flynn ps | head -1` should.
fn write_all(stream: &mut dyn Write, text: &str) -> Outcome {
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.map_err(|source| {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::Status(1);
        }
        Failure::Io { what: "could not write the output".to_owned(), source }
    })
}
