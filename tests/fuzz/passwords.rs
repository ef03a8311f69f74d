//! Password files, made of anything.
//!
//! What must hold: reading never panics; what is wrong is said in one line that somebody can read,
//! with its place, and shows nothing of what stands behind a colon; a file that is accepted gives
//! every user a hash that is written as it was read, and can be checked against.

use midge::passwords::hash::Hash;
use midge::passwords::users::{Line, Users};

/// Iterations gone through per user: enough to begin with.
const ITERATIONS: u32 = 3;
/// In no sentence of ours: where one of these is shown, it comes from the file.
const TELLING: [char; 3] = ['!', '@', '~'];

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Users::parse("file", &text) {
        Ok(users) => check(&users, &text),
        Err(faults) => {
            assert!(!faults.is_empty(), "nothing is said about what is wrong");
            for fault in faults {
                check_fault(&fault, &text);
            }
        }
    }
}

fn check(users: &Users, text: &str) {
    let mut count = 0;
    for line in text.lines() {
        let Line::User(name, _) = Line::of(line) else {
            continue;
        };
        count += 1;
        let hash = users.hash(name).expect("every line is a user");
        assert!(Hash::parse(&hash.to_text()).is_ok_and(|again| again == *hash));
        let mut derivation = hash.begin(b"a guess");
        if derivation.step(ITERATIONS) {
            assert!(!hash.is(&derivation), "the fuzzer has broken SHA-512");
        }
    }
    assert_eq!(users.len(), count);
    assert_eq!(users.somebody(u64::MAX).is_some(), count > 0);
}

fn check_fault(fault: &str, text: &str) {
    assert!(fault.starts_with("file:"), "{fault:?} does not say where");
    let control = fault.chars().find(|char| char.is_control());
    assert_eq!(control, None, "{fault:?} is not one line of plain text");
    // The name on that line is shown; nothing else of the file is.
    let number = fault
        .split(':')
        .nth(1)
        .and_then(|number| number.parse().ok());
    let line = number.and_then(|number: usize| text.lines().nth(number - 1));
    let rest = match line.map(Line::of) {
        Some(Line::User(name, _)) if !name.is_empty() => fault.replace(name, ""),
        Some(Line::User(..) | Line::Other) | None => fault.to_string(),
    };
    assert!(
        !rest.contains(TELLING),
        "{fault:?} shows what is to be secret"
    );
}
