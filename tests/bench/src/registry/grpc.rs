//! As much of gRPC (its HTTP/2 framing) and of etcd's messages (protobuf, `rpc.proto` of etcd 3.4) as
//! three calls need.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Methods.
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Protobuf: a length-delimited field, and a varint one.
const BYTES: u8 = 2;
const VARINT: u8 = 0;

/// PutRequest: key = 1, value = 2.
pub(super) fn put(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    bytes(&mut message, 1, key);
    bytes(&mut message, 2, value);
    framed(&message)
}

/// RangeRequest of everything that begins with `prefix`, answered by the member itself: key = 1,
/// range_end = 2, serializable = 7.
pub(super) fn range(prefix: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    bytes(&mut message, 1, prefix);
    bytes(&mut message, 2, &after(prefix));
    tag(&mut message, 7, VARINT);
    message.put_u8(1);
    framed(&message)
}

/// WatchRequest whose create_request = 1 has key = 1, range_end = 2.
pub(super) fn watch(prefix: &[u8]) -> Bytes {
    let mut create = BytesMut::new();
    bytes(&mut create, 1, prefix);
    bytes(&mut create, 2, &after(prefix));
    let mut message = BytesMut::new();
    bytes(&mut message, 1, &create);
    framed(&message)
}

/// The first key behind all that begin with `prefix`.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

fn tag(to: &mut BytesMut, field: u8, kind: u8) {
    to.put_u8(field << 3 | kind);
}

fn bytes(to: &mut BytesMut, field: u8, content: &[u8]) {
    tag(to, field, BYTES);
    let mut rest = content.len();
    while rest >= 0x80 {
        to.put_u8(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    to.put_u8(u8::try_from(rest).unwrap_or_default());
    to.put_slice(content);
}

/// Not compressed, and its length.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_are_what_protobuf_says() {
        assert_eq!(super::put(b"k", b"v").as_ref(), b"\0\0\0\0\x06\x0a\x01k\x12\x01v");
        assert_eq!(super::range(b"a/").as_ref(), b"\0\0\0\0\x0a\x0a\x02a/\x12\x02a0\x38\x01");
        assert_eq!(super::watch(b"a").as_ref(), b"\0\0\0\0\x08\x0a\x06\x0a\x01a\x12\x01b");
        let long = super::put(b"k", &[b'x'; 200]);
        assert_eq!(&long[8..11], b"\x12\xc8\x01");
    }
}
