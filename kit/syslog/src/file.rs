//! Frames as hosts keep them in files: each is a line of its own, `LEN SP MSG` and a newline. A message
//! holds no newline, so a reader finds its way again behind whatever a power cut left.

use crate::frame::MAX_FRAME;

/// The line of a message, with its newline. The message must hold none.
pub fn file_line(message: &[u8]) -> Vec<u8> {
    let mut line = format!("{} ", message.len()).into_bytes();
    line.reserve(message.len() + 1);
    line.extend_from_slice(message);
    line.push(b'\n');
    line
}

/// The message in a line without its newline; None for a torn or foreign one.
pub fn file_message(line: &[u8]) -> Option<&[u8]> {
    let blank = line.iter().take(6).position(|byte| *byte == b' ')?;
    let digits = &line[..blank];
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let length: usize = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    let message = &line[blank + 1..];
    (length == message.len() && length <= MAX_FRAME).then_some(message)
}
