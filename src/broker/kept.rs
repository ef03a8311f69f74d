//! As who somebody connected, as it is kept: with a session, and with what it published retained,
//! so that both are judged after a restart as before.
//!
//! | Bytes | What |
//! |---|---|
//! | 1 | bits: 0 user name, 1 IPv4 address, 2 IPv6 address, 3 listener, 4 client id |
//! | 2 + n each | client id, user name, name of the listener, of those that there are |
//! | 4 or 16 | the address, if there is one |
//!
//! A listener goes by its name: its index is another one when a listener was added before it.
//! Through one that is no longer there, nothing is allowed unless all have the same rules; a name
//! that two have says as little.

use core::net::IpAddr;

use bytes::Buf;

use super::acl::Identity;
use super::limits::ListenerOptions;

const USER_NAME: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 4;
const LISTENER: u8 = 8;
const CLIENT_ID: u8 = 16;

/// Where the client id stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientId<'a> {
    /// With the rest.
    Inside,
    /// Elsewhere.
    Known(&'a str),
}

pub fn encode(who: &Identity, client_id: ClientId, listeners: &[Box<str>], out: &mut Vec<u8>) {
    let own = (client_id == ClientId::Inside).then_some(&*who.client_id);
    let listener = who.listener.and_then(|index| listeners.get(index));
    let listener = listener.map(|name| &**name).filter(|name| !name.is_empty());
    let texts = [
        (CLIENT_ID, own),
        (USER_NAME, who.user_name.as_deref()),
        (LISTENER, listener),
    ];
    let mut flags = match who.address {
        None => 0,
        Some(IpAddr::V4(_)) => IPV4,
        Some(IpAddr::V6(_)) => IPV6,
    };
    for (flag, text) in texts {
        flags |= text.map_or(0, |_| flag);
    }
    out.push(flags);
    for text in texts.into_iter().filter_map(|(_, text)| text) {
        let text = text.as_bytes();
        let text = &text[..text.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text);
    }
    match who.address {
        None => {}
        Some(IpAddr::V4(address)) => out.extend_from_slice(&address.octets()),
        Some(IpAddr::V6(address)) => out.extend_from_slice(&address.octets()),
    }
}

/// The reverse; `None` where it makes no sense.
pub fn decode(
    bytes: &mut &[u8],
    client_id: ClientId,
    listeners: &[ListenerOptions],
) -> Option<Identity> {
    let flags = bytes.try_get_u8().ok()?;
    let mut text_if = |flag| match flags & flag {
        0 => Some(None),
        _ => text(bytes).map(Some),
    };
    let (own, user_name) = (text_if(CLIENT_ID)?, text_if(USER_NAME)?);
    let listener = text_if(LISTENER)?;
    let client_id = match client_id {
        ClientId::Inside => own?,
        ClientId::Known(client_id) => client_id,
    };
    let listener = listener.and_then(|name| only_one(listeners, name));
    let address = match flags & (IPV4 | IPV6) {
        0 => None,
        IPV4 => Some(IpAddr::V4(bytes.try_get_u32().ok()?.into())),
        _ => Some(IpAddr::V6(bytes.try_get_u128().ok()?.into())),
    };
    Some(Identity {
        client_id: client_id.into(),
        user_name: user_name.map(Into::into),
        address,
        listener,
    })
}

fn only_one(listeners: &[ListenerOptions], name: &str) -> Option<usize> {
    let mut all = listeners.iter().enumerate();
    let mut named = all.by_ref().filter(|(_, one)| *one.name == *name);
    let (index, _) = named.next()?;
    named.next().is_none().then_some(index)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ListenerOptions {
        ListenerOptions {
            name: name.into(),
            ..ListenerOptions::default()
        }
    }

    #[test]
    fn an_identity_is_what_it_was() {
        let full = Identity {
            client_id: "client".into(),
            user_name: Some("ann".into()),
            address: Some([192, 0, 2, 1].into()),
            listener: Some(1),
        };
        let others = [
            Identity {
                user_name: None,
                ..full.clone()
            },
            Identity {
                user_name: Some("".into()),
                ..full.clone()
            },
            Identity {
                address: None,
                ..full.clone()
            },
            Identity {
                address: Some([7; 16].into()),
                ..full.clone()
            },
            Identity {
                listener: None,
                ..full.clone()
            },
        ];
        let names = ["1883".into(), "1884 ::1".into()];
        let listeners = [named("1883"), named("1884 ::1")];
        for who in others.iter().chain([&full]) {
            for known in [ClientId::Inside, ClientId::Known("client")] {
                let mut bytes = Vec::new();
                encode(who, known, &names, &mut bytes);
                bytes.push(9);
                let mut rest = &bytes[..];
                assert_eq!(decode(&mut rest, known, &listeners).as_ref(), Some(who));
                assert_eq!(rest, [9]);
                for length in 0..bytes.len() - 1 {
                    assert_eq!(decode(&mut &bytes[..length], known, &listeners), None);
                }
            }
        }
    }

    #[test]
    fn a_listener_is_found_by_its_name() {
        let who = Identity {
            client_id: "client".into(),
            user_name: None,
            address: None,
            listener: Some(0),
        };
        let mut bytes = Vec::new();
        encode(&who, ClientId::Inside, &["1884".into()], &mut bytes);
        for (names, expected) in [
            (&["1884"][..], Some(0)),
            (&["1883", "1884"], Some(1)),
            (&["1883"], None),
            (&["1884", "1884"], None),
        ] {
            let listeners: Vec<_> = names.iter().map(|name| named(name)).collect();
            let found = decode(&mut &bytes[..], ClientId::Inside, &listeners);
            assert_eq!(found.map(|who| who.listener), Some(expected));
        }
    }
}
