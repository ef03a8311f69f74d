//! Printing a store for people. Nothing is changed, nothing set aside.

use std::io::{self, Write};

use super::disk::Disk;
use super::error::StoreError;
use super::format::{FRAME, Frame};
use super::recover::Survey;
use crate::record::{Record, records};

/// Every record of every segment, oldest first, whether it still counts or not.
pub fn dump(disk: &mut impl Disk, out: &mut dyn Write) -> Result<(), StoreError> {
    let survey = Survey::of(disk)?;
    let printed = print(&survey, disk, out);
    printed.map_err(|error| StoreError::new(disk, "print the store", error))
}

fn print(survey: &Survey, disk: &mut impl Disk, out: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (&sequence, segment) in &survey.segments {
        let (file, first) = (segment.file, segment.header.first);
        let name = format_args!("segment {sequence} in file {file:08x}");
        writeln!(out, "{name}, needed from segment {first}")?;
        let mut walk = survey.walk(disk, sequence, &mut bytes);
        for frame in &mut walk {
            print_frame(&frame, out)?;
        }
        for gap in &walk.gaps {
            writeln!(out, "  {} bad up to {}", gap.start, gap.end)?;
        }
        let torn = if walk.is_torn() { ", torn" } else { "" };
        writeln!(out, "  {} end{torn}", walk.at)?;
    }
    for (file, length) in &survey.blank {
        writeln!(out, "file {file:08x} of {length} bytes is not in use yet")?;
    }
    for (file, length) in &survey.unknown {
        writeln!(out, "file {file:08x} of {length} bytes has a bad header")?;
    }
    Ok(())
}

fn print_frame(frame: &Frame<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (at, end) = (frame.at, frame.end);
    let (synced, first) = (frame.synced, frame.first);
    let length = format_args!("{at} frame up to {end}, synced to {synced}");
    writeln!(out, "  {length}, needed from segment {first}")?;
    for (offset, record) in records(frame.records) {
        write!(out, "  {} ", at + FRAME + offset)?;
        match record {
            Record::Put { key, value } => {
                let (key, value) = (key.escape_ascii(), value.escape_ascii());
                writeln!(out, "put \"{key}\" = \"{value}\"")?;
            }
            Record::Delete { key } => writeln!(out, "delete \"{}\"", key.escape_ascii())?,
            Record::Message { refs, body } => {
                write!(out, "message \"{}\" in", body.escape_ascii())?;
                for found in refs {
                    write!(out, " {}/{}", found.queue, found.sequence)?;
                    write!(out, " \"{}\"", found.extra.escape_ascii())?;
                }
                writeln!(out)?;
            }
            Record::Done { queue, sequence } => writeln!(out, "done {queue}/{sequence}")?,
            Record::Drop { queue } => writeln!(out, "drop {queue}")?,
        }
    }
    Ok(())
}
