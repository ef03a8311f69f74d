//! Those who have subscribed to one filter, in the order of their sessions.
//!
//! Nearly every filter has one subscriber, who stands in the filter itself; only where there are
//! more do they get memory of their own.

use std::ops::Deref;

use super::SessionId;
use super::subscriptions::Subscriber;

#[derive(Debug)]
pub enum Subscribers {
    One(Subscriber),
    /// Or none.
    Many(Vec<Subscriber>),
}

impl Default for Subscribers {
    fn default() -> Subscribers {
        Subscribers::Many(Vec::new())
    }
}

impl Subscribers {
    /// Where `session` stands, or would stand.
    pub fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.binary_search_by_key(&session, |other| other.session)
    }

    /// Adds one at its place.
    pub fn insert(&mut self, at: usize, subscriber: Subscriber) {
        match self {
            Subscribers::Many(many) if many.is_empty() => *self = Subscribers::One(subscriber),
            Subscribers::Many(many) => many.insert(at, subscriber),
            Subscribers::One(one) => {
                let mut many = vec![*one];
                many.insert(at, subscriber);
                *self = Subscribers::Many(many);
            }
        }
    }

    pub fn replace(&mut self, at: usize, subscriber: Subscriber) {
        match self {
            Subscribers::One(one) => *one = subscriber,
            Subscribers::Many(many) => many[at] = subscriber,
        }
    }

    pub fn remove(&mut self, at: usize) {
        match self {
            Subscribers::One(_) => *self = Subscribers::default(),
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
            Subscribers::One(one) => std::slice::from_ref(one),
            Subscribers::Many(many) => many,
        }
    }
}
