//! Sessions as their records tell of them, in any order, before they are built.

use bytes::Buf;

use super::SessionId;
use super::acl::Identity;
use super::deadlines::Millis;
use super::ending::Will;
use super::message::Message;
use super::shelf::{Sequence, Shelf};
use super::subscriptions::Subscriber;
use crate::packet::field::VARIABLE_BYTE_INTEGER_MAX;
use crate::packet::{PacketId, QoS};

/// No broker runs until then: 35,000 years, in milliseconds.
pub const LATEST: Millis = 1 << 50;

/// What is known of a session so far.
#[derive(Debug, Default)]
pub struct Draft {
    pub client_id: Option<Box<str>>,
    pub who: Option<Identity>,
    pub expiry_interval: u32,
    pub expires_at: Millis,
    /// As they were named in the SUBSCRIBE.
    pub subscriptions: Vec<(Box<str>, Subscriber)>,
    /// Those for which retained messages are still to be sent.
    pub replays: Vec<Box<str>>,
    pub received: Vec<PacketId>,
    pub sent: Vec<Sent>,
    pub will: Option<(Will, Millis)>,
    pub shelf: Shelf,
    pub last: Sequence,
}

/// A QoS 2 message that was in flight.
#[derive(Debug)]
pub struct Sent {
    pub packet_id: PacketId,
    /// Where it waits; 0 where it was released.
    pub sequence: Sequence,
    pub order: u64,
}

pub fn subscriber(value: &[u8]) -> Option<Subscriber> {
    let mut value = value;
    let flags = value.try_get_u8().ok()?;
    Some(Subscriber {
        session: SessionId(0),
        subscription_id: subscription_id(&mut value)?,
        qos: QoS::parse(flags & 3).ok()?,
        no_local: flags & 4 != 0,
        retain_as_published: flags & 8 != 0,
    })
}

/// A time by the broker's clock.
pub fn time(bytes: &mut &[u8]) -> Option<Millis> {
    bytes.try_get_u64().ok().filter(|at| *at <= LATEST)
}

/// 0 stands for none.
pub fn subscription_id(bytes: &mut &[u8]) -> Option<u32> {
    let id = bytes.try_get_u32().ok()?;
    (id <= VARIABLE_BYTE_INTEGER_MAX).then_some(id)
}

pub fn will(value: &[u8]) -> Option<(Will, Millis)> {
    let mut value = value;
    let due_at = time(&mut value)?;
    let delay_interval = value.try_get_u32().ok()?;
    let expiry_interval = u32::try_from(value.try_get_u64().ok()?).ok();
    let retain = value.try_get_u8().ok()? != 0;
    let will = Will {
        message: Message::decode(value)?,
        retain,
        expiry_interval,
        delay_interval,
    };
    Some((will, due_at))
}
