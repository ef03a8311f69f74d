//! A line as an object of JSON: time, type and message, then what the line says of its client.

use std::fmt::{self, Write};

use log::kv::{self, Key, Source, Value, VisitSource};

/// Writes an object, and a newline. Without `time` it has none.
pub fn write(
    line: &mut Vec<u8>,
    time: Option<&[u8]>,
    log_type: &str,
    message: fmt::Arguments,
    values: &dyn Source,
) {
    line.push(b'{');
    if let Some(time) = time {
        let time = String::from_utf8_lossy(time);
        member(line, "time", format_args!("{time}"));
        line.push(b',');
    }
    member(line, "type", format_args!("{log_type}"));
    line.push(b',');
    member(line, "message", message);
    // Nothing here fails.
    let _ = values.visit(&mut Members(line));
    line.extend_from_slice(b"}\n");
}

struct Members<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Members<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push(b',');
        member(self.0, key.as_str(), format_args!("{value}"));
        Ok(())
    }
}

fn member(line: &mut Vec<u8>, name: &str, value: fmt::Arguments) {
    line.push(b'"');
    let _ = Escaped(line).write_str(name);
    line.extend_from_slice(b"\":\"");
    let _ = Escaped(line).write_fmt(value);
    line.push(b'"');
}

/// Text within quotes.
struct Escaped<'a>(&'a mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '"' | '\\' => self.0.extend_from_slice(&[b'\\', char as u8]),
                _ if char.is_control() => {
                    let escape = format!("\\u{:04x}", u32::from(char));
                    self.0.extend_from_slice(escape.as_bytes());
                }
                _ => {
                    let mut bytes = [0; 4];
                    self.0
                        .extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_line_says_it_is_one_object() {
        let mut line = Vec::new();
        let values = [("client", "a\"b"), ("address", "[::1]:1")];
        let time = Some(&b"at \"1\""[..]);
        let message = format_args!("x\\y\n\u{85}ä€ {}", '\u{1b}');
        write(&mut line, time, "notice", message, &values);
        let expected = [
            r#"{"time":"at \"1\"","type":"notice","message":"x\\y\u000a\u0085ä€ \u001b","#,
            r#""client":"a\"b","address":"[::1]:1"}"#,
        ];
        assert_eq!(String::from_utf8(line).unwrap(), expected.concat() + "\n");
        let mut line = Vec::new();
        write(&mut line, None, "error", format_args!(""), &[("", ""); 0]);
        assert_eq!(line, b"{\"type\":\"error\",\"message\":\"\"}\n");
    }
}
