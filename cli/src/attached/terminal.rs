//! This process's own terminal while a job has it: raw, restored in every case.

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Questions about the terminal at standard input and output.
#[derive(Debug)]
pub(super) struct Terminal;

impl Terminal {
    /// Whether a person sits at both.
    pub(super) fn is_there() -> bool {
        isatty(std::io::stdin()) && isatty(std::io::stdout())
    }

    /// Rows and columns.
    pub(super) fn size() -> Option<(u16, u16)> {
        tcgetwinsize(std::io::stdout()).ok().map(|size| (size.ws_row, size.ws_col))
    }
}

/// A raw terminal; as it was again when dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw.
    pub(super) fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
