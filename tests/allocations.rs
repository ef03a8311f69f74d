//! How often the pure core asks for memory while messages pass through it, once every buffer has
//! its size: never for QoS 0, and not per subscriber for QoS 1 and 2.
//!
//! The scripts are those of `benches/scenarios`; a message's figure is the number of allocations
//! and reallocations of the broker alone, as nobody else does anything while the curtain is up.

#[path = "../benches/scenarios/mod.rs"]
mod scenarios;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use scenarios::Scenario;

/// Allocations of a message that has to be kept: its bytes, with the count of its owners.
const PER_KEPT_MESSAGE: usize = 1;

#[test]
fn nothing_is_allocated_for_qos_0_whatever_the_fan_out() {
    for name in [
        "1 to 1, QoS 0",
        "1 to 1, QoS 0, v5",
        "1 to 50, QoS 0",
        "ACL, 1 to 1, QoS 0",
        "ACL, 1 to 50, QoS 0",
    ] {
        assert_eq!(allocations(name), 0, "{name}");
    }
}

#[test]
fn nothing_is_allocated_for_finding_one_among_many_filters() {
    assert_eq!(allocations("20000 filters"), 0);
    assert_eq!(allocations("1024 hostile patterns"), 0);
}

#[test]
fn a_message_of_qos_1_or_2_is_kept_once_whatever_the_fan_out() {
    for (name, subscribers) in [
        ("1 to 1, QoS 1", 1),
        ("1 to 1, QoS 2", 1),
        ("1 to 50, QoS 1", 50),
    ] {
        let published = messages(name) / subscribers;
        assert_eq!(allocations(name), PER_KEPT_MESSAGE * published, "{name}");
    }
}

#[test]
fn a_queue_costs_no_more_than_its_messages_and_its_own_growth() {
    let name = "queue, QoS 1";
    let blocks = messages(name) / 128;
    let doublings = 10;
    let kept = PER_KEPT_MESSAGE * messages(name);
    let allocated = allocations(name);
    assert!(
        (kept..=kept + blocks + doublings).contains(&allocated),
        "{allocated}"
    );
}

#[test]
fn what_was_kept_is_sent_without_being_copied_to_new_memory() {
    // A few for a connection, a subscription, and buffers that grow to what a turn writes.
    for name in ["drain, QoS 1", "retained, replay"] {
        let allocated = allocations(name);
        assert!(allocated * 20 < messages(name), "{name}: {allocated}");
    }
}

fn messages(name: &str) -> usize {
    Scenario::named(name)
        .expect("there is such a scenario")
        .messages
}

/// Of all messages of a scenario.
fn allocations(name: &str) -> usize {
    let scenario = Scenario::named(name).expect("there is such a scenario");
    let mut performance = scenario.rehearse();
    let before = ALLOCATIONS.get();
    performance.play();
    let after = ALLOCATIONS.get();
    performance.check();
    after - before
}

// ---- the allocator --------------------------------------------------------------------------

thread_local! {
    /// Of this thread: each test has its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and a count.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that is ending has nothing to count any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}
