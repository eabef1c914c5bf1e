//! Names of workers, which partial files of granules carry, and the check whether the worker of a name may be at work.
//!
//! A name is `HOST-SPACE-PID-UNIQUE`: the name of the host, the space in which its process ids are valid (a digest of
//! the machine's boot and the namespace of processes), the process id, and random digits. Containers may share the
//! host's name, and in each the first process has the id 1. The space tells them apart, and the random digits make
//! every name new.

use edp_protocol::Digest;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

/// Number of characters of the host's name in a worker's name. Names of files have a maximum length.
const HOST: usize = 40;

/// Number of hexadecimal digits of the space and of the random part.
const DIGITS: usize = 16;

/// Returns a name for a worker, or another program, of this process. It is new at every call.
pub fn new_name() -> String {
    // If the process space is unknown, no other worker is known to be in the same space.
    let space = space().map_or_else(random, str::to_owned);
    format!("{}-{space}-{:x}-{}", host(), std::process::id(), random())
}

/// Returns true if a worker of this name may still be at work. A worker of this process is not, once all of its
/// outcomes have arrived. A worker about which nothing can be known counts as at work: one of another machine, boot or
/// container, or with a name in the form of earlier versions, which has no space.
pub(crate) fn may_be_at_work(worker: &str) -> bool {
    let mut parts = worker.rsplitn(4, '-');
    let (unique, pid, of, on) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_new = unique.is_some_and(|unique| unique.len() == DIGITS);
    if !is_new || of != space() || on != Some(host().as_str()) || of.is_none() {
        return true;
    }
    let pid = pid.and_then(|pid| i32::from_str_radix(pid, 16).ok()).and_then(Pid::from_raw);
    let own = i32::try_from(std::process::id()).ok();
    match pid {
        None => true,
        Some(pid) if Some(pid.as_raw_nonzero().get()) == own => false,
        // "Not permitted" means that the process runs, under another user.
        Some(pid) => !matches!(test_kill_process(pid), Err(Errno::SRCH)),
    }
}

/// Returns the name of this machine as names of workers have it: letters, digits and hyphens.
pub(super) fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().take(HOST).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Returns the space of processes that can be seen from here: those of one boot of one machine, in one namespace.
/// Returns `None` if the operating system does not tell (only Linux does).
pub(super) fn space() -> Option<&'static str> {
    static SPACE: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let digest = Digest::of(format!("{}\n{}", boot.trim(), namespace.display()).as_bytes());
        digest.as_str().get(..DIGITS).map(str::to_owned)
    };
    SPACE.get_or_init(find).as_deref()
}

/// Returns random digits. The keys of the hasher come from the operating system.
fn random() -> String {
    format!("{:0DIGITS$x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_new_each_time_and_short_enough_for_parts() {
        let names: BTreeSet<String> = (0..1000).map(|_| new_name()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() <= 90 && !name.contains(['.', '/'])), "{names:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_that_are_gone_are_told_from_those_that_may_run() {
        let ours = new_name();
        assert!(!may_be_at_work(&ours), "{ours}");
        let (host, space, unique) = (host(), space().unwrap(), random());
        let with = |pid: &str| format!("{host}-{space}-{pid}-{unique}");
        assert!(may_be_at_work(&with("1")), "the first process of this machine");
        // Process ids are far below this.
        assert!(!may_be_at_work(&with("7ffffffe")));
        let (pid, other) = (std::process::id(), "0123456789abcdef");
        for unknown in [
            format!("{host}-{other}-7ffffffe-{unique}"), // another boot or container, which may run
            format!("{host}-{other}-{pid:x}-{unique}"),  // with our own process id
            format!("elsewhere-{space}-7ffffffe-{unique}"), // another machine
            format!("{host}-7ffffffe-653e1c2f0a1b2"),    // as earlier versions called themselves
            format!("{host}-{pid:x}-653e1c2f0a1b2"),
            "elsewhere-7ffffffe-1".into(),
            with("x"),
            String::new(),
            "x".into(),
            "a-b-c".into(),
            "a-b-c-d".into(),
        ] {
            assert!(may_be_at_work(&unknown), "{unknown}");
        }
    }
}
