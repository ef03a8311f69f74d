//! Texts of peers, as they may stand in a log: in one line, without control characters, not too
//! long.

use std::fmt::{self, Display, Formatter, Write};

/// Characters shown.
const CHARS_MAX: usize = 200;

/// A client id, a user name, a topic.
pub struct Printable<'a>(pub &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if self.0.len() <= CHARS_MAX && !self.0.contains(char::is_control) {
            return f.write_str(self.0);
        }
        for (index, char) in self.0.chars().enumerate() {
            if index == CHARS_MAX {
                return f.write_char('…');
            }
            match char.is_control() {
                true => write!(f, "{}", char.escape_default())?,
                false => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// A client by its id, which it may not have brought.
pub struct Name<'a>(pub &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.0 {
            "" => f.write_str("(without id)"),
            id => Printable(id).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_lines_of_the_log_but_midge() {
        let forged = "x\n2026-01-01T00:00:00Z: all is well\u{1b}[31m\u{85}";
        let shown = Printable(forged).to_string();
        assert_eq!(
            shown,
            "x\\n2026-01-01T00:00:00Z: all is well\\u{1b}[31m\\u{85}"
        );
        let long = "ä".repeat(1_000);
        assert_eq!(Printable(&long).to_string().chars().count(), CHARS_MAX + 1);
    }
}
