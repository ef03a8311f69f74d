//! Those who have subscribed to one filter, in the order of their sessions.
//!
//! Nearly every filter has one subscriber, who stands in the filter itself; only where there are
//! more do they get memory of their own.

use std::ops::Deref;

use super::SessionId;
use super::subscriptions::Subscriber;

#[derive(Debug, Default)]
pub enum Subscribers {
    #[default]
    Nobody,
    One(Subscriber),
    #[expect(
        clippy::box_collection,
        reason = "so that one alone takes 16 bytes, not 24"
    )]
    Many(Box<Vec<Subscriber>>),
}

impl Subscribers {
    /// Where `session` stands, or would stand.
    pub fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.binary_search_by_key(&session, |other| other.session)
    }

    /// Adds one at its place.
    pub fn insert(&mut self, at: usize, subscriber: Subscriber) {
        match self {
            Subscribers::Nobody => *self = Subscribers::One(subscriber),
            Subscribers::One(one) => {
                let mut many = vec![*one];
                many.insert(at, subscriber);
                *self = Subscribers::Many(Box::new(many));
            }
            Subscribers::Many(many) => many.insert(at, subscriber),
        }
    }

    pub fn replace(&mut self, at: usize, subscriber: Subscriber) {
        match self {
            Subscribers::Nobody => unreachable!("only who is there is replaced"),
            Subscribers::One(one) => *one = subscriber,
            Subscribers::Many(many) => many[at] = subscriber,
        }
    }

    pub fn remove(&mut self, at: usize) {
        match self {
            Subscribers::Nobody | Subscribers::One(_) => *self = Subscribers::Nobody,
            Subscribers::Many(many) => {
                many.remove(at);
                if let [one] = many[..] {
                    *self = Subscribers::One(one);
                }
            }
        }
    }
}

impl Deref for Subscribers {
    type Target = [Subscriber];

    fn deref(&self) -> &[Subscriber] {
        match self {
            Subscribers::Nobody => &[],
            Subscribers::One(one) => std::slice::from_ref(one),
            Subscribers::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_takes_little() {
        // Twelve on 32 bit.
        assert_eq!(size_of::<Subscribers>(), 8 + size_of::<usize>());
    }
}
