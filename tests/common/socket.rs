//! The real program as a child process, and small blocking clients over real sockets: for what the
//! virtual world of `common` cannot show. Nothing here waits without a deadline.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{
    self, Connect, Packet, Publish, QoS, ReasonCode, SubscriptionOptions, Version,
};

use crate::common::{Received, ack, connect, publish, publish_qos, subscribe};

/// How long anything may take that is bound to happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Looks again and again until there is something to see.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback port that nobody listens on, below those that the system gives to clients.
pub fn free_port() -> u16 {
    loop {
        let next = std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (next % 20_000) as u16;
        let taken = |ip| TcpListener::bind(SocketAddr::new(ip, port)).err();
        let in_use = |ip| taken(ip).is_some_and(|error| error.kind() == ErrorKind::AddrInUse);
        if !in_use(Ipv4Addr::UNSPECIFIED.into()) && !in_use(Ipv6Addr::UNSPECIFIED.into()) {
            return port;
        }
    }
}

/// What a socket is told next, whatever signals come meanwhile.
pub fn datagram(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 1_000];
    loop {
        match socket.recv(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => return String::from_utf8(bytes[..length.unwrap()].to_vec()).unwrap(),
        }
    }
}

/// A path in the system's place for temporary files that is nobody else's.
pub fn temporary(name: &str) -> PathBuf {
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("midge-{}-{unique}-{name}", std::process::id()))
}

/// Sends a signal, as `TERM`, with the system's `kill`.
pub fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    let status = kill.args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill(1) is there").success());
}

// ---- the program --------------------------------------------------------------------------------

/// A running broker. Killed where the test does not end it.
pub struct Midge {
    pub port: u16,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Exit {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Midge {
    /// Serves on a free port of this machine, in addition to what `flags` say.
    pub fn start(flags: &[&str]) -> Midge {
        let port = free_port();
        let listen = ["-p", &port.to_string()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        Midge::command(command.args(listen).args(flags)).on_port(port)
    }

    /// With these flags and no other; whether it serves is not known.
    pub fn spawn(flags: &[&str]) -> Midge {
        Midge::command(Command::new(env!("CARGO_BIN_EXE_midge")).args(flags))
    }

    pub fn command(command: &mut Command) -> Midge {
        Midge::with_stdin(command, Stdio::null())
    }

    pub fn with_stdin(command: &mut Command, stdin: impl Into<Stdio>) -> Midge {
        let command = command.stdin(stdin);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        Midge {
            port: 0,
            child,
            stdout,
            stderr,
        }
    }

    /// Waits until it serves there.
    pub fn on_port(mut self, port: u16) -> Midge {
        self.port = port;
        until("a broker that listens", || {
            assert!(self.is_running(), "it has ended: {:?}", self.stderr.rest());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        self
    }

    /// A client with a clean session, MQTT 5.
    pub fn client(&self, id: &str) -> Client {
        self.connect(connect(Version::V5, id))
    }

    /// A client that is accepted.
    pub fn connect(&self, connect: Connect) -> Client {
        let (client, connack) = self.try_connect(connect);
        assert_eq!(connack.connack().reason, ReasonCode::Success);
        client
    }

    /// A client and the answer to its CONNECT.
    pub fn try_connect(&self, connect: Connect) -> (Client, Received) {
        let mut client = self.open(connect.version);
        client.send(&Packet::Connect(connect));
        let connack = client.read();
        (client, connack)
    }

    /// A connection that has said nothing yet.
    pub fn open(&self, version: Version) -> Client {
        Client::open(self.port, version)
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// The next line of its log that has `part` in it.
    pub fn logs(&self, part: &str) -> String {
        self.stderr.find(part)
    }

    /// The next line of its standard output that has `part` in it.
    pub fn prints(&self, part: &str) -> String {
        self.stdout.find(part)
    }

    /// Stops it and waits for its end.
    pub fn stop(self) -> Exit {
        self.signal("TERM");
        self.exit()
    }

    /// Waits for its end.
    pub fn exit(mut self) -> Exit {
        let exited = |child: &mut Child| child.try_wait().expect("it is our child");
        let status = until("the program's end", || exited(&mut self.child));
        Exit {
            status: status.code(),
            stdout: self.stdout.rest(),
            stderr: self.stderr.rest(),
        }
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS` (in kB).
    pub fn figure(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name));
        let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        figure.unwrap_or_else(|| panic!("{name} in {status}"))
    }

    /// Hundredths of a second of processor time that it has used.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // After the name, which is in parentheses: fields 14 and 15 of proc(5).
        let fields = stat.rsplit(')').next().expect("a name in parentheses");
        let field = |index| fields.split_whitespace().nth(index)?.parse::<u64>().ok();
        let (user, system) = (field(11), field(12));
        user.zip(system)
            .map(|(user, system)| user + system)
            .expect("two numbers")
    }

    /// Whether a signal has stopped it for now.
    pub fn is_stopped(&self) -> bool {
        let status = self.proc("status");
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("State:\tT"))
    }

    /// How many entries there are in a directory of `/proc/PID`.
    pub fn count(&self, directory: &str) -> usize {
        let path = format!("/proc/{}/{directory}", self.pid());
        fs::read_dir(path).expect("it runs").count()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("it runs")
    }
}

impl Drop for Midge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a pipe as they come, read by a thread so that the pipe is never full.
struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Lines(receiver)
    }

    fn find(&self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            match self
                .0
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => others.push(line),
                Err(_) => panic!("no line with {part:?}, but {others:#?}"),
            }
        }
    }

    /// All lines up to the end of the program.
    fn rest(&self) -> String {
        let next = || self.0.recv_timeout(PATIENCE).ok();
        std::iter::from_fn(next).map(|line| line + "\n").collect()
    }
}

/// Runs the program with these flags to its end.
pub fn run(flags: &[&str]) -> Exit {
    Midge::spawn(flags).exit()
}

// ---- a client -----------------------------------------------------------------------------------

/// A client's end of a connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    version: Version,
    /// Received and not read.
    inbox: Vec<u8>,
}

impl Client {
    pub fn open(port: u16, version: Version) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("it is connected");
        Client::over(stream, version)
    }

    /// No more will be sent.
    pub fn shutdown(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("it is connected");
    }
}

impl<S: Read + Write> Client<S> {
    /// On a connection that is there.
    pub fn over(stream: S, version: Version) -> Client<S> {
        Client {
            stream,
            version,
            inbox: Vec::new(),
        }
    }

    pub fn send(&mut self, packet: &Packet) {
        self.send_bytes(&encoded(packet, self.version));
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker takes it");
    }

    /// The next packet; `None` at the end of the connection.
    pub fn try_read(&mut self) -> Option<Received> {
        let version = self.version;
        let mut buffer = [0; 64 << 10];
        loop {
            let decoded = packet::decode(&self.inbox, version, usize::MAX);
            if let Some((_, length)) = decoded.expect("the broker sends well-formed packets") {
                let bytes = self.inbox.drain(..length).collect();
                return Some(Received { bytes, version });
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.inbox.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came: {error}"),
            }
        }
        assert!(self.inbox.is_empty(), "the connection ends within a packet");
        None
    }

    pub fn read(&mut self) -> Received {
        self.try_read().expect("the connection is open")
    }

    pub fn expect(&mut self, expected: &Packet) {
        assert_eq!(&self.read().packet(), expected);
    }

    pub fn expect_closed(&mut self) {
        if let Some(received) = self.try_read() {
            panic!("instead of the end: {:?}", received.packet());
        }
    }

    /// A DISCONNECT with that reason, then the end.
    pub fn expect_disconnect(&mut self, reason: ReasonCode) {
        match self.read().packet() {
            Packet::Disconnect(disconnect) => assert_eq!(disconnect.reason, reason),
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
        self.expect_closed();
    }

    /// All that the broker had to say is read when this returns; nothing but that it is alive.
    pub fn ping(&mut self) {
        self.send(&Packet::PingReq);
        self.expect(&Packet::PingResp);
    }

    /// Packets that came up to now.
    pub fn so_far(&mut self) -> Vec<Received> {
        self.send(&Packet::PingReq);
        let next = || Some(self.read()).filter(|next| next.packet() != Packet::PingResp);
        std::iter::from_fn(next).collect()
    }

    /// Payloads of the PUBLISH packets that came up to now.
    pub fn payloads(&mut self) -> Vec<String> {
        let packets = self.so_far();
        let publishes = packets
            .iter()
            .filter_map(|received| match received.packet() {
                Packet::Publish(publish) => Some(publish.payload),
                _ => None,
            });
        publishes
            .map(|payload| String::from_utf8_lossy(payload).into_owned())
            .collect()
    }

    /// Subscribes; returns the answer.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.send(&subscribe(1, &[(filter, SubscriptionOptions::new(qos))]));
        self.read().reasons()[0]
    }

    /// Publishes with QoS 0 and waits until the broker has handled it.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.publish_packet(publish(topic, payload));
    }

    /// Publishes with QoS 1 and waits until the broker has handled it.
    pub fn publish_qos1(&mut self, topic: &str, payload: &str) {
        self.publish_packet(publish_qos(QoS::AtLeastOnce, 7, topic, payload));
    }

    /// Waits until the broker has handled it; returns the reason code of its acknowledgement.
    pub fn publish_packet(&mut self, publish: Publish) -> ReasonCode {
        self.send(&Packet::Publish(publish));
        match publish.qos {
            QoS::AtMostOnce => self.ping(),
            QoS::AtLeastOnce => return self.read().ack().1,
            QoS::ExactlyOnce => {
                let id = publish.packet_id.expect("QoS 2 has one");
                let reason = self.read().ack().1;
                self.send(&Packet::PubRel(ack(id)));
                self.read();
                return reason;
            }
        }
        ReasonCode::Success
    }

    /// Takes leave and waits for the end.
    pub fn disconnect(mut self) {
        self.send(&crate::common::disconnect());
        self.expect_closed();
    }
}

pub fn encoded(packet: &Packet, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}
