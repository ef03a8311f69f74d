//! Who may do what.
//!
//! Asked once for each CONNECT, PUBLISH and SUBSCRIBE. Without password and ACL files there is
//! little to know: whether a listener takes clients without a user name, and which topics are the
//! server's.

use super::limits::ListenerOptions;
use crate::packet::{ReasonCode, Refusal, TopicName};

/// Bridges tell here whether they are connected; nothing else under `$SYS` is a client's to write.
const BRIDGE_STATE: (&[u8], &[u8]) = (b"$SYS/broker/connection/", b"/state");

/// Whether a client may connect. `user_name` is what it calls itself; no password can be checked
/// yet, so a name opens no door that is closed without one.
pub fn may_connect(listener: &ListenerOptions, user_name: Option<&str>) -> Result<(), Refusal> {
    if listener.allow_anonymous {
        return Ok(());
    }
    let why = match user_name {
        None => "anonymous clients are not allowed here (--allow-anonymous true would let them in)",
        Some(_) => {
            "no user is known here, and anonymous clients are not allowed \
             (--allow-anonymous true would let them in)"
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

/// PUBLISH and Will with RETAIN where the operator has none of it [MQTT-3.2.2-13].
pub fn retain_not_supported() -> Refusal {
    Refusal::new(
        ReasonCode::RetainNotSupported,
        "the server keeps no retained messages (--retain-available is false)",
    )
}
