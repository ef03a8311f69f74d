//! Going over the frames of one segment, and over what is bad in it.
//!
//! A frame counts where it continues the one before it. Where none does, the log has ended (a torn
//! tail) or a part has gone bad. It is rot if the segment was whole (its successor says where it
//! ends), or if a frame further on was written when the bad part had been on the medium already;
//! frames beyond a torn tail were not, and are no part of the log.

use super::format::{Frame, HEADER, Header, number_at};

pub struct Walk<'a> {
    segment: &'a [u8],
    mark: u32,
    /// Known of all but the newest.
    end: Option<usize>,
    at: usize,
    /// The checksum that the next frame must name; none behind a gap.
    chain: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    Frame(Frame<'a>),
    Gap { from: usize, to: usize },
}

impl<'a> Walk<'a> {
    pub fn new(segment: &'a [u8], header: &Header, end: Option<u32>) -> Walk<'a> {
        let size = segment.len().min(header.size as usize) - HEADER;
        let end = end.map(|end| (end as usize).min(size));
        Walk {
            segment: &segment[..end.unwrap_or(size)],
            mark: header.mark(),
            end,
            at: HEADER,
            chain: Some(header.mark()),
        }
    }

    /// Where the frames end, once there are no more steps.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What the next frame is to continue. Behind a gap at the very end nobody knows.
    pub fn last_crc(&self) -> u32 {
        self.chain.unwrap_or(self.mark)
    }

    /// Whether the log broke off while a frame was written.
    pub fn is_torn(&self) -> bool {
        let field = |at| number_at(self.segment, at);
        self.end.is_none()
            && (field(self.at) == Some(self.mark) || field(self.at + 8) == Some(self.last_crc()))
    }

    /// Where to go on behind what is bad.
    fn resume(&self) -> Option<usize> {
        let (mut first, mut at) = (None, self.at + 1);
        let mark = self.mark.to_le_bytes();
        while let Some(rest) = self.segment.get(at..) {
            at += rest.windows(mark.len()).position(|bytes| bytes == mark)?;
            let Some(frame) = Frame::at(self.segment, self.mark, at) else {
                at += 1;
                continue;
            };
            first = first.or(Some(at));
            if self.end.is_some() || frame.synced as usize > self.at {
                return first;
            }
            at = frame.end;
        }
        None
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        if self.end.is_some_and(|end| self.at >= end) {
            return None;
        }
        let frame = Frame::at(self.segment, self.mark, self.at);
        let next = frame.filter(|frame| self.chain.is_none_or(|chain| chain == frame.previous));
        if let Some(frame) = next {
            (self.at, self.chain) = (frame.end, Some(frame.crc));
            return Some(Step::Frame(frame));
        }
        let to = self.resume().or(self.end)?;
        let from = std::mem::replace(&mut self.at, to);
        self.chain = None;
        Some(Step::Gap { from, to })
    }
}
