//! A broker as a child process: started on a free port and a core of its own, measured from
//! outside, ended when dropped.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PORT: &str = "{port}";
const START_WITHIN: Duration = Duration::from_secs(10);
/// Until memory that was let go has gone.
const SETTLE: Duration = Duration::from_millis(300);

/// How to start a broker.
#[derive(Clone)]
pub struct Command {
    words: Vec<String>,
    pub protocol: Protocol,
}

/// What it speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Mqtt,
    /// That of the null relay.
    Raw,
}

impl Command {
    /// A command line of words with spaces between them; nothing is quoted.
    pub fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        match words.is_empty() {
            true => Err("a command line is empty".to_string()),
            false => Ok(Command {
                words,
                protocol: Protocol::Mqtt,
            }),
        }
    }

    pub fn new(program: &Path, flags: &str) -> Command {
        let flags = flags.split_whitespace().map(str::to_string);
        let program = program.to_string_lossy().into_owned();
        Command {
            words: [program].into_iter().chain(flags).collect(),
            protocol: Protocol::Mqtt,
        }
    }

    pub fn speaking(self, protocol: Protocol) -> Command {
        Command { protocol, ..self }
    }
}

/// A running broker.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// Its copies of files that have the port in them.
    files: Vec<PathBuf>,
}

impl Broker {
    /// Starts it and waits until it takes connections.
    pub fn start(command: &Command) -> Result<Broker, String> {
        let address = free_address().map_err(|error| format!("no free port: {error}"))?;
        let mut files = Vec::new();
        let port = address.port().to_string();
        let words = command.words.iter();
        let words: Vec<String> = broker_core()
            .into_iter()
            .flat_map(|core| ["taskset".to_string(), "-c".to_string(), core.to_string()])
            .chain(words.map(|word| with_port(word, &port, &mut files)))
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
            protocol: command.protocol,
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
            sleep(Duration::from_millis(1));
        }
        Err(format!("{line} does not listen on {}", self.address))
    }

    /// Processor time of all its threads so far.
    fn cpu(&self) -> Duration {
        cpu(&self.pid())
    }

    /// How often its threads have left the processor so far, that is, been woken.
    pub fn switches(&self) -> u64 {
        let count = |status: String| {
            let counts = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
            counts
                .iter()
                .filter_map(|name| number(&status, name))
                .sum::<u64>()
        };
        tasks(&self.pid(), "status").map(count).sum()
    }

    /// As in `/proc`.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Memory, once it has settled.
    pub fn settled(&self) -> Memory {
        sleep(SETTLE);
        self.memory()
    }

    pub fn memory(&self) -> Memory {
        let of = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid()));
            number(&text.unwrap_or_default(), name).unwrap_or(0) as f64 * 1024.0
        };
        Memory {
            resident: of("status", "VmRSS:"),
            proportional: of("smaps_rollup", "Pss:"),
        }
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

/// Bytes: all that is mapped and present, and the same with a shared page divided among its users.
#[derive(Clone, Copy)]
pub struct Memory {
    pub resident: f64,
    pub proportional: f64,
}

/// What the broker and this program have taken since.
pub struct Meter {
    start: Instant,
    broker: Duration,
    own: Duration,
}

impl Meter {
    pub fn start(broker: &Broker) -> Meter {
        Meter {
            start: Instant::now(),
            broker: broker.cpu(),
            own: cpu("self"),
        }
    }

    pub fn read(&self, broker: &Broker) -> Cost {
        Cost {
            wall: self.start.elapsed().as_secs_f64(),
            broker: (broker.cpu() - self.broker).as_secs_f64(),
            own: (cpu("self") - self.own).as_secs_f64(),
        }
    }
}

/// Seconds: on the wall, and of processor time.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub wall: f64,
    pub broker: f64,
    pub own: f64,
}

impl Cost {
    /// Microseconds of the broker for each of `count`.
    pub fn micros_each(&self, count: u64) -> f64 {
        self.broker * 1e6 / count as f64
    }
}

/// Leaves the broker a core of its own. Without a second core, or `taskset`, all share what there
/// is, and the answer is false.
pub fn leave_the_brokers_core() -> bool {
    let Some(_) = broker_core() else { return false };
    let line = ["-p", "-c", "0", &process::id().to_string()].map(str::to_string);
    let done = process::Command::new("taskset")
        .args(line)
        .stdout(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

/// The last one: interrupts tend to come to the first, where the generator is.
fn broker_core() -> Option<usize> {
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let is_there = Path::new("/usr/bin/taskset").exists();
    (cores > 1 && is_there).then(|| cores - 1)
}

/// How many files a process may have open, its sockets among them.
pub fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    number(&limits, "Max open files").map_or(usize::MAX, |most| most as usize)
}

/// Processor time of a process, of `self` too.
pub fn cpu(process: &str) -> Duration {
    let nanoseconds = tasks(process, "schedstat").map(|text| {
        let first = text.split_whitespace().next();
        first.and_then(|word| word.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// This file of every thread.
fn tasks(process: &str, file: &str) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let read = move |task: fs::DirEntry| fs::read_to_string(task.path().join(file)).ok();
    let texts: Vec<String> = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(read)
        .collect();
    texts.into_iter()
}

/// The number behind `name` at the beginning of a line.
pub fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The word with the port in it, or the name of a copy of the file that it names.
fn with_port(word: &str, port: &str, files: &mut Vec<PathBuf>) -> String {
    let is_text = word.ends_with(".conf");
    let text = if is_text {
        fs::read_to_string(word).unwrap_or_default()
    } else {
        String::new()
    };
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
