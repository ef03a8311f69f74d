//! ACL files: text in, an [`Acl`] out, or what is wrong with which line.
//!
//! | Line | Says |
//! |---|---|
//! | `topic [read\|write\|readwrite\|deny] FILTER` | what the clients of this section may do |
//! | `user NAME` | what follows is for that user; before the first, for clients without a name |
//! | `pattern [read\|…] FILTER` | for everybody; `%c` is the client id, `%u` the user name |
//!
//! Read as Mosquitto does, byte for byte: words are separated by spaces, blanks at the end do not
//! count, `#` makes a comment in the first column only. And beyond it, lines that Mosquitto takes
//! for errors, so that no file of its changes its meaning:
//!
//! | Line | Says |
//! |---|---|
//! | `topic subscribe FILTER`, `pattern subscribe FILTER` | SUBSCRIBE needs such a line now |
//! | `group NAME` | a section like that of a user, for its members |
//! | `member NAME` | in it: that user is one |
//! | `address RANGE …` | the lines after it, in this section, are for clients from there |
//! | `address any` | from anywhere again |

use core::net::IpAddr;
use std::rc::Rc;

use super::acl::{Acl, AddressRange, Rights, Section};
use super::acl_lines::Rule;
use super::limits::Limits;
use super::printable::Printable;
use crate::packet::TopicFilter;

/// What a file says.
#[derive(Clone, Debug)]
pub struct AclFile {
    /// As it was named, for who is told of a line.
    pub name: Box<str>,
    pub acl: Acl,
    text: Box<[u8]>,
    /// `file:line: sentence`: what may not be what was meant.
    pub warnings: Vec<String>,
}

impl AclFile {
    /// A line as it is written, from 1 on.
    pub fn line(&self, number: u32) -> &str {
        let mut lines = self.text.split(|byte| *byte == b'\n');
        let line = lines.nth(number.saturating_sub(1) as usize);
        let line = line.and_then(|line| std::str::from_utf8(line).ok());
        line.unwrap_or_default().trim_matches(is_blank)
    }
}

/// Reads what stands in a file; `name` is for its errors, `file:line: sentence`.
pub fn parse(name: &str, text: &[u8]) -> Result<AclFile, String> {
    let mut reader = Reader {
        acl: Acl::default(),
        section: Section::Nameless,
        ranges: Rc::default(),
        line: 0,
        entries: 0,
        warnings: Vec::new(),
    };
    let file = Printable(name);
    if text.len() > Limits::ACL_FILE_BYTES_MAX {
        return Err(format!("{file}: is longer than 16 MiB"));
    }
    for line in text.split(|byte| *byte == b'\n') {
        reader.line += 1;
        reader
            .read(line)
            .map_err(|sentence| format!("{file}:{}: {sentence}", reader.line))?;
    }
    let at_line = |(line, sentence)| format!("{file}:{line}: {sentence}");
    Ok(AclFile {
        name: name.into(),
        acl: reader.acl,
        text: text.into(),
        warnings: reader.warnings.into_iter().map(at_line).collect(),
    })
}

struct Reader {
    acl: Acl,
    section: Section,
    ranges: Rc<[AddressRange]>,
    line: u32,
    /// Lines that take memory.
    entries: usize,
    warnings: Vec<(u32, String)>,
}

impl Reader {
    fn read(&mut self, line: &[u8]) -> Result<(), String> {
        if line.starts_with(b"#") {
            return Ok(());
        }
        let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text".to_string())?;
        let line = line.trim_end_matches(is_blank).trim_start_matches(' ');
        if line.is_empty() {
            return Ok(());
        }
        self.entries += 1;
        if self.entries > Limits::ACL_LINES_MAX {
            return Err("is beyond the 100,000 lines that an ACL file may have".to_string());
        }
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        match keyword {
            "topic" | "pattern" => self.rule(keyword, rest),
            "user" => {
                self.section = Section::User(name(rest, "user")?.into());
                self.ranges = Rc::default();
                Ok(())
            }
            "group" => self.group(name(rest, "group")?),
            "member" => self.member(name(rest, "member")?),
            "address" => self.address(rest),
            _ if keyword.starts_with('#') => {
                Err("a comment begins in the first column".to_string())
            }
            _ => Err(format!(
                "\"{}\" begins no line; those that there are begin with topic, user or pattern, \
                 and beyond Mosquitto with group, member or address",
                Printable(keyword)
            )),
        }
    }

    fn rule(&mut self, keyword: &str, rest: &str) -> Result<(), String> {
        let rest = rest.trim_start_matches(' ');
        if rest.is_empty() {
            return Err(format!("needs a filter: {keyword} readwrite FILTER"));
        }
        let (rights, filter) = match rest.split_once(' ') {
            // Mosquitto's way: a single word is a filter, whatever it says.
            None => {
                if Rights::parse(rest).is_some() {
                    let warning = format!(
                        "lets clients read and write the topic \"{rest}\"; an access needs a \
                         filter after it"
                    );
                    self.warn(warning);
                }
                (Rights::READ_WRITE, rest)
            }
            Some((word, filter)) => {
                let rights = Rights::parse(word).ok_or_else(|| {
                    format!(
                        "\"{0}\" is no access, which is read, write, readwrite, deny or \
                         subscribe; a filter with spaces needs one before it: {keyword} \
                         readwrite {0} {1}",
                        Printable(word),
                        Printable(filter)
                    )
                })?;
                (rights, filter.trim_matches(is_blank))
            }
        };
        check_text(filter)?;
        TopicFilter::parse(filter)
            .map_err(|refusal| format!("\"{}\": {}", Printable(filter), refusal.why))?;
        let rule = Rule::new(self.line, rights, filter, self.ranges.clone());
        if keyword == "topic" {
            self.acl.add_topic(&self.section, rule);
            return Ok(());
        }
        if !filter.contains("%c") && !filter.contains("%u") {
            let warning = format!(
                "the pattern \"{}\" has neither %c nor %u: it is for everybody",
                Printable(filter)
            );
            self.warn(warning);
        }
        self.acl.add_pattern(rule);
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < Limits::ACL_WARNINGS_MAX {
            self.warnings.push((self.line, warning));
        }
    }

    fn group(&mut self, name: &str) -> Result<(), String> {
        self.section = Section::Group(self.acl.group(name));
        self.ranges = Rc::default();
        match self.acl.group_count() > Limits::ACL_GROUPS_MAX {
            true => Err("is beyond the 1,000 groups that an ACL file may have".to_string()),
            false => Ok(()),
        }
    }

    fn member(&mut self, name: &str) -> Result<(), String> {
        let Section::Group(group) = self.section else {
            return Err("a member needs its group: a line \"group NAME\" above".to_string());
        };
        match self.acl.add_member(group, name) > Limits::ACL_GROUPS_PER_USER {
            true => Err("this user is a member of more than 64 groups".to_string()),
            false => Ok(()),
        }
    }

    fn address(&mut self, rest: &str) -> Result<(), String> {
        let words = || rest.split(' ').filter(|word| !word.is_empty());
        let example = "such as 192.168.0.0/16 or fd00::/8, or any";
        match words().count() {
            0 => return Err(format!("needs a range of addresses, {example}")),
            count if count > Limits::ACL_RANGES_PER_LINE => {
                return Err("has more than 16 ranges".to_string());
            }
            _ => {}
        }
        let ranges: Result<Vec<AddressRange>, String> = match rest.trim_matches(' ') {
            "any" => Ok(Vec::new()),
            _ => words().map(range).collect(),
        };
        self.ranges = ranges?.into();
        Ok(())
    }
}

/// What C calls a space.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

fn name<'a>(rest: &'a str, keyword: &str) -> Result<&'a str, String> {
    match rest.trim_matches(is_blank) {
        "" => Err(format!("needs a name: {keyword} NAME")),
        name if name.len() > Limits::USER_NAME_BYTES_MAX => {
            Err("a name must not have more than 1,024 bytes".to_string())
        }
        name => check_text(name).map(|()| name),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    match text.contains(char::is_control) {
        true => Err("has a control character; words are separated by spaces, not tabs".to_string()),
        false => Ok(()),
    }
}

/// An address, or the start of some and how many bits of it count.
fn range(word: &str) -> Result<AddressRange, String> {
    let wrong = || {
        format!(
            "\"{}\" is no range of addresses, such as 192.168.0.0/16 or fd00::/8",
            Printable(word)
        )
    };
    let (address, bits) = match word.split_once('/') {
        None => (word, None),
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
    };
    let first: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits_max = match first {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.unwrap_or(bits_max);
    if bits > bits_max {
        return Err(wrong());
    }
    let start = start(first, bits);
    match start == first {
        true => Ok(AddressRange { first, bits }),
        false => Err(format!(
            "\"{word}\" has bits beyond the first {bits}: {start}/{bits} is the range it is in"
        )),
    }
}

/// The address with all but its first bits cleared.
fn start(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}
