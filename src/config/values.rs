//! Values that are more than a number: text in, plain data out, or what would be right.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::acl::{Access, Identity};
use crate::broker::explain::Question;
use crate::broker::journal::WHENEVER;
use crate::broker::limits::{Limits, QueueOverflow};
use crate::net::{Domain, Host, ProxyVersion};
use crate::packet::{TopicFilter, TopicName, Version};

/// Bytes that Linux has room for.
const SOCKET_PATH_MAX: usize = 107;

/// `PORT [ADDRESS]`, or `0 PATH` for a Unix socket.
pub fn listener(text: &str) -> Result<(u16, Host), String> {
    let text = text.trim();
    let (port, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start();
    let wrong = "must be a port from 1 to 65535 and, if wanted, an address; or 0 and the path of a \
        Unix socket, with a / in it";
    let port: u16 = port.parse().map_err(|_| wrong)?;
    match (port, rest) {
        (0, path) if path.contains('/') && path.len() <= SOCKET_PATH_MAX => {
            Ok((0, Host::Unix(path.to_string())))
        }
        (0, path) if path.contains('/') => Err(format!(
            "is a path of more than {SOCKET_PATH_MAX} bytes: no socket can be there"
        )),
        (0, _) => Err(wrong.to_string()),
        (port, "") => Ok((port, Host::Any)),
        (port, address) if !address.contains(' ') => Ok((port, Host::Named(address.to_string()))),
        (_, _) => Err("has more than a port and an address".to_string()),
    }
}

/// The name of a network interface, of a length that Linux has.
pub fn interface(text: &str) -> Result<String, String> {
    match text.len() {
        1..=15 if !text.contains([' ', '/']) => Ok(text.to_string()),
        _ => Err("must be the name of a network interface, such as eth0".to_string()),
    }
}

/// A user or a group, by name or number.
pub fn owner(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains([' ', ':']) {
        true => Err("must be one name, or a number".to_string()),
        false => Ok(text.to_string()),
    }
}

/// As chmod has it, without the bits that mean nothing for a socket.
pub fn mode(text: &str) -> Result<u32, String> {
    let is_octal = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| is_octal && *mode <= 0o777 && (3..=4).contains(&text.len()))
        .ok_or("must be three octal digits, such as 660".to_string())
}

pub fn proxy(version: i64) -> Option<ProxyVersion> {
    match version {
        1 => Some(ProxyVersion::V1),
        2 => Some(ProxyVersion::V2),
        _ => None,
    }
}

/// `--explain`: its value, and what stands on the command line besides flags.
pub fn question(who: &str, words: &[String]) -> Result<Question, String> {
    const USAGE: &str = "--explain: needs \"USER|CLIENT-ID\" TOPIC read|write|subscribe, and \
        perhaps the address of the client; USER is - for none, and both names if it is alone";
    let (topic, access, address) = match words {
        [topic, access] => (topic, access, None),
        [topic, access, address] => (topic, access, Some(address)),
        _ => return Err(USAGE.to_string()),
    };
    let all = [Access::Read, Access::Write, Access::Subscribe];
    let access = all.into_iter().find(|known| known.name() == access);
    let wrong = |address: &str| format!("--explain: \"{address}\" is no address");
    let address = address.map(|text| text.parse().map_err(|_| wrong(text)));
    let (user_name, client_id) = who.split_once('|').unwrap_or((who, who));
    let question = Question {
        who: Identity {
            client_id: client_id.into(),
            user_name: (user_name != "-").then(|| user_name.into()),
            address: address.transpose()?,
            listener: None,
        },
        access: access.ok_or(USAGE)?,
        topic: topic.clone(),
    };
    let checked = question.check();
    checked.map_err(|sentence| format!("--explain: {sentence}"))?;
    Ok(question)
}

pub fn persistence_location(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be a directory".to_string()),
        _ => Ok(text.to_string()),
    }
}

pub fn file(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be a file".to_string()),
        _ => Ok(text.to_string()),
    }
}

/// Milliseconds, see [`crate::broker::limits::Durability`].
pub fn within(text: &str) -> Result<u64, String> {
    const LONGEST: u64 = 3_600_000;
    match text {
        "turn" => Ok(0),
        "os" => Ok(WHENEVER),
        _ => text
            .parse()
            .ok()
            .filter(|within| (1..=LONGEST).contains(within))
            .ok_or(format!(
                "must be turn, os, or milliseconds from 1 to {LONGEST}"
            )),
    }
}

pub fn durable(text: &str) -> Result<(Box<str>, u64), String> {
    let Some((filter, when)) = text.rsplit_once('=') else {
        return Err("must be FILTER=turn, FILTER=os, or FILTER=MILLISECONDS".to_string());
    };
    TopicFilter::parse(filter).map_err(|refusal| refusal.why.to_string())?;
    Ok((filter.into(), within(when)?))
}

pub fn queue_overflow(text: &str) -> Result<QueueOverflow, String> {
    match text {
        "drop-newest" => Ok(QueueOverflow::DropNewest),
        "drop-oldest" => Ok(QueueOverflow::DropOldest),
        _ => Err("must be drop-newest or drop-oldest".to_string()),
    }
}

pub fn auto_id_prefix(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=50 => Ok(text.to_string()),
        _ => Err("must not have more than 50 characters".to_string()),
    }
}

/// `<number><unit>`; `m` is a month of 30 days, as in Mosquitto.
pub fn expiration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and one of s, h, d, w, m, y, such as 14d".to_string();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number {
        0 => Err("must not be 0".to_string()),
        _ => Ok(Duration::from_secs(u64::from(number) * seconds)),
    }
}

pub fn address(text: &str) -> Result<String, String> {
    match text.contains(' ') {
        true => Err("must be one address".to_string()),
        false => Ok(text.to_string()),
    }
}

/// `3,4,5`: protocol versions, by the numbers that clients send. None stands for all.
pub fn versions(text: &str) -> Result<Vec<Version>, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let versions: Option<BTreeSet<_>> = words
        .map(|word| match word {
            "3" => Some(Version::V31),
            "4" => Some(Version::V311),
            "5" => Some(Version::V5),
            _ => None,
        })
        .collect();
    match versions {
        Some(versions) if versions.len() == 3 => Ok(Vec::new()),
        Some(versions) if !versions.is_empty() => Ok(versions.into_iter().collect()),
        Some(_) | None => Err("must be some of 3, 4 and 5, with commas between them".to_string()),
    }
}

pub fn domain(text: &str) -> Result<Domain, String> {
    match text {
        "ipv4" => Ok(Domain::IPv4),
        "ipv6" => Ok(Domain::IPv6),
        _ => Err("must be ipv4 or ipv6".to_string()),
    }
}

/// The beginning of topics. One that makes a plain filter look like a shared subscription is none.
pub fn mount_point(text: &str) -> Result<Box<str>, String> {
    const SHARE: &str = "$share/";
    if SHARE.starts_with(text) && !text.is_empty() || text.starts_with(SHARE) {
        return Err("must not be what shared subscriptions begin with, $share/".to_string());
    }
    if text.len() > Limits::MOUNT_POINT_BYTES_MAX {
        let most = Limits::MOUNT_POINT_BYTES_MAX;
        return Err(format!("must not have more than {most} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_string());
    }
    TopicName::parse(text)
        .map_err(|refusal| format!("must be the beginning of topics: {}", refusal.why))?;
    Ok(text.into())
}

pub fn protocol(text: &str) -> Result<(), String> {
    match text {
        "mqtt" => Ok(()),
        "websockets" | "http_api" => {
            Err("WebSocket and HTTP are not there yet: take this listener out".to_string())
        }
        _ => Err("must be mqtt".to_string()),
    }
}
