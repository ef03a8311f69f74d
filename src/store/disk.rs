//! The few verbs that the store asks of a disk, and a directory that has them.
//!
//! A file is named by a number. What is written is not on the medium before `sync`, and that a
//! file exists not before `sync_directory`: the crash tests have a disk that takes this literally.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::error::StoreError;

pub trait Disk {
    /// How it is called in what people read.
    fn place(&self) -> String;
    /// The files and their lengths, in any order.
    fn list(&mut self) -> io::Result<Vec<(u32, u64)>>;
    /// A new file of zeros whose room is taken.
    fn create(&mut self, file: u32, length: u64) -> io::Result<()>;
    /// Up to the end of the file; how much that was.
    fn read(&mut self, file: u32, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, file: u32, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self, file: u32) -> io::Result<()>;
    fn sync_directory(&mut self) -> io::Result<()>;
    fn remove(&mut self, file: u32) -> io::Result<()>;
    /// From now on it is called `name`, and no file of the store any more.
    fn rename(&mut self, file: u32, name: &str) -> io::Result<()>;
    /// Puts bytes into a file of this name, which is none of the store.
    fn keep(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// What is read at once where a larger read has failed.
const PIECE: u64 = 4096;
const EXTENSION: &str = ".log";

/// All of it, or where a part of that cannot be read, what there is up to the next piece.
pub fn read_some(disk: &mut impl Disk, file: u32, from: u64, into: &mut [u8]) -> io::Result<usize> {
    let piece = into.len().min(next_piece(from) as usize);
    let all = disk.read(file, from, into);
    all.or_else(|_| disk.read(file, from, &mut into[..piece]))
}

/// How far the next piece is away.
pub fn next_piece(from: u64) -> u64 {
    PIECE - from % PIECE
}

#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held, not read.
    lock: Option<File>,
    writer: Option<(u32, File)>,
    reader: Option<(u32, File)>,
}

impl Directory {
    /// Makes the directory if there is none, and has it alone.
    pub fn open(path: &Path) -> Result<Directory, StoreError> {
        let mut directory = Directory::look(path);
        let place = directory.place();
        match directory.lock() {
            Ok(()) => Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(StoreError::Locked { place })
            }
            Err(error) => Err(StoreError::new(&directory, "open the store", error)),
        }
    }

    /// To read only, whoever has it.
    pub fn look(path: &Path) -> Directory {
        Directory {
            path: path.to_owned(),
            lock: None,
            writer: None,
            reader: None,
        }
    }

    fn lock(&mut self) -> io::Result<()> {
        if !self.path.is_dir() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&self.path)?;
            if let Some(parent) = self.path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let name = self.path.join("lock");
        let lock = private().create(true).append(true).open(name)?;
        lock.try_lock()?;
        self.lock = Some(lock);
        Ok(())
    }
}

/// What is made is for nobody else to read, as with Mosquitto.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn path(directory: &Path, file: u32) -> PathBuf {
    directory.join(format!("{file:08x}{EXTENSION}"))
}

/// The file, which from now on is the one that is held open.
fn hold<'a>(
    held: &'a mut Option<(u32, File)>,
    directory: &Path,
    file: u32,
    options: &OpenOptions,
) -> io::Result<&'a File> {
    // Closed first: there may be no descriptor for both.
    held.take_if(|open| open.0 != file);
    let open = match held.take() {
        Some(open) => open,
        None => (file, options.open(path(directory, file))?),
    };
    Ok(&held.insert(open).1)
}

impl Disk for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&mut self) -> io::Result<Vec<(u32, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
            if let Some(number) = number.filter(|number| number.len() == 8)
                && let Ok(file) = u32::from_str_radix(number, 16)
            {
                files.push((file, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn create(&mut self, file: u32, length: u64) -> io::Result<()> {
        let path = path(&self.path, file);
        let created = private().write(true).create_new(true).open(&path)?;
        let taken = match fallocate(&created, FallocateFlags::empty(), 0, length) {
            // A file system that cannot: room is then taken by writing.
            Err(Errno::OPNOTSUPP) => {
                io::copy(&mut io::repeat(0).take(length), &mut &created).map(|_| ())
            }
            taken => taken.map_err(io::Error::from),
        };
        if taken.is_err() {
            fs::remove_file(&path)?;
        }
        taken
    }

    fn read(&mut self, file: u32, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut options = OpenOptions::new();
        let reader = hold(&mut self.reader, &self.path, file, options.read(true))?;
        let mut done = 0;
        while done < into.len() {
            match reader.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(&mut self, file: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        hold(&mut self.writer, &self.path, file, options.write(true))?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: u32) -> io::Result<()> {
        match &self.writer {
            Some((of, writer)) if *of == file => writer.sync_data(),
            // The writer stays open: it is the one that is told of what failed since.
            _ => hold(&mut None, &self.path, file, OpenOptions::new().write(true))?.sync_data(),
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&mut self, file: u32) -> io::Result<()> {
        self.reader = None;
        fs::remove_file(path(&self.path, file))
    }

    fn rename(&mut self, file: u32, name: &str) -> io::Result<()> {
        fs::rename(path(&self.path, file), self.path.join(name))
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let kept = private().write(true).create(true).truncate(true).open(path);
        let mut kept = kept?;
        kept.write_all(bytes)?;
        kept.sync_all()
    }
}
