//! What midge can still do once it serves, and what whoever takes it over can not. That all else
//! works in the sandbox is told by every other test of the program: they run in it.
//!
//! What a kernel does not have is not tested, and said. Whether it has it, it is asked by itself.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use midge::packet::{Packet, Publish, QoS, ReasonCode};
use midge::sandbox::{self, Needs, Walls};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use common::{ack, publish_qos};
use socket::{Midge, free_port, temporary, until};

/// A directory that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = temporary("sandbox");
        fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Does that in a sandbox, which is a thread's and ends with it.
fn inside<T: Send + 'static>(
    needs: Needs,
    what: impl FnOnce() -> T + Send + 'static,
) -> (Walls, T) {
    let thread = thread::spawn(move || (sandbox::enter(&needs), what()));
    thread.join().expect("nothing in there panics")
}

/// Whether this machine has Landlock, from that version on.
fn has_landlock(version: ABI) -> bool {
    let probe = thread::spawn(move || {
        let mut rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if version >= ABI::V4 {
            rules = rules.handle_access(AccessNet::from_all(version)).ok()?;
        }
        let rules = rules.handle_access(AccessFs::from_all(version)).ok()?;
        rules.create().ok()?.restrict_self().ok()
    });
    let has = probe.join().unwrap().is_some();
    if !has {
        println!("not tested: there is no Landlock {version:?} here");
    }
    has
}

/// Whether there are filters of system calls for this machine.
fn has_seccomp() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let has = cfg!(not(target_arch = "arm")) && status.contains("Seccomp:");
    if !has {
        println!("not tested: there is no seccomp here");
    }
    has
}

/// As a kernel answers that does not have those calls: by a filter around it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn where_there_is_no<T: Send + 'static>(
    calls: &[libc::c_long],
    what: impl FnOnce() -> T + Send + 'static,
) -> T {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, here).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let thread = thread::spawn(move || {
        seccompiler::apply_filter(&filter).unwrap();
        what()
    });
    thread.join().expect("nothing in there panics")
}

fn kind<T>(result: &io::Result<T>) -> Option<ErrorKind> {
    result.as_ref().err().map(io::Error::kind)
}

fn append(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .append(true)
        .open(path)?
        .write_all(b"x")
}

// ---- who is inside ------------------------------------------------------------------------------

#[test]
fn whoever_is_inside_opens_runs_and_writes_nothing_else() {
    let scratch = Scratch::new();
    let (kept, other) = (scratch.directory("kept"), scratch.directory("other"));
    fs::write(other.join("there"), "").unwrap();
    let mut needs = Needs::default();
    needs.keep(&kept);
    let (walls, (opened, written, moved, program)) = inside(needs, move || {
        (
            File::open("/etc/passwd").map(drop),
            [
                fs::write(other.join("new"), ""),
                append(&other.join("there")),
            ],
            fs::rename(other.join("there"), kept.join("there")),
            Command::new("/bin/true").spawn().map(drop),
        )
    });
    if has_landlock(ABI::V3) {
        assert!(walls.files.is_ok(), "{walls:?}");
        assert_eq!(kind(&opened), Some(ErrorKind::PermissionDenied));
        for written in written {
            assert_eq!(kind(&written), Some(ErrorKind::PermissionDenied));
        }
        assert!(moved.is_err(), "out of the rest of the world");
    }
    if has_seccomp() {
        assert!(walls.calls.is_ok(), "{walls:?}");
        assert_eq!(kind(&program), Some(ErrorKind::Unsupported), "ENOSYS");
    }
}

#[test]
fn whoever_is_inside_reaches_no_network_and_no_service() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = scratch.0.join("service");
    let _service = UnixListener::bind(&service).unwrap();
    let (walls, results) = inside(Needs::default(), move || {
        [
            TcpStream::connect(address).map(drop),
            TcpListener::bind("127.0.0.1:0").map(drop),
            UdpSocket::bind("127.0.0.1:0").map(drop),
            UnixStream::connect(service).map(drop),
        ]
    });
    if has_seccomp() {
        assert!(walls.calls.is_ok(), "{walls:?}");
        for result in results {
            assert_eq!(kind(&result), Some(ErrorKind::Unsupported), "{result:?}");
        }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn landlock_by_itself_keeps_tcp_and_other_programs_from_whoever_is_inside() {
    if !has_seccomp() || !has_landlock(ABI::V6) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let parent = rustix::process::getppid().unwrap();
    let (walls, connected, signalled) = where_there_is_no(&[libc::SYS_seccomp], move || {
        let walls = sandbox::enter(&Needs::default());
        (
            walls,
            TcpStream::connect(address).map(drop),
            rustix::process::test_kill_process(parent),
        )
    });
    assert_eq!(walls.files, Ok(6));
    assert!(walls.calls.is_err());
    assert_eq!(kind(&connected), Some(ErrorKind::PermissionDenied));
    assert_eq!(signalled, Err(rustix::io::Errno::PERM));
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn whoever_is_inside_signals_nobody_and_makes_nothing_that_can_be_run() {
    let parent = rustix::process::getppid().unwrap();
    let (walls, (signalled, memory)) = inside(Needs::default(), move || {
        let map = |rights| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: new memory, at an address that the kernel chooses, which nobody uses.
            let memory = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
            memory != libc::MAP_FAILED
        };
        let data = libc::PROT_READ | libc::PROT_WRITE;
        (
            rustix::process::test_kill_process(parent),
            [data, data | libc::PROT_EXEC, libc::PROT_EXEC].map(map),
        )
    });
    if has_seccomp() {
        assert!(walls.calls.is_ok(), "{walls:?}");
        assert_eq!(signalled, Err(rustix::io::Errno::NOSYS));
        assert_eq!(memory, [true, false, false]);
    }
}

#[test]
fn what_is_needed_can_be_done_and_with_each_file_no_more_than_that() {
    let scratch = Scratch::new();
    let [kept, read, logs, run] =
        ["kept", "read", "logs", "run"].map(|name| scratch.directory(name));
    let (config, log, pid) = (read.join("config"), logs.join("log"), run.join("pid"));
    for file in [&config, &log, &pid, &read.join("beside")] {
        fs::write(file, "x").unwrap();
    }
    let mut needs = Needs::default();
    needs.keep(&kept);
    needs.read(&config);
    needs.write(&log);
    needs.remove(&pid);
    let (walls, (done, denied)) = inside(needs, move || {
        let done = [
            ("keep", fs::write(kept.join("new"), "x")),
            ("replace", fs::write(kept.join("new"), "y")),
            ("rename", fs::rename(kept.join("new"), kept.join("old"))),
            (
                "sync the directory",
                File::open(&kept).and_then(|kept| kept.sync_all()),
            ),
            ("remove", fs::remove_file(kept.join("old"))),
            ("read", fs::read(&config).map(drop)),
            ("list", fs::read_dir(&read).map(drop)),
            ("log", append(&log)),
            ("log anew", append(&logs.join("log.new"))),
            ("remove the pid file", fs::remove_file(&pid)),
            ("chance", File::open("/dev/urandom").map(drop)),
            ("reserve", File::open("/dev/null").map(drop)),
        ];
        let denied = [
            ("write the configuration", append(&config)),
            ("remove the configuration", fs::remove_file(&config)),
            ("read the log", fs::read(&log).map(drop)),
            ("remove the log", fs::remove_file(&log)),
            ("make a pid file", append(&run.join("new"))),
            ("read of itself", fs::read("/proc/self/environ").map(drop)),
            ("make a directory", fs::create_dir(kept.join("new"))),
            ("make a link", symlink("/etc/passwd", kept.join("link"))),
        ];
        (done, denied)
    });
    for (what, result) in done {
        assert!(result.is_ok(), "{what}: {result:?}");
    }
    if has_landlock(ABI::V3) {
        assert!(walls.files.is_ok(), "{walls:?}");
        for (what, result) in denied {
            assert!(result.is_err(), "{what} should not be possible");
        }
    }
}

#[test]
fn what_takes_the_place_of_a_file_is_read_through_links_too() {
    let scratch = Scratch::new();
    let (mounted, first) = (
        scratch.directory("mounted"),
        scratch.directory("mounted/..1"),
    );
    // As Kubernetes and others swap a configuration: file -> ..data/file, ..data -> ..1
    fs::write(first.join("acl"), "1").unwrap();
    symlink("..1", mounted.join("..data")).unwrap();
    symlink("..data/acl", mounted.join("acl")).unwrap();
    let mut needs = Needs::default();
    needs.read(mounted.join("acl"));
    let (go, went) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let reader = thread::spawn({
        let mounted = mounted.clone();
        move || {
            sandbox::enter(&needs);
            ready.send(()).unwrap();
            went.recv().unwrap();
            fs::read_to_string(mounted.join("acl"))
        }
    });
    is_ready.recv().unwrap();
    let second = scratch.directory("mounted/..2");
    fs::write(second.join("acl"), "2").unwrap();
    symlink("..2", mounted.join("..new")).unwrap();
    fs::rename(mounted.join("..new"), mounted.join("..data")).unwrap();
    fs::remove_dir_all(first).unwrap();
    go.send(()).unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), "2");
}

#[test]
fn the_log_of_the_system_and_its_service_manager_are_reached() {
    let scratch = Scratch::new();
    let path = scratch.0.join("log");
    let server = UnixDatagram::bind(&path).unwrap();
    let (_, sent) = inside(Needs::default(), move || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&path)?;
        socket.send(b"READY=1")
    });
    sent.unwrap();
    assert_eq!(server.recv(&mut [0; 64]).unwrap(), 7);
}

// ---- the program --------------------------------------------------------------------------------

#[test]
fn the_program_is_in_it_once_it_serves() {
    let broker = Midge::start(&[]);
    broker.logs("Sandboxed from now on");
    assert_eq!(broker.figure("Threads:"), 1, "it is for one thread");
    assert_eq!(broker.figure("NoNewPrivs:"), 1);
    if has_seccomp() {
        assert_eq!(broker.figure("Seccomp:"), 2);
    }
    broker.client("a").ping();
    assert_eq!(broker.stop().status, Some(0));
}

#[test]
fn what_the_configuration_names_can_be_reached_and_nothing_else() {
    let scratch = Scratch::new();
    let [etc, conf, secret, rights, logs, run, kept] =
        ["etc", "conf.d", "secret", "rights", "logs", "run", "kept"]
            .map(|name| scratch.directory(name));
    let (users, acl) = (secret.join("users"), rights.join("acl"));
    fs::write(&users, "").unwrap();
    fs::write(&acl, "").unwrap();
    let (main, port) = (etc.join("main.conf"), free_port());
    let show = |path: &Path| path.display().to_string();
    let text = [
        format!("include_dir {}", show(&conf)),
        format!("log_dest file {}", show(&logs.join("log"))),
        "log_dest stderr".to_string(),
        format!("pid_file {}", show(&run.join("pid"))),
        format!("persistence true\npersistence_location {}/", show(&kept)),
        "user root".to_string(),
    ];
    fs::write(&main, text.join("\n")).unwrap();
    let text = format!(
        "listener {port}\nallow_anonymous true\npassword_file {}\nacl_file {}\n",
        show(&users),
        show(&acl)
    );
    fs::write(conf.join("listener.conf"), text).unwrap();
    let broker = Midge::spawn(&["-c", &show(&main)]).on_port(port);
    let read = [&conf, &etc, &rights, &secret].map(|path| show(path));
    let expected = [
        format!("read what is in {}", read.join(" and ")),
        format!("write what is in {}", show(&logs)),
        format!("remove what is in {}", show(&run)),
        format!("keep what is in {}.", show(&kept)),
    ];
    if has_landlock(ABI::V1) {
        let line = broker.logs("From now on it can");
        assert!(line.ends_with(&expected.join(", ")), "{line}");
    }
    broker.client("a").ping();
    assert_eq!(broker.stop().status, Some(0));
}

/// Seen from outside: SIGHUP makes it read a file again, whose name leads elsewhere now.
#[test]
fn the_program_reads_no_file_that_it_did_not_need_at_its_start() {
    if !has_landlock(ABI::V1) {
        return;
    }
    for (sandbox, expected) in [
        (
            "true",
            "Permission denied (os error 13); the sandbox reaches only",
        ),
        ("false", "what was read again is good"),
    ] {
        let scratch = Scratch::new();
        let [etc, here, there] = ["etc", "here", "there"].map(|name| scratch.directory(name));
        for directory in [&here, &there] {
            fs::write(directory.join("acl"), "topic a\n").unwrap();
        }
        let acl = etc.join("acl");
        symlink(here.join("acl"), &acl).unwrap();
        let flags = ["--acl-file", acl.to_str().unwrap(), "--sandbox", sandbox];
        let broker = Midge::start(&flags);
        broker.client("a").ping();
        broker.signal("HUP");
        broker.logs("what was read again is good");
        fs::remove_file(&acl).unwrap();
        symlink(there.join("acl"), &acl).unwrap();
        broker.signal("HUP");
        broker.logs(expected);
        broker.client("b").ping();
    }
}

/// As Debian does it with sites: what is included are links to where the files are.
#[test]
fn what_is_included_by_a_link_is_read_again() {
    let scratch = Scratch::new();
    let [etc, included, there] = ["etc", "conf.d", "there"].map(|name| scratch.directory(name));
    let (conf, more, port) = (etc.join("midge.conf"), there.join("more"), free_port());
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\ninclude_dir {}\n",
        included.display()
    );
    fs::write(&conf, text).unwrap();
    fs::write(&more, "max_qos 1\n").unwrap();
    symlink(&more, included.join("more.conf")).unwrap();
    let broker = Midge::spawn(&["-c", conf.to_str().unwrap()]).on_port(port);
    broker.client("a").ping();
    broker.signal("HUP");
    broker.logs("what was read again is good");
}

/// Whoever names another place for the log or for the users reads what keeps midge from it.
#[test]
#[cfg(feature = "passwords")]
fn what_sighup_cannot_reach_is_said_to_be_beyond_the_sandbox() {
    if !has_landlock(ABI::V1) {
        return;
    }
    let scratch = Scratch::new();
    let [etc, there] = ["etc", "there"].map(|name| scratch.directory(name));
    let (conf, port) = (etc.join("midge.conf"), free_port());
    let (log, users) = (there.join("log"), there.join("users"));
    fs::write(&users, "").unwrap();
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
    fs::write(&conf, &text).unwrap();
    let broker = Midge::spawn(&["-c", conf.to_str().unwrap()]).on_port(port);
    broker.client("a").ping();
    let (log, users) = (log.display(), users.display());
    let more = format!("log_dest file {log}\npassword_file {users}\n");
    fs::write(&conf, text + &more).unwrap();
    broker.signal("HUP");
    for what in [
        format!("SIGHUP: {users}: "),
        format!("SIGHUP: {}:4: log_dest file {log}: ", conf.display()),
    ] {
        let line = broker.logs(&what);
        assert!(line.contains("the sandbox reaches only"), "{line}");
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn on_a_kernel_without_landlock_and_seccomp_it_serves_and_says_so() {
    if !has_seccomp() {
        return;
    }
    let new_calls = [libc::SYS_landlock_create_ruleset, libc::SYS_seccomp];
    where_there_is_no(&new_calls, || {
        let broker = Midge::start(&[]);
        broker.logs("Sandboxed from now on: no new privileges (--sandbox)");
        broker.logs("Files are not confined: there is no Landlock here");
        broker.logs("System calls are not confined: ");
        broker.client("a").ping();
        assert_eq!(broker.figure("NoNewPrivs:"), 1);
        assert_eq!(broker.stop().status, Some(0));
    });
}

#[test]
fn a_store_grows_and_wins_room_back_and_midge_ends_in_good_order() {
    let scratch = Scratch::new();
    let (kept, pid) = (scratch.0.join("kept"), scratch.0.join("pid"));
    let location = kept.to_str().unwrap();
    let flags = [
        "--persistence",
        "true",
        "--persistence-location",
        location,
        "--pid-file",
        pid.to_str().unwrap(),
    ];
    let broker = Midge::start(&flags);
    broker.logs("Sandboxed from now on");
    let files = || -> Vec<String> {
        let names = fs::read_dir(&kept)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let at_start = files();
    let mut client = broker.client("a");
    client.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = broker.client("b");
    // What is retained is replaced again and again: nothing but the last one still counts.
    for id in 1..=60 {
        let payload = id.to_string().repeat(250_000);
        let publish = Publish {
            retain: true,
            ..publish_qos(QoS::AtLeastOnce, id, "t", &payload)
        };
        assert_eq!(publisher.publish_packet(publish), ReasonCode::Success);
        client.read();
        client.send(&Packet::PubAck(ack(id)));
    }
    broker.signal("USR1");
    until("other files than at the start", || {
        (files() != at_start).then_some(())
    });
    assert!(pid.exists());
    let exit = broker.stop();
    assert_eq!(exit.status, Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains("The disk"), "{}", exit.stderr);
    assert!(!pid.exists(), "it is removed at the end");
    let again = Midge::start(&flags);
    again.logs("1 retained messages");
}
