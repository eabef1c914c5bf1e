//! The confinement of a helper process, set up before it reads its first file.
//!
//! Some limits exist on every Linux: no files are written, no core dumps, few descriptors, and a bound on the process's
//! own memory. In addition, where the kernel filters system calls (as all do since 3.17 on the architectures that the
//! filter knows), calls that are not in the list fail with "not permitted". Nothing can be opened by a name, so a file
//! that refers to another (external storage, external links, virtual data sets) leads nowhere; there are no sockets but
//! the one, no new processes, and no changes to anything. Where there is no filter, the limits remain.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Largest number of bytes of memory that a helper may take in addition to the files that it maps. A chunk must fit in,
/// both as it is stored and as it is inflated.
const MEMORY: u64 = 2 << 30;

/// The system calls needed to read a mapped file and to answer over an open socket.
const CALLS: &[libc::c_long] = &[
    // Calls for the socket, and for the files that come over it.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    // Calls for memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Calls that the libraries of the languages make by themselves.
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Calls for signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Calls that end the process.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// System calls whose first argument is a process, which must be this one: setting limits (0 stands for the process
/// itself), and the signal by which it aborts.
const CALLS_ON_ITSELF: &[libc::c_long] = &[libc::SYS_prlimit64, libc::SYS_tgkill];

/// Confines this process as far as the system allows.
pub(super) fn confine() {
    lower(Resource::Fsize, 0);
    lower(Resource::Core, 0);
    lower(Resource::Nofile, 16);
    lower(Resource::Data, MEMORY);
    if let Some(program) = filter() {
        let _ = seccompiler::apply_filter(&program); // sets "no new privileges" first; if it fails, the limits hold
    }
}

fn lower(resource: Resource, most: u64) {
    let most = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
    let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Lets this process use `seconds` more seconds of processor time before it is ended.
pub(super) fn limit_processor_time(seconds: u64) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.cast_unsigned();
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = maximum.map_or(u64::MAX - 1, |maximum| maximum).min(used + seconds + 1);
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(current), maximum });
}

fn filter() -> Option<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let on_itself = |process: u64| {
        let first = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, process).ok()?;
        SeccompRule::new(vec![first]).ok()
    };
    let itself = vec![on_itself(0)?, on_itself(u64::from(std::process::id()))?];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    rules.extend(CALLS_ON_ITSELF.iter().map(|call| (*call, itself.clone())));
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write as _};
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;

    const INNER: &str = "EDP_TEST_CONFINED";

    /// Tests what a confined process can still do; this runs in a process of its own, which never regains its rights.
    #[test]
    fn nothing_is_opened_written_started_or_connected() {
        let Some(path) = std::env::var_os(INNER) else {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("open");
            let name = std::thread::current().name().unwrap().to_owned();
            let mut command = Command::new(std::env::current_exe().unwrap());
            let output = command.args(["--exact", &name, "--nocapture"]).env(INNER, &path).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(fs::read(&path).unwrap(), b"before");
            return;
        };
        let mut open = File::create(&path).unwrap();
        open.write_all(b"before").unwrap();
        let other = rustix::process::getppid().unwrap();
        confine();
        // A larger file is refused by a limit, without the filter. The signal of that limit would end the process.
        assert_eq!(getrlimit(Resource::Fsize).maximum, Some(0));
        assert_eq!(getrlimit(Resource::Data).maximum, Some(MEMORY));
        if filter().is_none() {
            return;
        }
        let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        refused(File::open(&path).unwrap_err());
        refused(File::create(&path).unwrap_err());
        refused(fs::remove_file(&path).unwrap_err());
        refused(fs::rename(&path, "other").unwrap_err());
        refused(fs::read_dir("/").unwrap_err());
        refused(open.set_len(1).unwrap_err());
        refused(TcpListener::bind("127.0.0.1:0").unwrap_err());
        refused(UdpSocket::bind("127.0.0.1:0").unwrap_err());
        refused(Command::new("true").spawn().unwrap_err());
        assert_eq!(rustix::process::test_kill_process(other).unwrap_err(), rustix::io::Errno::PERM);
        assert_eq!(vec![1_u8; 1 << 20].len(), 1 << 20);
    }
}
