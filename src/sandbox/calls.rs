//! System calls by seccomp: a list of those that the loop makes, and no others.
//!
//! A call that is not on the list fails with ENOSYS, as if the kernel were too old to have it. The
//! program is not killed, and it is not EPERM: C libraries know what else to try on an old kernel,
//! and a list can never have all that the next library will use. Whoever has taken midge over gets
//! as little from either. It cannot be logged: the kernel would do that for what is allowed, too,
//! or where there is an audit daemon only; `strace -f -e status=failed` shows it. Since Linux 5.11
//! the kernel remembers which calls are always allowed, so the list costs them next to nothing.
//!
//! What parameters point to cannot be looked at: Landlock keeps `connect` from TCP (Linux 6.7),
//! here it is only that there are no new sockets for it.

use std::collections::BTreeMap;
use std::process;

use libc::*;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// What each of them is for. C libraries choose among calls that do the same, so all are here.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // The loop: wait, read, write, accept, close.
    SYS_epoll_pwait, SYS_epoll_ctl, SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_close,
    SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_accept, SYS_accept4, SYS_shutdown,
    // Options, addresses and errors of sockets.
    SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername,
    // To find the log of the system again, which has started anew (see SYS_socket below).
    SYS_connect,
    // Files that SIGHUP reads again, a log that is opened anew, /dev/null, /dev/urandom.
    SYS_openat, SYS_lseek, SYS_pread64, SYS_preadv, SYS_fstat, SYS_newfstatat, SYS_statx,
    SYS_faccessat, SYS_readlinkat, SYS_getcwd, SYS_getdents64, SYS_fcntl,
    // The store; the pid file and the files of Unix sockets, which go in the end.
    SYS_pwrite64, SYS_pwritev, SYS_fsync, SYS_fdatasync, SYS_fallocate, SYS_ftruncate, SYS_flock,
    SYS_unlinkat, SYS_renameat2,
    // Memory (see SYS_mmap below).
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise,
    // Time.
    SYS_clock_gettime, SYS_gettimeofday, SYS_clock_nanosleep, SYS_nanosleep, SYS_ppoll,
    // Signals that come.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall,
    // Who it is: for lines to syslog.
    SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
    // Keys of hash tables.
    SYS_getrandom,
    // Locks of the C library, which nobody contends for.
    SYS_futex, SYS_sched_yield,
    // The end (by abort(): see SYS_tgkill below).
    SYS_exit, SYS_exit_group,
];

/// What there is on some processors only, older names of those above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = &[
    SYS_epoll_wait, SYS_poll, SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink,
    SYS_rename, SYS_renameat, SYS_time, SYS_getdents,
];

#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[c_long] = &[SYS_renameat];

#[cfg(target_arch = "riscv64")]
const ALLOWED_HERE: &[c_long] = &[];

/// A call that is allowed if in these bits of that parameter, counted from 0, is that value.
struct If(c_long, &'static [(u8, c_int, c_int)]);

const ALL_BITS: c_int = -1;
/// Without SOCK_CLOEXEC and SOCK_NONBLOCK.
const KIND: c_int = 0xf;

#[rustfmt::skip]
const ALLOWED_IF: &[If] = &[
    // To the log of the system. No streams, by which services are asked to do things.
    If(SYS_socket, &[(0, ALL_BITS, AF_UNIX), (1, KIND, SOCK_DGRAM)]),
    // To set that a socket does not block.
    If(SYS_ioctl, &[(1, ALL_BITS, FIONBIO as c_int)]),
    // Nothing that was written can be run.
    If(SYS_mmap, &[(2, PROT_EXEC, 0)]),
    If(SYS_mprotect, &[(2, PROT_EXEC, 0)]),
];

/// For the calling thread.
pub fn confine() -> Result<(), String> {
    let program = program().map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

fn program() -> Result<BpfProgram, BackendError> {
    let always = ALLOWED.iter().chain(ALLOWED_HERE);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.map(|call| (*call, Vec::new())).collect();
    for If(call, conditions) in ALLOWED_IF {
        rules.insert(*call, vec![rule(conditions)?]);
    }
    // abort() signals the thread that calls it, and midge has one: nobody else.
    let own = process::id() as c_int;
    for call in [SYS_tgkill, SYS_tkill] {
        rules.insert(call, vec![rule(&[(0, ALL_BITS, own)])?]);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(ENOSYS as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}

/// All these conditions.
fn rule(conditions: &[(u8, c_int, c_int)]) -> Result<SeccompRule, BackendError> {
    let condition = |(index, bits, value): &(u8, c_int, c_int)| {
        let bits = SeccompCmpOp::MaskedEq(u64::from(*bits as u32));
        SeccompCondition::new(
            *index,
            SeccompCmpArgLen::Dword,
            bits,
            u64::from(*value as u32),
        )
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}
