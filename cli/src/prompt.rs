//! The yes/no question of commands that take something away.

use crate::context::Context;
use crate::failure::Failure;

impl Context<'_> {
    /// Asks until the answer is y, yes, n or no. The end of the input is an error: whoever pipes into a
    /// command that asks should give `-y`.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        self.print(&format!("{question} (yes/no): "))?;
        loop {
            let mut line = String::new();
            let read = self.streams.input.read_line(&mut line);
            if read.map_err(Failure::io("could not read the answer"))? == 0 {
                return Err(Failure::said(
                    "no answer: give one on stdin, or -y/--yes where the command has it",
                ));
            }
            match line.trim_end_matches(['\n', '\r']) {
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.print("Please type 'yes' or 'no': ")?,
            }
        }
    }
}
