//! What an ACL file answers, and which line of it decides, for people.

use super::access;
use super::acl::{Access, Because, Identity, Verdict};
use super::acl_file::AclFile;
use super::acl_lines::Rule;
use super::printable::Printable;
use crate::packet::{SubscriptionTopic, TopicName};

/// What somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub who: Identity,
    pub access: Access,
    /// To subscribe, a Topic Filter as it stands in a SUBSCRIBE.
    pub topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub sentence: String,
}

impl Question {
    /// Whether it can be answered.
    pub fn check(&self) -> Result<(), String> {
        let checked = match self.access {
            Access::Read | Access::Write => TopicName::parse(&self.topic).map(|_| ()),
            Access::Subscribe => SubscriptionTopic::parse(&self.topic).map(|_| ()),
        };
        checked.map_err(|refusal| format!("\"{}\": {}", Printable(&self.topic), refusal.why))
    }

    /// Answers one that was checked; `None` stands for no ACL file.
    pub fn answer(&self, file: Option<&AclFile>) -> Answer {
        let topic = TopicName::trusted(self.topic.as_bytes());
        let reserved = match self.access {
            Access::Write => access::may_publish(topic).err(),
            Access::Read | Access::Subscribe => None,
        };
        match (reserved, file) {
            (Some(refusal), _) => answer(false, refusal.why.to_string()),
            (None, None) => answer(
                true,
                "there is no ACL file (--acl-file), so everybody may do everything".to_string(),
            ),
            (None, Some(file)) => self.look_up(file),
        }
    }

    fn look_up(&self, file: &AclFile) -> Answer {
        let filter = match SubscriptionTopic::parse(&self.topic) {
            Ok(topic) if self.access == Access::Subscribe => topic.filter.as_str(),
            Ok(_) | Err(_) => &self.topic,
        };
        let Verdict { allowed, because } =
            file.acl.decide(&self.who, self.access, filter.as_bytes());
        let name = Printable(&file.name);
        let says = |rule: &Rule| {
            let line = Printable(file.line(rule.line));
            format!("{name}:{} says \"{line}\"", rule.line)
        };
        let sentence = match because {
            Because::Topic(rule) | Because::Pattern(rule) => says(rule),
            Because::Silence => format!(
                "no line of {name} lets {} {} {}",
                self.client(),
                self.access.name(),
                Printable(&self.topic)
            ),
            Because::DangerousName => format!(
                "no topic line of {name} says anything, and its patterns are not for {}, as a name \
                 with + or # in it would stand for those of others",
                self.client()
            ),
            Because::NoSubscribeLines => format!(
                "{name} has no subscribe lines, so every client may subscribe to everything; what \
                 it is sent, its read lines decide"
            ),
        };
        answer(allowed, sentence)
    }

    fn client(&self) -> String {
        let client_id = Printable(&self.who.client_id);
        let from = match self.who.address {
            None => String::new(),
            Some(address) => format!(" from {address}"),
        };
        match &self.who.user_name {
            None => format!("client {client_id} without a user name{from}"),
            Some(name) => format!("user {} with client id {client_id}{from}", Printable(name)),
        }
    }
}

fn answer(allowed: bool, sentence: String) -> Answer {
    let word = if allowed { "allowed" } else { "denied" };
    Answer {
        allowed,
        sentence: format!("{word}: {sentence}."),
    }
}
