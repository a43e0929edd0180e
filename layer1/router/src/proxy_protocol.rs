//! PROXY protocol, version 1 in text: the line a load balancer in front of us may send before
//! anything else, with the address its client came from. Parsing only; the bytes come from
//! `connection`.

use std::net::{IpAddr, SocketAddr};

/// The longest line the protocol allows, line end included.
pub(crate) const MAX_LINE: usize = 107;

const PREFIX: &[u8] = b"PROXY ";

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a line: read on.
    Partial,
    /// No PROXY line: all bytes belong to the client.
    Absent,
    /// A line of `length` bytes.
    Line { source: SocketAddr, length: usize },
    /// A line that breaks the rules: close the connection.
    Malformed,
}

/// Looks at all bytes that came so far.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let start = &bytes[..bytes.len().min(PREFIX.len())];
    if !PREFIX.starts_with(start) {
        return Parsed::Absent;
    }
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let full = bytes.len() >= MAX_LINE;
        return if full { Parsed::Malformed } else { Parsed::Partial };
    };
    match std::str::from_utf8(&bytes[..end]).ok().and_then(source) {
        Some(source) => Parsed::Line { source, length: end + 2 },
        None => Parsed::Malformed,
    }
}

/// `PROXY TCP4 <source> <destination> <source port> <destination port>`, TCP6 alike.
fn source(line: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, family, source, destination, source_port, destination_port] = fields[..] else {
        return None;
    };
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    destination_port.parse::<u16>().ok()?;
    fits.then_some(SocketAddr::new(source, source_port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_documented() {
        let line = |source: &str, length| Parsed::Line { source: source.parse().unwrap(), length };
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(120));
        for (bytes, want) in [
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\nGET", line("1.2.3.4:1000", 36)),
            ("PROXY TCP6 ::1 ::2 1000 80\r\n", line("[::1]:1000", 28)),
            ("GET / HTTP/1.1\r\n", Parsed::Absent),
            ("PROXYx", Parsed::Absent),
            ("", Parsed::Partial),
            ("PROX", Parsed::Partial),
            ("PROXY TCP4 1.2.3.4", Parsed::Partial),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n", Parsed::Malformed),
            ("PROXY UNKNOWN\r\n", Parsed::Malformed),
            ("PROXY TCP4 ::1 ::2 1000 80\r\n", Parsed::Malformed),
            ("PROXY TCP4 1.2.3 5.6.7.8 1000 80\r\n", Parsed::Malformed),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 70000 80\r\n", Parsed::Malformed),
            (long.as_str(), Parsed::Malformed),
        ] {
            assert_eq!(parse(bytes.as_bytes()), want, "{bytes:?}");
        }
    }
}
