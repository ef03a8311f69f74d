//! The PROXY protocol: what a proxy says first on each connection, of whom it is for.
//!
//! Bytes in, a header out, or that it is not whole yet, or why it is none: nothing here waits or
//! reads. Version 1 is a line of text, version 2 is binary (HAProxy's proxy-protocol.txt). A
//! header is refused at its first byte that cannot be right, and is never longer than
//! [`HEADER_BYTES_MAX`]. Only who is at the other end is taken from it; what else it may say
//! (whom the client asked for, extensions) is passed over unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Bytes of a header; those of proxies that pass on a certificate's names are the longest.
pub const HEADER_BYTES_MAX: usize = 4_096;
/// Of one of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;

const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Binary: then version and command, family, and length of what follows.
const FIXED_BYTES: usize = BINARY.len() + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// Who is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Address(SocketAddr),
    /// It came to the proxy through a Unix socket.
    Unix,
    /// The proxy itself, or nobody knows.
    Proxy,
}

/// Who it is and how many bytes say so; `None` if more bytes are needed.
pub fn parse(version: ProxyVersion, bytes: &[u8]) -> Result<Option<(Source, usize)>, &'static str> {
    let (ours, other) = match version {
        ProxyVersion::V1 => (TEXT, BINARY),
        ProxyVersion::V2 => (BINARY, TEXT),
    };
    let common = bytes.len().min(ours.len());
    if bytes[..common] != ours[..common] {
        return Err(
            match (bytes.starts_with(&other[..other.len() - 1]), version) {
                (false, _) => "it does not begin with a PROXY header",
                (true, ProxyVersion::V1) => "its PROXY header is of version 2",
                (true, ProxyVersion::V2) => "its PROXY header is of version 1",
            },
        );
    }
    if common < ours.len() {
        return Ok(None);
    }
    match version {
        ProxyVersion::V1 => parse_line(bytes),
        ProxyVersion::V2 => parse_binary(bytes),
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Source, usize)>, &'static str> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return match line.len() == LINE_BYTES_MAX {
            true => Err("its PROXY header is longer than 107 bytes"),
            false => Ok(None),
        };
    };
    let length = end + 2;
    let words = str::from_utf8(&line[TEXT.len()..end]).unwrap_or_default();
    let mut words = words.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some((Source::Proxy, length)));
    }
    let words: Vec<&str> = words.collect();
    let source = match (family, &words[..]) {
        (Some("TCP4"), [source, other, ports @ ..]) => {
            both::<Ipv4Addr>(source, other).and_then(|ip| with_port(ip, ports))
        }
        (Some("TCP6"), [source, other, ports @ ..]) => {
            both::<Ipv6Addr>(source, other).and_then(|ip| with_port(ip, ports))
        }
        (_, _) => None,
    };
    let source = source.ok_or("its PROXY header makes no sense")?;
    Ok(Some((Source::Address(source), length)))
}

/// The first of two addresses, both of which must be some.
fn both<T: FromStr + Into<IpAddr>>(first: &str, second: &str) -> Option<IpAddr> {
    second.parse::<T>().ok()?;
    Some(first.parse::<T>().ok()?.into())
}

fn with_port(ip: IpAddr, ports: &[&str]) -> Option<SocketAddr> {
    let port = |text: &str| {
        // No sign, and no zero before a digit.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = is_plain && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    match ports {
        [first, second] => port(second).and(port(first)),
        _ => None,
    }
    .map(|port| SocketAddr::new(ip, port))
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(Source, usize)>, &'static str> {
    let is_local = match bytes.get(BINARY.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err("its PROXY header is neither for a client nor of the proxy itself"),
    };
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        return Ok(None);
    };
    let (family, length) = match fixed[BINARY.len() + 1..] {
        [family, high, low] => (family, usize::from(u16::from_be_bytes([high, low]))),
        _ => return Ok(None),
    };
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err("its PROXY header is longer than 4096 bytes");
    }
    let address_bytes = match (is_local, family) {
        // Whatever is said of the proxy's own connections, or of what it does not know.
        (true, _) | (false, 0x00) => 0,
        (false, 0x11) => 12,
        (false, 0x21) => 36,
        (false, 0x31) => 216,
        (false, _) => return Err("its PROXY header is for something else than a stream"),
    };
    if length < address_bytes {
        return Err("its PROXY header is too short for its addresses");
    }
    let Some(block) = rest.get(..length) else {
        return Ok(None);
    };
    let source = match &block[..address_bytes] {
        [] => Source::Proxy,
        [a, b, c, d, _, _, _, _, high, low, _, _] => {
            let port = u16::from_be_bytes([*high, *low]);
            Source::Address((Ipv4Addr::new(*a, *b, *c, *d), port).into())
        }
        [ips @ .., high, low, _, _] => match ips.first_chunk::<16>() {
            Some(ip) if address_bytes == 36 => {
                let port = u16::from_be_bytes([*high, *low]);
                Source::Address((Ipv6Addr::from(*ip), port).into())
            }
            Some(_) | None => Source::Unix,
        },
        [..] => Source::Unix,
    };
    Ok(Some((source, FIXED_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use super::ProxyVersion::{V1, V2};
    use super::*;

    /// A header of version 2 with that command, family, and what follows.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [BINARY, &[command, family], &length, rest].concat()
    }

    fn ipv4() -> Vec<u8> {
        let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0x13, 0x88, 0x07, 0x5B];
        binary(0x21, 0x11, &addresses)
    }

    fn ipv6(more: &[u8]) -> Vec<u8> {
        let mut addresses = [0; 36];
        addresses[..2].copy_from_slice(&[0x20, 0x01]);
        addresses[15] = 7;
        addresses[32..34].copy_from_slice(&[0x13, 0x88]);
        binary(0x21, 0x21, &[&addresses[..], more].concat())
    }

    fn address(text: &str) -> Source {
        Source::Address(text.parse().expect("it is an address"))
    }

    /// Every header that is right, and who it speaks of.
    fn good() -> Vec<(ProxyVersion, Vec<u8>, Source)> {
        let text = |line: &str| format!("PROXY {line}\r\n").into_bytes();
        let longest = "UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let extension = [[0x04, 0x00, 0xFF].as_slice(), &[0; 255]].concat();
        vec![
            (
                V1,
                text("TCP4 203.0.113.7 10.0.0.1 5000 1883"),
                address("203.0.113.7:5000"),
            ),
            (V1, text("TCP4 0.0.0.0 0.0.0.0 0 0"), address("0.0.0.0:0")),
            (
                V1,
                text("TCP6 2001::7 ::1 65535 1883"),
                address("[2001::7]:65535"),
            ),
            (
                V1,
                text(&format!("TCP6 {full} {full} 65535 65535")),
                address(&format!("[{full}]:65535")),
            ),
            (V1, text("UNKNOWN"), Source::Proxy),
            (V1, text(longest), Source::Proxy),
            (
                V1,
                text(&format!("UNKNOWN {}", "x".repeat(91))),
                Source::Proxy,
            ),
            (V2, ipv4(), address("203.0.113.7:5000")),
            (V2, ipv6(&[]), address("[2001::7]:5000")),
            (V2, ipv6(&extension), address("[2001::7]:5000")),
            (
                V2,
                ipv6(&[0; HEADER_BYTES_MAX - 16 - 36]),
                address("[2001::7]:5000"),
            ),
            (V2, binary(0x21, 0x31, &[b'/'; 216]), Source::Unix),
            (V2, binary(0x21, 0x31, &[0; 300]), Source::Unix),
            (V2, binary(0x21, 0x00, &[]), Source::Proxy),
            (V2, binary(0x21, 0x00, &extension), Source::Proxy),
            (V2, binary(0x20, 0x00, &[]), Source::Proxy),
            // What it says of itself does not matter, nor whether it is enough.
            (V2, binary(0x20, 0x11, &[1, 2, 3]), Source::Proxy),
            (V2, binary(0x20, 0x21, &[0xFF; 36]), Source::Proxy),
        ]
    }

    #[test]
    fn every_header_is_read_whole_and_not_a_byte_more() {
        for (version, header, source) in good() {
            let expected = Ok(Some((source, header.len())));
            assert_eq!(parse(version, &header), expected, "{header:?}");
            let more = [&header[..], b"\x10\x0e\0\x04MQTT\r\n"].concat();
            assert_eq!(parse(version, &more), expected, "{more:?}");
        }
    }

    #[test]
    fn of_every_part_of_a_header_more_is_wanted() {
        for (version, header, _) in good() {
            for end in 0..header.len() {
                assert_eq!(
                    parse(version, &header[..end]),
                    Ok(None),
                    "{end} of {header:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_the_first_wrong_byte() {
        for (version, bytes, why) in [
            (V1, &b"\x10"[..], "does not begin"),
            (V2, b"\x10", "does not begin"),
            (V1, b"PROXYX", "does not begin"),
            (V1, b" PROXY TCP4 ", "does not begin"),
            (V1, b"proxy ", "does not begin"),
            (V2, b"\r\n\r\n\0\r\nQUIT\r", "does not begin"),
            (V1, b"\r\n\r\n\0\r\nQUIT\n", "version 2"),
            (V2, b"PROXY TCP4", "version 1"),
            (V2, b"\r\n\r\n\0\r\nQUIT\n\x11", "neither for a client"),
            (V2, b"\r\n\r\n\0\r\nQUIT\n\x22", "neither for a client"),
            (
                V2,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0C",
                "else than a stream",
            ),
            (
                V2,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x01\0\x0C",
                "else than a stream",
            ),
            (
                V2,
                b"\r\n\r\n\0\r\nQUIT\n\x21\xFF\0\x0C",
                "else than a stream",
            ),
            (V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0B", "too short"),
            (V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x23", "too short"),
            (V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xD7", "too short"),
            (
                V2,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0F\xF1",
                "longer than 4096",
            ),
            (
                V2,
                b"\r\n\r\n\0\r\nQUIT\n\x20\0\xFF\xFF",
                "longer than 4096",
            ),
        ] {
            let refused = parse(version, bytes).expect_err("it is no header");
            assert!(refused.contains(why), "{refused}: {bytes:?}");
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for line in [
            "",
            "TCP4",
            "TCP5 1.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 1",
            "TCP4 1.2.3.4 1.2.3.4 1 2 3",
            "TCP4 1.2.3.4  1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 1 2 ",
            "TCP4 1.2.3.4 1.2.3.4 65536 2",
            "TCP4 1.2.3.4 1.2.3.4 1 99999",
            "TCP4 1.2.3.4 1.2.3.4 +1 2",
            "TCP4 1.2.3.4 1.2.3.4 01 2",
            "TCP4 1.2.3.4 1.2.3.4  2",
            "TCP4 1.2.3 1.2.3.4 1 2",
            "TCP4 ::1 ::1 1 2",
            "TCP6 1.2.3.4 1.2.3.4 1 2",
            "TCP6 ::1%eth0 ::1 1 2",
            "UNKNOWNS",
            "TCP4\t1.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 1 2\n",
        ] {
            let header = format!("PROXY {line}\r\n");
            assert!(parse(V1, header.as_bytes()).is_err(), "{header:?}");
        }
        assert!(parse(V1, b"PROXY TCP4 \xFF\xFE 1.2.3.4 1 2\r\n").is_err());
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(long.len(), LINE_BYTES_MAX + 1);
        for end in LINE_BYTES_MAX..=long.len() {
            let refused = parse(V1, &long.as_bytes()[..end]).expect_err("it is too long");
            assert!(refused.contains("107"), "{refused}");
        }
        assert_eq!(parse(V1, &long.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(None));
    }

    /// One byte after the other is put in the place of each: nothing panics, and nothing is taken
    /// that is not there. What was refused once stays refused whatever comes behind it.
    #[test]
    fn no_byte_in_any_place_does_harm() {
        for (version, header, _) in good() {
            let places = header.len().min(160);
            for at in 0..places {
                for byte in 0..=u8::MAX {
                    let mut changed = header.clone();
                    changed[at] = byte;
                    match parse(version, &changed) {
                        Ok(Some((_, length))) => assert!(length <= changed.len()),
                        Ok(None) => {}
                        Err(why) => {
                            changed.extend([0; 300]);
                            assert_eq!(parse(version, &changed), Err(why));
                        }
                    }
                }
            }
        }
    }
}
