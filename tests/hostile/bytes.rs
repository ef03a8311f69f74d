//! Packets put together byte by byte, so that they can be wrong wherever a row wants them to be.

use midge::packet::Version;

/// No UTF-8: surrogates (alone, and as a pair), overlong forms, beyond U+10FFFF, cut, stray.
pub const ILL_FORMED: &[&[u8]] = &[
    b"a\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xED\xA0\xBD\xED\xB8\x80",
    b"\xC0\x80",
    b"\xE0\x80\xAF",
    b"\xF4\x90\x80\x80",
    b"\x80",
    b"a\xE2\x82",
    b"\xFF",
];
pub const NULS: &[&[u8]] = &[b"\0", b"a\0b", b"ab\0"];
/// The longest string there can be.
pub const STRING_MAX: usize = 65_535;

/// A row with a single thing to send.
pub fn one(bytes: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
    vec![bytes.as_ref().to_vec()]
}

/// A row with one for each of these.
pub fn each<T: Copy>(of: &[T], bytes: impl Fn(T) -> Vec<u8>) -> Vec<Vec<u8>> {
    of.iter().map(|one| bytes(*one)).collect()
}

/// The same, of byte strings.
pub fn of(all: &[&[u8]], bytes: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    all.iter().map(|one| bytes(one)).collect()
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(length(body.len()));
    bytes.extend(body);
    bytes
}

/// The same with a length that says so in four bytes.
pub fn padded(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let digits = [0, 7, 14, 21].map(|shift| (body.len() >> shift & 0x7F) as u8);
    bytes.extend([
        digits[0] | 0x80,
        digits[1] | 0x80,
        digits[2] | 0x80,
        digits[3],
    ]);
    bytes.extend(body);
    bytes
}

fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// A string with its length.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Properties with their length, where the version has any.
pub fn block(version: Version, properties: &[u8]) -> Vec<u8> {
    match version {
        Version::V5 => [length(properties.len()), properties.to_vec()].concat(),
        Version::V31 | Version::V311 => Vec::new(),
    }
}

/// What follows the fixed header of a CONNECT: `flags`, `properties`, and strings.
pub fn hello_body(version: Version, flags: u8, properties: &[u8], fields: &[&[u8]]) -> Vec<u8> {
    let fixed = [0, 4, b'M', b'Q', b'T', b'T', version as u8, flags, 0, 0];
    let fields: Vec<u8> = fields.iter().flat_map(|field| text(field)).collect();
    [fixed.to_vec(), block(version, properties), fields].concat()
}

pub fn hello(version: Version, flags: u8, properties: &[u8], fields: &[&[u8]]) -> Vec<u8> {
    packet(0x10, &hello_body(version, flags, properties, fields))
}

/// A good CONNECT for a clean session; the server gives the id.
pub fn good(version: Version) -> Vec<u8> {
    hello(version, 0x02, b"", &[b""])
}

/// A good one with a keep alive of a second.
pub fn brisk(version: Version) -> Vec<u8> {
    let mut bytes = good(version);
    bytes[11] = 1;
    bytes
}

/// A CONNECT with a Will.
pub fn testator(version: Version, topic: &[u8]) -> Vec<u8> {
    let mut body = hello_body(version, 0x06, b"", &[b""]);
    body.extend(block(version, b""));
    body.extend([text(topic), text(b"x")].concat());
    packet(0x10, &body)
}

/// A PUBLISH to `topic` with that first byte; packet id 7, if its QoS has one.
pub fn publish(version: Version, first: u8, topic: &[u8], properties: &[u8]) -> Vec<u8> {
    publish_id(version, first, topic, 7, properties)
}

pub fn publish_id(
    version: Version,
    first: u8,
    topic: &[u8],
    id: u16,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if first & 0x06 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(block(version, properties));
    body.push(b'x');
    packet(first, &body)
}

/// A PUBLISH of that many bytes in all.
pub fn sized(version: Version, bytes: usize) -> Vec<u8> {
    let head = [text(b"t"), block(version, b"")].concat();
    packet(
        0x30,
        &[&head[..], &vec![b'x'; bytes - 4 - head.len()]].concat(),
    )
}

/// A SUBSCRIBE with packet id 7.
pub fn subscribe(version: Version, properties: &[u8], filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = vec![0, 7];
    body.extend(block(version, properties));
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(version: Version, filters: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0, 7];
    body.extend(block(version, b""));
    body.extend(filters.iter().flat_map(|filter| text(filter)));
    packet(0xA2, &body)
}

pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// Subscribes to `topic`, and publishes to it: the client is sent its own message.
pub fn echo(version: Version, topic: &[u8], qos: u8) -> Vec<u8> {
    let subscribe = subscribe(version, b"", &[(topic, qos)]);
    [subscribe, publish(version, 0x30 | qos << 1, topic, b"")].concat()
}

/// A topic or filter of that many levels.
pub fn levels(count: usize) -> Vec<u8> {
    vec![b'/'; count - 1]
}
