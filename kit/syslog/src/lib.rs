//! RFC 5424 messages in RFC 6587 frames.
