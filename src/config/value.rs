//! Kinds of values: text in, a value within its bounds out, or what would be right.
//!
//! A flag and a line of a file say the same in two ways. In a file, numbers are what `strtol` makes
//! of them (`0x10` is 16, `010` is 8), and behind a number, `true` or `false` a comment may follow:
//! that is how Mosquitto reads them.

/// What a setting is set to, already known to be within its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Flag,
    Bool(bool),
    Number(i64),
    Text(&'a str),
}

impl Value<'_> {
    pub fn bool(self) -> bool {
        matches!(self, Value::Bool(true))
    }

    pub fn number(self) -> i64 {
        match self {
            Value::Number(number) => number,
            Value::Flag | Value::Bool(_) | Value::Text(_) => 0,
        }
    }

    /// Where 0 or -1 stands for any number.
    pub fn limit(self) -> usize {
        match usize::try_from(self.number()) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(number) => number,
        }
    }

    /// The same for bytes of which there may be more than can be addressed.
    pub fn bytes(self) -> u64 {
        match u64::try_from(self.number()) {
            Ok(0) | Err(_) => u64::MAX,
            Ok(number) => number,
        }
    }

    /// Where -1 stands for any number, and 0 for none.
    pub fn count(self) -> usize {
        usize::try_from(self.number()).unwrap_or(usize::MAX)
    }

    pub fn text(self) -> String {
        match self {
            Value::Text(text) => text.to_string(),
            Value::Flag | Value::Bool(_) | Value::Number(_) => String::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes no value.
    Flag,
    /// `true` or `false`; the flag alone is `true`.
    Bool,
    /// Least, most, unit.
    Number(i64, i64, &'static str),
    /// What it looks like.
    Text(&'static str),
    /// The same, any number of times.
    Texts(&'static str),
    /// A number, any number of times.
    Numbers(i64, i64, &'static str),
}

use Kind::{Bool, Flag, Number, Numbers, Text, Texts};

impl Kind {
    /// What stands behind a flag.
    pub fn parse(self, text: &str) -> Result<Value<'_>, String> {
        match self {
            Flag => Ok(Value::Flag),
            Bool => match text {
                "true" | "1" | "" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                _ => Err("must be true or false".to_string()),
            },
            Number(..) | Numbers(..) => self.bounded(text.parse().ok()),
            Text(_) | Texts(_) => Ok(Value::Text(text)),
        }
    }

    /// What stands behind the name in a line of a file.
    pub fn parse_in_file(self, text: &str) -> Result<Value<'_>, String> {
        if text.is_empty() {
            return Err("needs a value".to_string());
        }
        match self {
            Flag => Err("is a flag, and nothing for a file".to_string()),
            Bool => self.parse(one_word(text)?),
            Number(..) | Numbers(..) => self.bounded(strtol(one_word(text)?)),
            Text(_) | Texts(_) => Ok(Value::Text(text)),
        }
    }

    fn bounded<'a>(self, number: Option<i64>) -> Result<Value<'a>, String> {
        let (least, most) = match self {
            Number(least, most, _) | Numbers(least, most, _) => (least, most),
            Flag | Bool | Text(_) | Texts(_) => (0, 0),
        };
        number
            .filter(|number| (least..=most).contains(number))
            .map(Value::Number)
            .ok_or(format!("must be a whole number from {least} to {most}"))
    }

    /// Whether several values stand side by side.
    pub fn is_repeatable(self) -> bool {
        matches!(self, Texts(_) | Numbers(..))
    }

    pub fn hint(self) -> String {
        match self {
            Flag => String::new(),
            Bool => " true|false".to_string(),
            Number(_, _, hint) | Numbers(_, _, hint) | Text(hint) | Texts(hint) => {
                format!(" {hint}")
            }
        }
    }
}

/// The first word, where nothing but a comment follows.
fn one_word(text: &str) -> Result<&str, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match rest.trim_start_matches(' ') {
        "" => Ok(word),
        rest if rest.starts_with('#') => Ok(word),
        rest => Err(format!("has \"{rest}\" behind its value")),
    }
}

/// As C reads a number of any base; all of it must be one.
fn strtol(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if !digits.chars().all(|digit| digit.is_digit(base)) {
        return None;
    }
    i64::from_str_radix(digits, base)
        .ok()
        .map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_file_are_read_as_c_reads_them() {
        for (text, expected) in [
            ("16", Some(16)),
            ("0x10", Some(16)),
            ("0XfF", Some(255)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("+3", Some(3)),
            ("08", None),
            ("0x", None),
            ("1O", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(strtol(text), expected, "{text:?}");
        }
    }

    #[test]
    fn behind_a_number_a_comment_may_follow_and_nothing_else() {
        let number = |text| Number(0, 10, "N").parse_in_file(text).map(Value::number);
        assert_eq!(number("3 # three"), Ok(3));
        assert!(number("3 4").unwrap_err().contains("\"4\" behind"));
        assert!(number("11").unwrap_err().contains("from 0 to 10"));
        assert!(
            Bool.parse_in_file("").is_err(),
            "only a flag may stand alone"
        );
        assert!(Bool.parse_in_file("True").is_err());
        assert!(Text("").parse_in_file("a # b").unwrap().text() == "a # b");
    }
}
