//! Looking through text eight bytes at a time: no branch for a byte, on any processor.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// Fewer than eight bytes as the low ones of a word.
pub fn short(bytes: &[u8]) -> u64 {
    debug_assert!(bytes.len() < 8, "a word or more");
    let length = bytes.len();
    match (bytes.first_chunk(), bytes.last_chunk(), bytes) {
        (Some(first), Some(last), _) => {
            let last = u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4));
            u64::from(u32::from_le_bytes(*first)) | last
        }
        // Of two or three: the last may be the second once more.
        (_, _, [first, second, ..]) => {
            let last = u64::from(bytes[length - 1]) << (8 * (length - 1));
            u64::from(*first) | u64::from(*second) << 8 | last
        }
        (_, _, [only]) => u64::from(*only),
        (_, _, []) => 0,
    }
}

/// Whether any of `wanted`, 0 not among them, occurs in `bytes`.
pub fn contains_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let mut found = 0;
    for word in words {
        found |= any_place(u64::from_le_bytes(*word), wanted);
    }
    (found | any_place(short(rest), wanted)) != 0
}

/// `bytes` between each `separator` and the next, as `slice::split` has them; it is not 0.
pub fn split(bytes: &[u8], separator: u8, mut each: impl FnMut(usize, &[u8])) {
    let (words, rest) = bytes.as_chunks();
    let (mut index, mut start) = (0, 0);
    let mut look_at = |at: usize, word: u64| {
        let mut ends = places(word, separator);
        while ends != 0 {
            let end = at + ends.trailing_zeros() as usize / 8;
            each(index, &bytes[start..end]);
            (index, start) = (index + 1, end + 1);
            ends &= ends - 1;
        }
    };
    for (number, word) in words.iter().enumerate() {
        look_at(8 * number, u64::from_le_bytes(*word));
    }
    look_at(8 * words.len(), short(rest));
    each(index, &bytes[start..]);
}

/// Where the bytes after so many times `separator`, which is not 0, begin; from 1 on.
#[inline]
pub fn after(bytes: &[u8], separator: u8, count: usize) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    let mut left = count;
    let mut look_at = |at: usize, word: u64| {
        let mut found = places(word, separator);
        while found != 0 {
            left -= 1;
            if left == 0 {
                return Some(at + found.trailing_zeros() as usize / 8 + 1);
            }
            found &= found - 1;
        }
        None
    };
    for (number, word) in words.iter().enumerate() {
        let after = look_at(8 * number, u64::from_le_bytes(*word));
        if after.is_some() {
            return after;
        }
    }
    look_at(8 * words.len(), short(rest))
}

/// The highest bit of each byte of `word` that is `byte`.
fn places(word: u64, byte: u8) -> u64 {
    let zeros = word ^ ONES.wrapping_mul(u64::from(byte));
    // Of the usual tricks the one without carries: each byte is told exactly.
    !(((zeros & !TOPS).wrapping_add(!TOPS)) | zeros) & TOPS
}

/// Not 0 where any of `bytes` is in `word`: quicker, as it does not matter where.
fn any_place<const N: usize>(word: u64, bytes: [u8; N]) -> u64 {
    let mut found = 0;
    for byte in bytes {
        let zeros = word ^ ONES.wrapping_mul(u64::from(byte));
        found |= zeros.wrapping_sub(ONES) & !zeros;
    }
    found & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All texts of up to 20 bytes of a few kinds, and neighbours of the separator.
    fn texts() -> Vec<Vec<u8>> {
        let mut texts = vec![Vec::new()];
        for length in 1..20 {
            for place in 0..length {
                for byte in *b"/.0+\xC3" {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    text[length / 2] = b'/';
                    texts.push(text);
                }
            }
        }
        texts
    }

    #[test]
    fn what_is_found_eight_at_a_time_is_what_is_found_one_by_one() {
        for text in texts() {
            for byte in *b"/.0+\xC3b" {
                assert_eq!(
                    contains_any(&text, [byte]),
                    text.contains(&byte),
                    "{text:?}"
                );
            }
            let both = text.contains(&b'+') || text.contains(&b'0');
            assert_eq!(contains_any(&text, [b'+', b'0']), both, "{text:?}");
        }
    }

    #[test]
    fn text_is_split_as_the_standard_library_does_it() {
        for text in texts() {
            let mut found = Vec::new();
            split(&text, b'/', |index, level| {
                assert_eq!(index, found.len());
                found.push(level.to_vec());
            });
            let expected: Vec<&[u8]> = text.split(|byte| *byte == b'/').collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn what_stands_after_so_many_separators_is_what_the_standard_library_finds() {
        for text in texts() {
            for count in 1..=text.len() + 1 {
                let slashes = text.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                let expected = slashes.map(|(at, _)| at + 1).nth(count - 1);
                assert_eq!(after(&text, b'/', count), expected, "{text:?}, {count}");
            }
        }
    }

    #[test]
    fn a_short_word_is_its_bytes_and_zeros() {
        for length in 0..8 {
            let bytes: Vec<u8> = (1..=length).collect();
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(short(&bytes), u64::from_le_bytes(word));
        }
    }
}
