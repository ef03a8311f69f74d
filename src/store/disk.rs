//! The few verbs that the store asks of a disk, and a directory that has them.
//!
//! A file is named by a number. What is written is not on the medium before `sync`, and that a
//! file exists not before `sync_directory`: the crash tests have a disk that takes this literally.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

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

/// Files that are held open for reading.
const READERS_MAX: usize = 8;
const EXTENSION: &str = ".log";

#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held, not read.
    _lock: Option<File>,
    writer: Option<(u32, File)>,
    /// The latest one last.
    readers: Vec<(u32, File)>,
}

impl Directory {
    /// Makes the directory if there is none, and has it alone.
    pub fn open(path: &Path) -> Result<Directory, StoreError> {
        let place = path.display().to_string();
        match Directory::locked(path) {
            Ok(Some(directory)) => Ok(directory),
            Ok(None) => Err(StoreError::Locked { place }),
            Err(error) => Err(StoreError::Failed {
                place,
                doing: "open the store",
                error,
            }),
        }
    }

    /// To read only, whoever has it.
    pub fn look(path: &Path) -> Directory {
        Directory {
            path: path.to_owned(),
            _lock: None,
            writer: None,
            readers: Vec::new(),
        }
    }

    fn locked(path: &Path) -> io::Result<Option<Directory>> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let lock = path.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(lock)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Directory {
                _lock: Some(lock),
                ..Directory::look(path)
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn file(&self, file: u32) -> PathBuf {
        self.path.join(format!("{file:08x}{EXTENSION}"))
    }

    fn reader(&mut self, file: u32) -> io::Result<&File> {
        let reader = match self.readers.iter().position(|(of, _)| *of == file) {
            Some(index) => self.readers.remove(index),
            None => (file, File::open(self.file(file))?),
        };
        if self.readers.len() == READERS_MAX {
            self.readers.remove(0);
        }
        self.readers.push(reader);
        Ok(&self.readers[self.readers.len() - 1].1)
    }

    fn writer(&mut self, file: u32) -> io::Result<&File> {
        let writer = match self.writer.take() {
            Some(writer) if writer.0 == file => writer,
            _ => (file, OpenOptions::new().write(true).open(self.file(file))?),
        };
        Ok(&self.writer.insert(writer).1)
    }

    fn forget(&mut self, file: u32) {
        self.readers.retain(|(of, _)| *of != file);
        self.writer.take_if(|(of, _)| *of == file);
    }
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
            let number = number.filter(|number| number.len() == 8);
            let Some(file) = number.and_then(|number| u32::from_str_radix(number, 16).ok()) else {
                continue;
            };
            files.push((file, entry.metadata()?.len()));
        }
        Ok(files)
    }

    fn create(&mut self, file: u32, length: u64) -> io::Result<()> {
        let path = self.file(file);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let taken = match fallocate(&created, FallocateFlags::empty(), 0, length) {
            // A file system that cannot: room is then taken by writing.
            Err(rustix::io::Errno::OPNOTSUPP) => {
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
        let reader = self.reader(file)?;
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
        self.writer(file)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: u32) -> io::Result<()> {
        match &self.writer {
            Some((of, writer)) if *of == file => writer.sync_data(),
            // The writer stays open: it is the one that is told of what failed since.
            _ => OpenOptions::new()
                .write(true)
                .open(self.file(file))?
                .sync_data(),
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&mut self, file: u32) -> io::Result<()> {
        self.forget(file);
        fs::remove_file(self.file(file))
    }

    fn rename(&mut self, file: u32, name: &str) -> io::Result<()> {
        self.forget(file);
        fs::rename(self.file(file), self.path.join(name))
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        fs::write(&path, bytes)?;
        File::open(&path)?.sync_all()
    }
}
