//! Who may do what.
//!
//! What holds for all clients: whether a listener takes those without a user name, whether others
//! need a password (which `verify.rs` sees to), and which topics are the server's. What an ACL file
//! says of each is in `authority.rs`.

use super::limits::{Limits, ListenerOptions};
use super::verify::{self, Verdict};
use crate::packet::{Connect, ReasonCode, Refusal, TopicName};

/// Bridges tell here whether they are connected; nothing else under `$SYS` is a client's to write.
const BRIDGE_STATE: (&[u8], &[u8]) = (b"$SYS/broker/connection/", b"/state");

/// What lets a client in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Open,
    /// If its password is right.
    ByPassword,
}

/// Whether a client may connect. Where there are users, who brings a name must have its password,
/// also where no name is needed; where there are none, a name opens no door that is closed without
/// one.
pub fn may_connect(listener: &ListenerOptions, connect: &Connect) -> Result<Entry, Refusal> {
    let users = listener.passwords;
    let name = connect.user_name;
    if name.is_some_and(|name| name.len() > Limits::USER_NAME_BYTES_MAX) {
        let why = "a user name must not have more than 1,024 bytes";
        return Err(Refusal::new(ReasonCode::BadUserNameOrPassword, why));
    }
    match (connect.user_name, connect.password) {
        (Some(_), Some(_)) if users => return Ok(Entry::ByPassword),
        (Some(_), None) if users => {
            let why = "a user name needs its password";
            let Refusal { code, .. } = verify::refusal(Verdict::WrongPassword, connect.version);
            return Err(Refusal::new(code, why));
        }
        _ if listener.allow_anonymous => return Ok(Entry::Open),
        _ => {}
    }
    let why = match connect.user_name {
        None if users => {
            "a user name and its password are needed here (allow_anonymous true would let \
             clients in without)"
        }
        None => "anonymous clients are not allowed here (allow_anonymous true would let them in)",
        Some(_) => {
            "no user is known here, and anonymous clients are not allowed \
             (allow_anonymous true would let them in)"
        }
    };
    Err(Refusal::new(ReasonCode::NotAuthorized, why))
}

pub fn may_publish(topic: TopicName) -> Result<(), Refusal> {
    let topic = topic.as_bytes();
    let is_bridge_state = topic
        .strip_prefix(BRIDGE_STATE.0)
        .and_then(|rest| rest.strip_suffix(BRIDGE_STATE.1))
        .is_some_and(|name| !name.is_empty() && !name.contains(&b'/'));
    if (topic == b"$SYS" || topic.starts_with(b"$SYS/")) && !is_bridge_state {
        return Err(Refusal::new(
            ReasonCode::NotAuthorized,
            "$SYS is written by the server only",
        ));
    }
    if topic.starts_with(b"$share/") {
        let why = "$share/ is for subscriptions, not for publishing";
        return Err(Refusal::new(ReasonCode::TopicNameInvalid, why));
    }
    Ok(())
}

pub fn no_line_to_write() -> Refusal {
    Refusal::new(
        ReasonCode::NotAuthorized,
        "the ACL file does not let the client write to this topic",
    )
}

pub fn no_line_to_subscribe() -> Refusal {
    Refusal::new(
        ReasonCode::NotAuthorized,
        "the ACL file has subscribe lines, and none lets the client subscribe to this filter",
    )
}

/// PUBLISH and Will with RETAIN where the operator has none of it [MQTT-3.2.2-13].
pub fn retain_not_supported() -> Refusal {
    Refusal::new(
        ReasonCode::RetainNotSupported,
        "the server keeps no retained messages (retain_available is false)",
    )
}
