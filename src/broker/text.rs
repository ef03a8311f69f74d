//! Text that is kept, and is short as a rule: then it has no memory of its own.

/// Bytes that need none.
const INLINE: usize = 30;

#[derive(Debug)]
pub enum Text {
    Inline { len: u8, bytes: [u8; INLINE] },
    Own(Box<[u8]>),
}

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Text::Own(bytes) => bytes,
        }
    }

    pub fn as_str(&self) -> &str {
        let text = std::str::from_utf8(self.as_bytes());
        text.expect("it was text when it was stored")
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..text.len()) {
            Some(inline) => {
                inline.copy_from_slice(text.as_bytes());
                let len = text.len() as u8;
                Text::Inline { len, bytes }
            }
            None => Text::Own(text.as_bytes().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_is_what_it_was() {
        let long = "ä/".repeat(40);
        for end in (0..long.len()).filter(|end| long.is_char_boundary(*end)) {
            assert_eq!(Text::from(&long[..end]).as_str(), &long[..end]);
        }
    }

    #[test]
    fn it_takes_no_more_than_half_a_cache_line() {
        assert_eq!(size_of::<Text>(), 32);
    }
}
