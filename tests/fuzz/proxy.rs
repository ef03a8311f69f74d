//! PROXY headers, made of anything.
//!
//! The first byte says which version is expected, the rest is what a connection begins with. What
//! must hold: no panic; a header is within its limit and not longer than what is there; the same
//! header alone is read the same, and for every part of it more is wanted; what was refused stays
//! refused, whatever comes behind it.

use midge::net::proxy::{HEADER_BYTES_MAX, ProxyVersion, parse};

pub fn run(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let version = match first % 2 {
        0 => ProxyVersion::V1,
        _ => ProxyVersion::V2,
    };
    match parse(version, bytes) {
        Ok(Some((source, length))) => {
            let header = bytes.get(..length).expect("it is there");
            assert!(length <= HEADER_BYTES_MAX);
            assert_eq!(parse(version, header), Ok(Some((source, length))));
            for end in 0..length {
                assert_eq!(parse(version, &header[..end]), Ok(None), "{end}");
            }
        }
        Ok(None) => {
            assert!(bytes.len() < HEADER_BYTES_MAX, "it is longer than can be");
            for end in 0..bytes.len() {
                assert_eq!(parse(version, &bytes[..end]), Ok(None), "{end}");
            }
        }
        Err(why) => {
            assert!(!why.is_empty());
            let more = [bytes, b"PROXY UNKNOWN\r\n\0"].concat();
            assert_eq!(parse(version, &more), Err(why));
        }
    }
}
