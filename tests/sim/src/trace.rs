//! The history of a run, for people (`TRACE=1`) and to compare two runs.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Where a run tells what happens. Formats nothing unless somebody listens.
#[derive(Clone, Debug, Default)]
pub struct Trace(Mode);

#[derive(Clone, Debug, Default)]
enum Mode {
    #[default]
    Silent,
    Printed,
    Kept(Rc<RefCell<Vec<String>>>),
}

impl Trace {
    /// Prints when `TRACE` is set in the environment.
    pub fn from_env() -> Self {
        Self(if std::env::var_os("TRACE").is_some() { Mode::Printed } else { Mode::Silent })
    }

    /// Keeps all lines.
    pub fn kept() -> Self {
        Self(Mode::Kept(Rc::default()))
    }

    /// The lines that were kept.
    pub fn lines(&self) -> Vec<String> {
        match &self.0 {
            Mode::Kept(lines) => lines.borrow().clone(),
            Mode::Silent | Mode::Printed => Vec::new(),
        }
    }

    /// Tells what happened at this true time.
    #[expect(clippy::print_stderr, reason = "this is what TRACE=1 asks for")]
    pub fn note(&self, now: Duration, what: fmt::Arguments<'_>) {
        match &self.0 {
            Mode::Silent => {}
            Mode::Printed => eprintln!("{:9.3} {what}", now.as_secs_f64()),
            Mode::Kept(lines) => lines.borrow_mut().push(format!("{now:?} {what}")),
        }
    }
}
