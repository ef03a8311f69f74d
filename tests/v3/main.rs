//! MQTT 3.1.1: what its specification asks of a server, proved with clients of that version.
//!
//! Each tag, as `[v3 MQTT-2.2.2-2]`, stands beside the assertion that fails when the server breaks
//! that statement. A chapter of the specification, or two that belong together, to a file. What is
//! about bytes is told in bytes.

#[path = "../common/mod.rs"]
mod common;

mod connect;
mod delivery;
mod malformed;
mod publish;
mod session;
mod subscribe;
mod topics;
mod will;

use common::{Client, World, connect as clean};
use midge::packet::{Connect, QoS, Version};

const V311: Version = Version::V311;

/// A CONNECT with CleanSession 0.
fn keeping(id: &str) -> Connect<'_> {
    Connect {
        clean_start: false,
        ..clean(V311, id)
    }
}

/// A client with a clean session.
fn client(world: &mut World, id: &str) -> Client {
    world.client(V311, id)
}

/// A client with a clean session and one subscription.
fn subscriber(world: &mut World, id: &str, filter: &str, qos: QoS) -> Client {
    let subscriber = client(world, id);
    world.subscribe(subscriber, filter, qos);
    subscriber
}

/// A packet of less than 128 bytes: its first byte, its length, its parts.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 128, "the length takes one byte");
    [&[first, body.len() as u8], &body[..]].concat()
}

/// A string of less than 256 bytes behind its length.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short string");
    [&[0, length], bytes].concat()
}

/// A CONNECT with these flags, whose payload has these fields.
fn raw_connect(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let payload: Vec<u8> = fields.iter().flat_map(|field| string(field)).collect();
    packet(0x10, &[b"\0\x04MQTT\x04", &[flags], b"\0\0", &payload])
}
