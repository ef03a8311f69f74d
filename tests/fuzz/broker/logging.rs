//! A reader of the log: what clients say of themselves must not garble its lines.

use std::fmt::{self, Write};
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

/// Names are cut short in it, so no line is longer.
const LINE_BYTES_MAX: usize = 4_000;

/// Has every line of this process read, from now on.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Reader).expect("nobody else listens");
        log::set_max_level(LevelFilter::Trace);
    });
}

struct Reader;

impl Log for Reader {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let mut line = Line(0);
        write!(line, "{}", record.args()).expect("a line can be read");
        assert!(
            (1..=LINE_BYTES_MAX).contains(&line.0),
            "a line of {} bytes",
            line.0
        );
    }

    fn flush(&self) {}
}

/// Counts the bytes of a line and looks for what does not belong into it.
struct Line(usize);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let control = text.chars().find(|char| char.is_control());
        assert_eq!(control, None, "a line of the log has {text:?} in it");
        self.0 += text.len();
        Ok(())
    }
}
