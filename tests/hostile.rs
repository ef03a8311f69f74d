//! Hostile and broken clients over real sockets: what each gets, and what the others notice of it.
//!
//! The tables are in `hostile/rows.rs` and `hostile/slow.rs`; `docs/hostile.md` shows them, with
//! figures of the last time it was written (`scripts/hostile.sh`).

mod common;
#[path = "common/socket.rs"]
mod socket;

#[path = "hostile/answer.rs"]
mod answer;
#[path = "hostile/attack.rs"]
mod attack;
#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/page.rs"]
mod page;
#[path = "hostile/rows.rs"]
mod rows;
#[path = "hostile/served.rs"]
mod served;
#[path = "hostile/slow.rs"]
mod slow;

use std::thread;
use std::time::Duration;

use page::Figures;
use rows::{PACKET_BYTES_MAX, RECEIVE_MAXIMUM};
use socket::{Midge, until};

/// What a client that does not read may be owed, and what may wait for it: little, to be reached.
const OUTBOUND_BYTES_MAX: usize = 1_000_000;
const QUEUED_BYTES_MAX: usize = 1_000_000;
/// How long the well-behaved are watched before the others come.
const PEACE: Duration = Duration::from_secs(3);
/// What the well-behaved may notice: for 99 of 100 messages no more than this in addition to what
/// they take without the others, on a machine that may be busy anyway.
const P99_MORE_MAX: Duration = Duration::from_millis(100);
/// A newcomer may find so many others at the door that it has to knock again, after a second.
const CONNECT_P99_MAX: Duration = Duration::from_secs(2);

#[test]
fn hostile_clients_get_what_the_table_says_and_the_others_are_served() {
    let descriptors_max = attack::descriptors_max();
    let broker = Midge::start(&[
        "--sys-interval=1",
        &format!("--max-packet-size={PACKET_BYTES_MAX}"),
        &format!("--receive-maximum={RECEIVE_MAXIMUM}"),
        &format!("--max-outbound-bytes={OUTBOUND_BYTES_MAX}"),
        &format!("--max-queued-bytes={QUEUED_BYTES_MAX}"),
    ]);
    broker.client("first").disconnect();
    let descriptors = until("its own descriptors only", || {
        let count = broker.count("fd");
        (count < 24).then_some(count)
    });
    let (peace, ()) = served::serve(broker.port, || thread::sleep(PEACE)); // The time to measure.
    let before = broker.figure("VmRSS") as usize * 1024;
    let (war, attack) = served::serve(broker.port, || attack::attack(&broker));
    let peak = broker.figure("VmHWM") as usize * 1024;
    let bound = before + attack::memory_bound(OUTBOUND_BYTES_MAX, QUEUED_BYTES_MAX);
    let figures = Figures {
        descriptors_max,
        peace,
        war,
        attack,
        before,
        peak,
        bound,
    };
    println!("{}", figures.text());
    let p99 = figures.war.messages.percentile(99);
    assert!(
        p99 < figures.peace.messages.percentile(99) + P99_MORE_MAX,
        "the others waited {p99:?}"
    );
    let p99 = figures.war.connects.percentile(99);
    assert!(p99 < CONNECT_P99_MAX, "newcomers waited {p99:?}");
    assert!(peak < bound, "{peak} bytes of memory, more than {bound}");
    // All is given back.
    until("as many descriptors as before", || {
        (broker.count("fd") == descriptors).then_some(())
    });
    until("no session but of who asks", || {
        (served::sys(&broker, "clients/total") == "1").then_some(())
    });
    assert_eq!(broker.stop().status, Some(0));
    page::write(&figures);
}

#[test]
fn the_page_shows_the_tables() {
    page::check();
}
