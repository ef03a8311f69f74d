//! Printing a store for people. Nothing is changed, nothing set aside.

use std::io::{self, Write};

use super::disk::Disk;
use super::error::StoreError;
use super::format::{FRAME, Frame};
use super::recover::Survey;
use super::walk::{Step, Walk};
use crate::record::{Record, records};

/// Every record of every segment, oldest first, whether it still counts or not.
pub fn dump(disk: &mut impl Disk, out: &mut dyn Write) -> Result<(), StoreError> {
    let survey = Survey::of(disk)?;
    let place = disk.place();
    let print = |disk: &mut _, out: &mut dyn Write| print(&survey, disk, out);
    print(disk, out).map_err(|error| StoreError::Failed {
        place,
        doing: "print the store",
        error,
    })
}

fn print(survey: &Survey, disk: &mut impl Disk, out: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (sequence, (file, header)) in &survey.segments {
        let first = header.first;
        writeln!(
            out,
            "segment {sequence} in file {file:08x}, needed from segment {first}"
        )?;
        survey.load(disk, *sequence, &mut bytes);
        let mut walk = Walk::new(&bytes, header, survey.end(*sequence));
        for step in &mut walk {
            match step {
                Step::Frame(frame) => print_frame(&frame, out)?,
                Step::Gap { from, to } => writeln!(out, "  {from} bad up to {to}")?,
            }
        }
        let torn = if walk.is_torn() { ", torn" } else { "" };
        writeln!(out, "  {} end{torn}", walk.at())?;
    }
    for (file, length) in &survey.blank {
        writeln!(out, "file {file:08x} of {length} bytes is not in use yet")?;
    }
    for (file, length) in &survey.unknown {
        writeln!(
            out,
            "file {file:08x} of {length} bytes has no header that can be read"
        )?;
    }
    Ok(())
}

fn print_frame(frame: &Frame<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Frame {
        at,
        end,
        synced,
        first,
        ..
    } = frame;
    writeln!(
        out,
        "  {at} frame up to {end}, synced to {synced}, needed from segment {first}"
    )?;
    for (offset, record) in records(frame.records) {
        write!(out, "  {} ", at + FRAME + offset)?;
        match record {
            Record::Put { key, value } => {
                writeln!(
                    out,
                    "put \"{}\" = \"{}\"",
                    key.escape_ascii(),
                    value.escape_ascii()
                )?;
            }
            Record::Delete { key } => writeln!(out, "delete \"{}\"", key.escape_ascii())?,
            Record::Message { refs, body } => {
                write!(out, "message \"{}\" in", body.escape_ascii())?;
                for reference in refs {
                    let extra = reference.extra.escape_ascii();
                    write!(
                        out,
                        " {}/{} \"{extra}\"",
                        reference.queue, reference.sequence
                    )?;
                }
                writeln!(out)?;
            }
            Record::Done { queue, sequence } => writeln!(out, "done {queue}/{sequence}")?,
            Record::Drop { queue } => writeln!(out, "drop {queue}")?,
        }
    }
    Ok(())
}
