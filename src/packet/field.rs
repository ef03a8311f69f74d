//! The data types of MQTT 5.0, section 1.5: integers, strings, binary data, variable byte
//! integers.
//!
//! [`Reader`] takes them off the front of a slice and never reads past its end; what does not fit
//! is a Malformed Packet. Writing appends to a `Vec<u8>`; lengths are filled in afterwards.

use bytes::BufMut;

use super::Refusal;

/// The largest value a Variable Byte Integer can hold (1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// Takes fields off the front of a packet's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that is left, without taking it.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Succeeds only where everything has been taken.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.bytes {
            [] => Ok(()),
            _ => Err(Refusal::malformed(
                "bytes left over at the end of the packet",
            )),
        }
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(Refusal::malformed(
                "the packet ends in the middle of a field",
            ))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Refusal> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, Refusal> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// [MQTT-2.2.1-3] a Packet Identifier is not zero.
    pub fn packet_id(&mut self) -> Result<u16, Refusal> {
        match self.u16()? {
            0 => Err(Refusal::protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 Encoded String (1.5.4).
    pub fn string(&mut self) -> Result<&'a str, Refusal> {
        let bytes = self.binary()?;
        // [MQTT-1.5.4-1] well-formed, which excludes surrogates.
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Refusal::malformed("a string is not well-formed UTF-8"))?;
        // [MQTT-1.5.4-2] no U+0000. [MQTT-1.5.4-3] a byte order mark stays where it is.
        if bytes.iter().fold(false, |found, byte| found | (*byte == 0)) {
            return Err(Refusal::malformed("a string contains U+0000"));
        }
        Ok(text)
    }

    /// [MQTT-1.5.5-1] in as few bytes as the value needs.
    pub fn variable_byte_integer(&mut self) -> Result<u32, Refusal> {
        let found = variable_byte_integer(self.bytes)?;
        let (value, length) = found.ok_or(Refusal::malformed(
            "the packet ends in the middle of a field",
        ))?;
        check_minimal(value, length)?;
        self.take(length)?;
        Ok(value)
    }
}

/// The Variable Byte Integer at the front of `bytes` and its length, `None` while more is needed.
pub fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, Refusal> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    match bytes.len() {
        0..4 => Ok(None),
        _ => Err(Refusal::malformed(
            "a length is encoded in more than four bytes",
        )),
    }
}

pub fn check_minimal(value: u32, length: usize) -> Result<(), Refusal> {
    match length == variable_byte_integer_len(value as usize) {
        true => Ok(()),
        false => Err(Refusal::malformed(
            "a length is encoded in more bytes than it needs",
        )),
    }
}

/// How many bytes `value` takes as a Variable Byte Integer.
pub fn variable_byte_integer_len(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

pub fn put_variable_byte_integer(out: &mut Vec<u8>, value: usize) {
    assert!(
        value <= VARIABLE_BYTE_INTEGER_MAX as usize,
        "longer than MQTT can say"
    );
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Binary Data, and a UTF-8 Encoded String by its bytes.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a field longer than 65,535 bytes");
    out.put_u16(length);
    out.put_slice(bytes);
}

/// Appends what `body` writes, preceded by its length as a Variable Byte Integer.
pub fn put_with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    body(out);
    let length = out.len() - start - 1;
    // Nearly all lengths fit the byte that was kept free; a longer one moves the body once.
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(4);
        put_variable_byte_integer(&mut prefix, length);
        out.splice(start..=start, prefix);
    }
}
