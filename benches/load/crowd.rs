//! Many clients that do little: cycles of connecting and leaving, idle connections, subscriptions.
//!
//! A client is a visit, which takes a step when its answer has come; some of them go on at a time,
//! and every tick each is looked at once.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use super::link::{Link, Patience, READ_BYTES, TICK};
use super::process::{Broker, Cost, Meter};
use super::tally::Faults;
use super::topics::{self, FILTERS};
use super::wire::{self, Kind, Session, Template};

/// Seconds. Nothing is sent before, and a broker has a timer for each client.
const KEEP_ALIVE: u16 = 600;
const PAYLOAD_BYTES: usize = 100;

// ---- idle connections -----------------------------------------------------------------------

pub struct Idle {
    pub connecting: Cost,
    pub bytes_each: f64,
    pub switches_per_second: f64,
}

/// Connects `count` clients with one subscription each, and leaves them alone for `time`.
pub fn idle(broker: &Broker, count: usize, time: Duration) -> io::Result<Idle> {
    let before = broker.settled().proportional;
    let crowd = Crowd {
        count,
        at_once: 50,
        until: Until::Subscribed,
    };
    let meter = Meter::start(broker);
    let mut clients: Vec<Link> = Vec::with_capacity(count);
    crowd.come(broker.address, |link| clients.push(link))?;
    let connecting = meter.read(broker);
    let after = broker.settled().proportional;
    let switches = broker.switches();
    sleep(time);
    let switches = broker.switches() - switches;
    for client in &mut clients {
        client.read(&mut [0; 64], |_, _, _| {
            Err(wire::unexpected("an idle client got a packet"))
        })?;
    }
    Ok(Idle {
        connecting,
        bytes_each: (after - before) / count as f64,
        switches_per_second: switches as f64 / time.as_secs_f64(),
    })
}

// ---- cycles ---------------------------------------------------------------------------------

/// `count` times: connect, subscribe, publish one, receive it, disconnect.
pub fn cycles(broker: &Broker, count: usize) -> io::Result<(Cost, Faults)> {
    let crowd = Crowd {
        count,
        at_once: 20,
        until: Until::Received,
    };
    crowd.come(broker.address, drop)?;
    let meter = Meter::start(broker);
    crowd.come(broker.address, drop)?;
    // The last ones have only just said good-bye.
    sleep(20 * TICK);
    // A message that does not come, or not with its number, ends the visit with an error.
    Ok((meter.read(broker), Faults::default()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Subscribed,
    Received,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    AwaitConnack,
    AwaitSuback,
    AwaitMessage,
    Done,
}

struct Crowd {
    count: usize,
    at_once: usize,
    until: Until,
}

impl Crowd {
    /// They come, one when another is done, and each gives its link away.
    fn come(&self, address: SocketAddr, mut done: impl FnMut(Link)) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut visits: Vec<Visit> = Vec::with_capacity(self.at_once);
        let (mut begun, mut ended, mut patience) = (0, 0, Patience::new());
        while ended < self.count {
            if patience.is_over(ended as u64) {
                return Err(ErrorKind::TimedOut.into());
            }
            while begun < self.count && visits.len() < self.at_once {
                visits.push(Visit::begin(address, begun, self.until)?);
                begun += 1;
            }
            sleep(TICK);
            for visit in &mut visits {
                visit.go_on(&mut buffer)?;
            }
            for visit in visits.extract_if(.., |visit| visit.step == Step::Done) {
                done(visit.link);
                ended += 1;
            }
        }
        Ok(())
    }
}

struct Visit {
    link: Link,
    number: usize,
    step: Step,
    until: Until,
}

impl Visit {
    fn begin(address: SocketAddr, number: usize, until: Until) -> io::Result<Visit> {
        let mut link = Link::open(address)?;
        let client_id = format!("visitor-{number}");
        link.out
            .extend(wire::connect(&client_id, Session::Clean, KEEP_ALIVE));
        link.flush()?;
        Ok(Visit {
            link,
            number,
            step: Step::AwaitConnack,
            until,
        })
    }

    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Visit {
            link,
            number,
            step,
            until,
        } = self;
        link.read(buffer, |first, body, out| {
            let topic = format!("visit/{number}/command");
            *step = match (*step, *until) {
                (Step::AwaitConnack, _) if first == wire::connack(false)[0] && body == [0, 0] => {
                    out.extend(wire::subscribe(&[topic], 0));
                    Step::AwaitSuback
                }
                (Step::AwaitSuback, Until::Subscribed) if first == wire::suback(1, 0)[0] => {
                    Step::Done
                }
                (Step::AwaitSuback, Until::Received) if first == wire::suback(1, 0)[0] => {
                    let mut template = Template::new(&topic, *number as u32, KIND);
                    template.stamp(0, 0, 0);
                    out.extend(&template.bytes);
                    Step::AwaitMessage
                }
                (Step::AwaitMessage, _) => match wire::receive(first, body, out)? {
                    Some(message) if message.series == *number => {
                        out.extend(wire::DISCONNECT);
                        Step::Done
                    }
                    _ => return Err(wire::unexpected("a client got what is not for it")),
                },
                _ => return Err(wire::unexpected("a CONNECT or SUBSCRIBE was refused")),
            };
            Ok(())
        })?;
        link.flush()
    }
}

const KIND: Kind = Kind {
    qos: 0,
    retain: false,
    payload_bytes: PAYLOAD_BYTES,
};

// ---- subscriptions --------------------------------------------------------------------------

/// Bytes of each of [`FILTERS`] subscriptions, divided among `clients`.
pub fn subscriptions(broker: &Broker, clients: usize) -> io::Result<f64> {
    let mut links = Vec::new();
    for number in 0..clients {
        links.push(Link::connect(
            broker.address,
            &format!("subscriber-{number}"),
        )?);
    }
    let before = broker.settled().proportional;
    for (number, link) in links.iter_mut().enumerate() {
        let filters: Vec<String> = (number..FILTERS)
            .step_by(clients)
            .map(topics::filter)
            .collect();
        link.subscribe(&filters, 0)?;
    }
    Ok((broker.settled().proportional - before) / FILTERS as f64)
}
