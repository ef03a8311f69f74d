//! A broker as a child process: started on a free port, measured from outside, ended when dropped.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PORT: &str = "{port}";
const START_WITHIN: Duration = Duration::from_secs(10);

/// How to start a broker.
pub struct Command {
    /// For the table.
    pub name: String,
    words: Vec<String>,
}

impl Command {
    pub fn new(program: &str, flags: &str) -> Command {
        let flags = flags.split_whitespace().map(str::to_string);
        let name = Path::new(program).file_name().unwrap_or_default();
        Command {
            name: name.to_string_lossy().into_owned(),
            words: [program.to_string()].into_iter().chain(flags).collect(),
        }
    }

    /// A command line of words with spaces between them; nothing is quoted.
    pub fn parse(line: &str) -> Result<Command, String> {
        let line = line.trim();
        match line.split_once(char::is_whitespace) {
            Some((program, flags)) => Ok(Command::new(program, flags)),
            None if line.is_empty() => Err("a command line is empty".to_string()),
            None => Ok(Command::new(line, "")),
        }
    }
}

/// A running broker.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    /// Its copies of files that have the port in them.
    files: Vec<PathBuf>,
}

impl Broker {
    /// Starts it and waits until it takes connections.
    pub fn start(command: &Command) -> Result<Broker, String> {
        let address = free_address().map_err(|error| format!("no free port: {error}"))?;
        let mut files = Vec::new();
        let port = address.port().to_string();
        let words: Vec<String> = command
            .words
            .iter()
            .map(|word| with_port(word, &port, &mut files))
            .collect();
        let spawned = process::Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = spawned.map_err(|error| format!("cannot start {}: {error}", words[0]))?;
        let mut broker = Broker {
            child,
            address,
            files,
        };
        broker.wait_until_ready(&words.join(" "))?;
        Ok(broker)
    }

    fn wait_until_ready(&mut self, line: &str) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START_WITHIN {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{line} ended at once, with {status}"));
            }
            sleep(Duration::from_millis(5));
        }
        Err(format!("{line} does not listen on {}", self.address))
    }

    /// Processor time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let nanoseconds = tasks.into_iter().flatten().flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next();
            first.and_then(|word| word.parse().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The word with the port in it, or the name of a copy of the file that it names.
fn with_port(word: &str, port: &str, files: &mut Vec<PathBuf>) -> String {
    let text = fs::read_to_string(word).unwrap_or_default();
    if !text.contains(PORT) {
        return word.replace(PORT, port);
    }
    let copy = std::env::temp_dir().join(format!("midge-load-{}-{port}", process::id()));
    // Without it the broker says that it cannot read its file.
    let _ = fs::write(&copy, text.replace(PORT, port));
    let name = copy.to_string_lossy().into_owned();
    files.push(copy);
    name
}
