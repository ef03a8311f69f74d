//! Password files with the real program: Mosquitto's and its own, reading again, `midge passwd`.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use midge::packet::{Connect, ReasonCode, Version};

use common::connect;
use socket::{Exit, Midge, free_port, run, temporary, until};

/// A file that is gone when the test is.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        let file = File(temporary("passwords"));
        fs::write(&file.0, text).unwrap();
        file.mode(0o600);
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(&self.0, Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn login<'a>(user: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(user),
        password: Some(password.as_bytes()),
        ..connect(Version::V5, user)
    }
}

fn answer(broker: &Midge, user: &str, password: &str) -> ReasonCode {
    let (_, connack) = broker.try_connect(login(user, password));
    connack.connack().reason
}

fn passwd(flags: &[&str]) -> Exit {
    run(&[&["passwd"], flags].concat())
}

/// Does what must succeed.
fn do_passwd(flags: &[&str]) -> String {
    let exit = passwd(flags);
    assert_eq!(exit.status, Some(0), "{flags:?}: {exit:?}");
    exit.stdout
}

fn with_input(flags: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
    let command = command.arg("passwd").args(flags).stdin(Stdio::piped());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn mosquitto(program: &str, flags: &[&str]) -> Output {
    let output = Command::new(program).args(flags).output();
    output.unwrap_or_else(|error| panic!("{program} (Debian: apt install mosquitto): {error}"))
}

// ---- who gets in --------------------------------------------------------------------------------

#[test]
fn mosquittos_clients_get_in_with_files_that_midge_wrote() {
    let file = File::new("");
    for (user, method) in [("old", "sha512"), ("new", "sha512-pbkdf2")] {
        do_passwd(&["-H", method, "-b", file.path(), user, "päss wörd"]);
    }
    let broker = Midge::start(&["--password-file", file.path()]);
    let port = broker.port.to_string();
    for user in ["old", "new"] {
        for (version, code) in [("mqttv31", 5), ("mqttv311", 5), ("mqttv5", 134)] {
            let publish = |password| {
                let flags = ["-p", &port, "-V", version, "-u", user, "-P", password];
                mosquitto(
                    "mosquitto_pub",
                    &[&flags[..], &["-t", "t", "-m", "x"]].concat(),
                )
            };
            assert!(publish("päss wörd").status.success());
            let refused = publish("päss");
            assert!(!refused.status.success());
            let said = String::from_utf8_lossy(&refused.stderr).to_lowercase();
            let expected = match code {
                5 => "not authorised",
                _ => "bad user name or password",
            };
            let numbered = refused.status.code() == Some(code);
            assert!(
                said.contains(expected) || numbered,
                "{version}: {refused:?}"
            );
        }
    }
}

#[test]
fn without_a_listener_clients_without_a_name_get_in_and_with_one_they_do_not() {
    let file = File::new("");
    do_passwd(&["-b", file.path(), "alice", "secret"]);
    let local = Midge::start(&["--password-file", file.path()]);
    local.client("anonymous").ping();
    assert_eq!(answer(&local, "alice", "secret"), ReasonCode::Success);

    let port = free_port();
    let listener = format!("{port} 127.0.0.1");
    let flags = ["--listener", &listener, "--password-file", file.path()];
    let open = Midge::spawn(&flags).on_port(port);
    let (_, connack) = open.try_connect(connect(Version::V5, "a"));
    assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    assert_eq!(answer(&open, "alice", "secret"), ReasonCode::Success);
    let wrong = answer(&open, "alice", "guess-me");
    assert_eq!(wrong, ReasonCode::BadUserNameOrPassword);
    // Who, from where, why, what would change it; and no password.
    let line = open.logs("the password of user alice is wrong");
    assert!(line.contains("Client alice [127.0.0.1:"), "{line}");
    assert!(line.contains("midge passwd FILE alice"), "{line}");
    let exit = open.stop();
    assert!(!exit.stderr.contains("guess-me") && !exit.stderr.contains("secret"));
}

#[test]
fn a_faulty_file_stops_the_start_and_a_check_finds_it() {
    let file = File::new("alice:secret-plain-text\nbob:$5$x\n");
    for flags in [
        &["--password-file", file.path()][..],
        &["--password-file", file.path(), "--test-config"],
    ] {
        let exit = run(&[flags, &["-p", &free_port().to_string()]].concat());
        assert_eq!(exit.status, Some(1), "{exit:?}");
        let said = exit.stdout + &exit.stderr;
        for part in [
            ":1: the password of alice is not hashed (`midge passwd -U FILE`",
            ":2: the password of bob is of a kind that midge does not know",
        ] {
            let expected = format!("{}{part}", file.path());
            assert!(said.contains(&expected), "{said}");
        }
        assert!(!said.contains("secret-plain-text"));
    }
    let exit = run(&["--password-file", "/nowhere/at-all"]);
    assert!(exit.stderr.contains("/nowhere/at-all: No such file"));
    let exit = run(&["--password-file", "/dev/zero"]);
    assert!(exit.stderr.contains("not a regular file"), "{exit:?}");
}

#[test]
fn a_file_that_everybody_can_read_is_warned_of() {
    let file = File::new("");
    file.mode(0o644);
    let broker = Midge::start(&["--password-file", file.path()]);
    let line = broker.logs("every user of this machine");
    assert!(
        line.contains(&format!("chmod o= {}", file.path())),
        "{line}"
    );
    file.mode(0o640);
    let exit = run(&["--password-file", file.path(), "--test-config"]);
    assert!(!exit.stdout.contains("chmod"), "{}", exit.stdout);
}

#[test]
fn hang_up_reads_the_file_again_and_a_faulty_one_changes_nothing() {
    let file = File::new("");
    do_passwd(&["-b", file.path(), "alice", "first"]);
    let broker = Midge::start(&["--password-file", file.path()]);
    broker.logs("has 1 user");
    let mut alice = broker.connect(login("alice", "first"));

    // Another password, and a new user: those who are connected stay, what was known is not.
    do_passwd(&["-b", file.path(), "alice", "second"]);
    do_passwd(&["-b", file.path(), "bob", "b"]);
    assert_eq!(
        answer(&broker, "bob", "b"),
        ReasonCode::BadUserNameOrPassword
    );
    broker.signal("HUP");
    broker.logs("SIGHUP: ");
    alice.ping();
    assert_eq!(answer(&broker, "bob", "b"), ReasonCode::Success);
    let old = answer(&broker, "alice", "first");
    assert_eq!(old, ReasonCode::BadUserNameOrPassword);
    assert_eq!(answer(&broker, "alice", "second"), ReasonCode::Success);

    let good = file.text();
    fs::write(&file.0, good.clone() + "carol:plain\n").unwrap();
    broker.signal("HUP");
    let line = broker.logs(":3: the password of carol is not hashed");
    assert!(line.contains(file.path()), "{line}");
    broker.logs("SIGHUP: nothing was changed");
    assert_eq!(answer(&broker, "bob", "b"), ReasonCode::Success);
    fs::remove_file(&file.0).unwrap();
    broker.signal("HUP");
    broker.logs("SIGHUP: nothing was changed");
    assert_eq!(answer(&broker, "bob", "b"), ReasonCode::Success);
}

// ---- midge passwd -------------------------------------------------------------------------------

#[test]
fn mosquitto_and_midge_read_each_others_files() {
    let theirs = File::new("");
    let user = |flags: &[&str]| {
        let output = mosquitto("mosquitto_passwd", flags);
        assert!(output.status.success(), "{output:?}");
    };
    user(&["-b", "-H", "sha512", theirs.path(), "six", "secret 6"]);
    user(&[
        "-b",
        "-H",
        "sha512-pbkdf2",
        theirs.path(),
        "seven",
        "secret 7",
    ]);
    do_passwd(&["-b", "-H", "sha512", theirs.path(), "own6", "secret o6"]);
    do_passwd(&["-b", "-I", "5000", theirs.path(), "own7", "secret o7"]);
    assert!(theirs.text().contains("own7:$7$5000$"));
    let users = [
        ("six", "secret 6"),
        ("seven", "secret 7"),
        ("own6", "secret o6"),
        ("own7", "secret o7"),
    ];

    let broker = Midge::start(&["--password-file", theirs.path()]);
    for (user, password) in users {
        assert_eq!(
            answer(&broker, user, password),
            ReasonCode::Success,
            "{user}"
        );
    }

    let port = free_port().to_string();
    let config = File::new(&format!(
        "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\nuser root\n",
        theirs.path()
    ));
    let mut other = Command::new("mosquitto");
    // Where Debian has it, which is not in the path of ordinary users.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let other = other
        .env("PATH", path)
        .args(["-c", config.path()])
        .stderr(Stdio::null());
    let mut other = other.spawn().expect("Debian: apt install mosquitto");
    let publish = |user: &str, password: &str| {
        let flags = [
            "-p", &port, "-u", user, "-P", password, "-t", "t", "-m", "x",
        ];
        mosquitto("mosquitto_pub", &flags).status.success()
    };
    until("mosquitto", || publish("six", "secret 6").then_some(()));
    for (user, password) in users {
        assert!(publish(user, password), "{user}");
        assert!(!publish(user, "wrong"), "{user}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn passwd_makes_changes_and_deletes() {
    let file = File::new("");
    fs::remove_file(&file.0).unwrap();
    let exit = passwd(&["-b", file.path(), "alice", "x"]);
    assert!(
        exit.stderr.contains("is not there (-c makes it)"),
        "{exit:?}"
    );
    let said = do_passwd(&["-c", "-b", file.path(), "alice", "x"]);
    assert_eq!(said, "alice was added.\n");
    let mode = fs::metadata(&file.0).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let first = file.text();
    let said = do_passwd(&["-b", file.path(), "alice", "x"]);
    assert_eq!(said, "alice has a new password.\n");
    assert_ne!(file.text(), first, "another salt");
    do_passwd(&["-b", file.path(), "bob", "y"]);
    file.mode(0o640);
    assert_eq!(
        do_passwd(&["-D", file.path(), "alice"]),
        "alice was deleted.\n"
    );
    assert!(file.text().starts_with("bob:$7$1000$") && file.text().lines().count() == 1);
    let mode = fs::metadata(&file.0).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640, "an old file keeps its mode");
    let exit = passwd(&["-D", file.path(), "alice"]);
    assert!(exit.stderr.contains("there is no user alice"), "{exit:?}");
    assert_eq!(exit.status, Some(1));
    // Made anew, on standard output.
    assert!(do_passwd(&["-c", "-b", "-", "u", "p"]).starts_with("u:$7$1000$"));
}

#[test]
fn passwd_reads_the_password_from_a_pipe() {
    let file = File::new("");
    for input in ["from a pipe", "from a pipe\n", "from a pipe\nfrom a pipe\n"] {
        let output = with_input(&[file.path(), "alice"], input);
        assert!(output.status.success(), "{output:?}");
        let broker = Midge::start(&["--password-file", file.path()]);
        assert_eq!(answer(&broker, "alice", "from a pipe"), ReasonCode::Success);
    }
    let before = file.text();
    for (input, why) in [
        ("", "no password on standard input"),
        ("\n", "an empty password is none"),
        ("one\ntwo\n", "the two passwords differ"),
    ] {
        let output = with_input(&[file.path(), "alice"], input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(file.text(), before);
}

#[test]
fn passwd_hashes_what_is_plain_and_leaves_the_rest() {
    let file = File::new("# ours\nalice:se:cret\nbob:$6$x\n\ncarol: blank \n");
    let said = do_passwd(&["-U", file.path()]);
    assert!(said.starts_with("2 passwords were hashed.\n"), "{said}");
    // It tells what else midge would not read.
    assert!(
        said.contains(":3: the password of bob must look like"),
        "{said}"
    );
    assert!(file.text().starts_with("# ours\nalice:$7$1000$"));
    do_passwd(&["-D", file.path(), "bob"]);
    let broker = Midge::start(&["--password-file", file.path()]);
    assert_eq!(answer(&broker, "alice", "se:cret"), ReasonCode::Success);
    assert_eq!(answer(&broker, "carol", "blank"), ReasonCode::Success);
    assert!(do_passwd(&["-U", file.path()]).starts_with("0 passwords"));
}

#[test]
fn passwd_refuses_what_no_file_can_keep() {
    let file = File::new("");
    for (flags, why) in [
        (&["-b", "F", "a:b", "x"][..], "a colon ends the name"),
        (&["-b", "F", "a\nb", "x"], "control characters"),
        (&["-b", "F", "", "x"], "must have a name"),
        (&["-b", "F", "#a", "x"], "is a comment"),
        (&["-b", "F", " a", "x"], "blanks at its ends"),
        (&["-b", "F", "a", ""], "an empty password is none"),
        (&["-b", "-I", "0", "F", "a", "x"], "from 1 to 1000000"),
        (
            &["-b", "-H", "md5", "F", "a", "x"],
            "sha512-pbkdf2 or sha512",
        ),
        (&["-b", "F", "a"], "-b needs FILE, USER and PASSWORD"),
        (&["-c", "-D", "F", "a"], "exclude each other"),
        (&["-U", "F", "a"], "-U needs FILE"),
        (&["F"], "FILE and USER are needed"),
        (&["-z"], "midge passwd -h tells more"),
    ] {
        let with_file: Vec<&str> = flags
            .iter()
            .map(|flag| if *flag == "F" { file.path() } else { flag })
            .collect();
        let exit = passwd(&with_file);
        assert_eq!(exit.status, Some(1), "{flags:?}");
        assert!(exit.stderr.contains(why), "{flags:?}: {}", exit.stderr);
        assert_eq!(file.text(), "");
    }
    assert!(do_passwd(&["-h"]).starts_with("Usage: midge passwd"));
}

#[test]
fn passwd_follows_a_link_and_leaves_nothing_behind() {
    let file = File::new("");
    let directory = temporary("directory");
    fs::create_dir(&directory).unwrap();
    let link = directory.join("link");
    symlink(&file.0, &link).unwrap();
    do_passwd(&["-b", link.to_str().unwrap(), "alice", "x"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(file.text().starts_with("alice:"));
    let stem = file.0.file_name().unwrap().to_str().unwrap().to_string();
    let left = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().contains(&stem));
    assert_eq!(left.count(), 1);
    fs::remove_dir_all(&directory).unwrap();
}
