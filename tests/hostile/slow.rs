//! What takes its time, byte by byte or for ever, and what it gets and when.

use std::time::Duration;

use midge::packet::Version;

use crate::answer::Slow;
use crate::bytes::*;
use crate::rows::PACKET_BYTES_MAX;
use crate::rows::Start::{self, Connected, Nothing};

const AT_ONCE: u64 = 0;

/// The CONNECT must come within ten seconds; the broker may be busy when they are over.
const CONNECT_TIMEOUT: (u64, u64) = (9_900, 13_000);
/// One and a half times a keep alive of one second.
const KEEP_ALIVE: (u64, u64) = (1_400, 4_500);
const NEVER: (u64, u64) = (0, 0);

#[allow(clippy::too_many_arguments)] // The columns of a table.
const fn slow(
    name: &'static str,
    start: Start,
    every: u64,
    send: fn(Version) -> Vec<u8>,
    v311: &'static str,
    v5: &'static str,
    ends: (u64, u64),
) -> Slow {
    Slow {
        name,
        start,
        send,
        every: Duration::from_millis(every),
        v311,
        v5,
        ends: (Duration::from_millis(ends.0), Duration::from_millis(ends.1)),
    }
}

#[rustfmt::skip]
pub const SLOW: &[Slow] = &[
    slow("nothing, ever", Nothing, AT_ONCE, |_| Vec::new(), "closed", "closed", CONNECT_TIMEOUT),
    slow("one byte of a CONNECT", Nothing, AT_ONCE, |_| vec![0x10], "closed", "closed", CONNECT_TIMEOUT),
    slow("half a CONNECT", Nothing, AT_ONCE, |v| good(v)[..7].to_vec(), "closed", "closed", CONNECT_TIMEOUT),
    slow("99,999 bytes of a CONNECT of 100,000", Nothing, AT_ONCE, unfinished_connect, "closed", "closed", CONNECT_TIMEOUT),
    slow("a CONNECT, a byte every 900 ms", Nothing, 900, good, "closed", "closed", CONNECT_TIMEOUT),
    slow("a CONNECT, a byte every 100 ms", Nothing, 100, good, "CONNACK 0x00, stays", "CONNACK 0x00, stays", NEVER),
    slow("a PUBLISH, a byte every 100 ms", Connected, 100, |v| publish(v, 0x32, b"t", b""),
        "PUBACK 7 0x00, stays", "PUBACK 7 0x10, stays", NEVER),
    slow("keep alive of 1 s, and silence", Nothing, AT_ONCE, brisk, // [MQTT-3.1.2-22] [v3 MQTT-3.1.2-24]
        "CONNACK 0x00, closed", "CONNACK 0x00, DISCONNECT 0x8D, closed", KEEP_ALIVE),
    slow("keep alive of 1 s, and a packet but for its last byte", Nothing, AT_ONCE, |v| [brisk(v), unfinished_publish(v)].concat(),
        "CONNACK 0x00, closed", "CONNACK 0x00, DISCONNECT 0x8D, closed", KEEP_ALIVE),
    slow("keep alive of 1 s, and a PUBLISH, a byte every 100 ms", Nothing, 100,
        |v| [brisk(v), publish(v, 0x32, &[b'x'; 100], b"")].concat(),
        "CONNACK 0x00, closed", "CONNACK 0x00, DISCONNECT 0x8D, closed", (KEEP_ALIVE.0 + 1_300, KEEP_ALIVE.1 + 1_500)),
];

/// The largest CONNECT there may be, without its last byte.
pub fn unfinished_connect(v: Version) -> Vec<u8> {
    let name = [b'x'; STRING_MAX];
    let rest = 100_000 - hello(v, 0xC2, b"", &[b"", &name, b""]).len();
    let mut bytes = hello(v, 0xC2, b"", &[b"", &name, &vec![b'x'; rest]]);
    bytes.pop();
    bytes
}

/// The largest PUBLISH there may be, without its last byte.
pub fn unfinished_publish(v: Version) -> Vec<u8> {
    let mut bytes = sized(v, PACKET_BYTES_MAX);
    bytes.pop();
    bytes
}
