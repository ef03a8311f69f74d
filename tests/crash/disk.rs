//! A disk that loses, when its power is cut, whatever nobody asked it to sync, as badly as it may.
//!
//! Of each sector (512 bytes or 4 KiB) any of the contents since the last sync may be there after a
//! cut, of the directory's changes any choice, and a file that was never synced may be empty. A
//! sync that fails forgets what it should have kept, as kernels do: a second one would succeed and
//! keep nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use midge::store::Disk;

use crate::common::Prng;

#[derive(Clone, Default)]
pub struct TestDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of the directory since it was synced.
    changes: Vec<Change>,
    faults: Faults,
    verbs: usize,
    is_off: bool,
}

const EMFILE: i32 = 24;

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The verb at which the power is cut, counted from now.
    pub cut: Option<usize>,
    /// The sync that fails, counted from now.
    pub bad_sync: Option<usize>,
    /// The write that fails, counted from now.
    pub bad_write: Option<usize>,
    /// Bytes that the disk has.
    pub capacity: Option<u64>,
    /// A byte that no read gets past, by file.
    pub unreadable: Option<(u32, u64)>,
    /// No file can be opened for reading, as the process has too many.
    pub no_descriptors: bool,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync: where, and what.
    writes: Vec<(usize, Vec<u8>)>,
    is_length_durable: bool,
}

#[derive(Clone)]
enum Change {
    Create(String, usize),
    Remove(String),
    Rename(String, String),
}

impl TestDisk {
    pub fn new() -> TestDisk {
        TestDisk::default()
    }

    /// Another disk with the same on it.
    pub fn copy(&self) -> TestDisk {
        let state = self.state.borrow().clone();
        TestDisk {
            state: Rc::new(RefCell::new(state)),
        }
    }

    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state.borrow_mut();
        state.verbs = 0;
        state.faults = faults;
    }

    pub fn is_off(&self) -> bool {
        self.state.borrow().is_off
    }

    /// The power comes back: this is what the medium has.
    pub fn power_on(&self, prng: &mut Prng) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let sector = if prng.below(2) == 0 { 512 } else { 4096 };
        let mood = prng.below(4);
        for inode in &mut state.inodes {
            inode.cut(sector, mood, prng);
        }
        for change in std::mem::take(&mut state.changes) {
            if prng.below(4) < mood {
                change.make(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        state.is_off = false;
        state.verbs = 0;
        state.faults = Faults::default();
    }

    pub fn names(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state.borrow();
        state.inodes[state.names[name]].bytes.clone()
    }

    /// What stood on the medium changes there.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        change(&mut inode.bytes);
        inode.durable = inode.bytes.clone();
        inode.writes.clear();
    }

    pub fn add(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            durable: bytes.clone(),
            bytes,
            writes: Vec::new(),
            is_length_durable: true,
        });
        state.names.insert(name.to_string(), inode);
        state.durable_names.insert(name.to_string(), inode);
    }
}

impl Inode {
    fn cut(&mut self, sector: usize, mood: usize, prng: &mut Prng) {
        if !self.is_length_durable && prng.below(4) < mood {
            self.durable.resize(self.bytes.len(), 0);
        }
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, (at, bytes)) in self.writes.iter().enumerate() {
            for number in *at / sector..(at + bytes.len()).div_ceil(sector) {
                sectors.entry(number).or_default().push(index);
            }
        }
        for (number, writes) in sectors {
            let kept = match mood {
                0 => 0,
                3 if prng.below(8) > 0 => writes.len(),
                _ => prng.below(writes.len() + 1),
            };
            for index in &writes[..kept] {
                let (at, bytes) = &self.writes[*index];
                let from = (number * sector).max(*at);
                let to = ((number + 1) * sector).min(at + bytes.len());
                if self.durable.len() < to {
                    self.durable.resize(to, 0);
                }
                self.durable[from..to].copy_from_slice(&bytes[from - at..to - at]);
            }
        }
        self.writes.clear();
        self.is_length_durable = true;
        self.bytes = self.durable.clone();
    }
}

impl Change {
    fn make(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Change::Remove(name) => {
                names.remove(name);
            }
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl State {
    /// Whether the power is still on after this verb. Where it is not, the verb may have had an
    /// effect: it is done, and nobody is told.
    fn verb(&mut self) -> bool {
        self.verbs += 1;
        let is_cut = self.faults.cut.is_some_and(|cut| self.verbs > cut);
        is_cut && !std::mem::replace(&mut self.is_off, true)
    }

    fn inode(&self, file: u32) -> io::Result<usize> {
        let inode = self.names.get(&name(file)).copied();
        inode.ok_or(io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.names);
        self.changes.push(change);
    }

    fn new_file(&mut self, name: String, bytes: Vec<u8>) -> io::Result<()> {
        let files = self.names.values();
        let taken: usize = files.map(|inode| self.inodes[*inode].bytes.len()).sum();
        let capacity = self.faults.capacity;
        if capacity.is_some_and(|capacity| (taken + bytes.len()) as u64 > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode {
            bytes,
            ..Inode::default()
        });
        self.change(Change::Create(name, inode));
        Ok(())
    }
}

pub fn name(file: u32) -> String {
    format!("{file:08x}.log")
}

fn off<T>() -> io::Result<T> {
    Err(io::Error::other("the power is off"))
}

fn is_due(countdown: &mut Option<usize>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// Does a verb, unless the power is off. At the very cut it is done, but nobody hears of it; where
/// that would make it a sync that happened, the cut is before it.
macro_rules! verb {
    ($state:ident, $is_cut:ident) => {
        let mut $state = $state.borrow_mut();
        if $state.is_off {
            return off();
        }
        let $is_cut = $state.verb();
    };
}

impl Disk for TestDisk {
    fn place(&self) -> String {
        "the test disk".to_string()
    }

    fn list(&mut self) -> io::Result<Vec<(u32, u64)>> {
        let state = &self.state;
        verb!(state, is_cut);
        if is_cut {
            return off();
        }
        let files = state.names.iter().filter_map(|(name, inode)| {
            let file = u32::from_str_radix(name.strip_suffix(".log")?, 16).ok()?;
            Some((file, state.inodes[*inode].bytes.len() as u64))
        });
        Ok(files.collect())
    }

    fn create(&mut self, file: u32, length: u64) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        state.new_file(name(file), vec![0; length as usize])?;
        if is_cut { off() } else { Ok(()) }
    }

    fn read(&mut self, file: u32, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = &self.state;
        verb!(state, is_cut);
        if is_cut {
            return off();
        }
        if state.faults.no_descriptors {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let read = offset..offset + into.len() as u64;
        let unreadable = state.faults.unreadable;
        if unreadable.is_some_and(|(of, at)| of == file && read.contains(&at)) {
            return Err(io::Error::other("a part that cannot be read"));
        }
        let inode = state.inode(file)?;
        let bytes = state.inodes[inode].bytes.get(offset as usize..);
        let bytes = bytes.unwrap_or_default();
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write(&mut self, file: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        if is_due(&mut state.faults.bad_write) {
            return Err(io::Error::other("a write that failed"));
        }
        let inode = state.inode(file)?;
        let (inode, at) = (&mut state.inodes[inode], offset as usize);
        if inode.bytes.len() < at + bytes.len() {
            inode.bytes.resize(at + bytes.len(), 0);
        }
        inode.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        inode.writes.push((at, bytes.to_vec()));
        if is_cut { off() } else { Ok(()) }
    }

    fn sync(&mut self, file: u32) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        if is_cut {
            return off();
        }
        let is_bad = is_due(&mut state.faults.bad_sync);
        let inode = state.inode(file)?;
        let inode = &mut state.inodes[inode];
        inode.writes.clear();
        if is_bad {
            return Err(io::Error::other("a sync that failed"));
        }
        inode.durable = inode.bytes.clone();
        inode.is_length_durable = true;
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        if is_cut {
            return off();
        }
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn remove(&mut self, file: u32) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        state.inode(file)?;
        state.change(Change::Remove(name(file)));
        if is_cut { off() } else { Ok(()) }
    }

    fn rename(&mut self, file: u32, to: &str) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        state.inode(file)?;
        state.change(Change::Rename(name(file), to.to_string()));
        if is_cut { off() } else { Ok(()) }
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let state = &self.state;
        verb!(state, is_cut);
        state.new_file(name.to_string(), bytes.to_vec())?;
        if is_cut { off() } else { Ok(()) }
    }
}
