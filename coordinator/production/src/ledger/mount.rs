//! The file system on which the ledger lies: whether it is that of another machine, and whether its locks hold there.

use edp_files::regular;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// NFS, SMB, CIFS, SMB2, AFS, Ceph, Lustre, GPFS, FUSE, 9P, BeeGFS: by the numbers of Linux's `statfs`.
const REMOTE: [i64; 11] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x5346_414f,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x4750_4653,
    0x6573_5546,
    0x0102_1997,
    0x1983_0326,
];

/// Returns true if a file lies on a file system of another machine.
pub(super) fn is_remote(path: &Path) -> std::io::Result<bool> {
    let kind = rustix::fs::statfs(directory(path))?.f_type;
    #[allow(clippy::useless_conversion)] // its type differs between platforms
    Ok(i64::try_from(kind).is_ok_and(is_remote_kind))
}

/// Returns true if a number of `statfs` is that of a file system of another machine. Some platforms extend its sign.
fn is_remote_kind(kind: i64) -> bool {
    REMOTE.contains(&(kind & 0xffff_ffff))
}

/// Options of mounts of file systems of other machines with which a lock is known to this machine only: of Lustre, NFS
/// and SMB. Lustre without any of its options for locks refuses them, which the lock itself shows.
const LOCAL_LOCKS: [&str; 6] =
    ["localflock", "nolock", "local_lock=all", "local_lock=flock", "local_lock=posix", "nobrl"];

/// The list of mounts of this process, on Linux.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Largest list of mounts in bytes that is read. A machine with ten thousand mounts has 2 MB.
const MAX_MOUNTS: u64 = 16 << 20;

/// Returns the option of the mount by which a lock on the file does not keep other machines away; `None` if there is
/// none, or if this system does not tell.
pub(super) fn local_locks(path: &Path) -> std::io::Result<Option<&'static str>> {
    if !is_remote(path)? {
        return Ok(None);
    }
    let device = std::fs::metadata(directory(path))?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = regular::read(Path::new(MOUNTS), MAX_MOUNTS).ok();
    Ok(mounts.and_then(|mounts| option_of(&String::from_utf8_lossy(&mounts), &device)))
}

/// Returns the option of [`LOCAL_LOCKS`] that a device is mounted with. Each line of `mounts` has the device as its third
/// field, and the options of the file system as its last.
fn option_of(mounts: &str, device: &str) -> Option<&'static str> {
    let of_device = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(device));
    let mut options = of_device.filter_map(|line| line.rsplit(' ').next()).flat_map(|options| options.split(','));
    options.find_map(|option| LOCAL_LOCKS.into_iter().find(|local| *local == option))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known() {
        const EXT4: i64 = 0xef53;
        const TMPFS: i64 = 0x0102_1994;
        const CIFS: i64 = 0xff53_4d42_u32 as i32 as i64; // as a platform with a signed 32-bit number gives it
        assert!(!is_remote_kind(EXT4) && !is_remote_kind(TMPFS));
        assert!(is_remote_kind(0x6969) && is_remote_kind(CIFS) && is_remote_kind(0x0bd0_0bd0));
        assert!(!is_remote(Path::new("/proc/x")).unwrap());
        assert!(is_remote(Path::new("/nowhere/x")).is_err());
    }

    #[test]
    fn mounts_whose_locks_hold_on_one_machine_only_are_known() {
        let mounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,nolock\n\
            30 21 0:40 / /one rw,relatime - lustre 10.0.0.1@tcp:/one rw,flock,lazystatfs\n\
            31 21 0:41 / /two rw,relatime shared:3 master:2 - lustre 10.0.0.1@tcp:/two rw,localflock\n\
            32 21 0:42 / /with\\040blank rw - nfs4 host:/a rw,vers=4.2,local_lock=none,addr=10.0.0.2\n\
            33 21 0:43 / /three rw - nfs host:/b rw,vers=3,nolock,local_lock=all,addr=10.0.0.2\n\
            34 21 0:44 / /four rw,nolock - nfs host:/c rw,vers=3,local_lock=flock\n";
        let cases = [("0:40", None), ("0:41", Some("localflock")), ("0:42", None), ("0:43", Some("nolock"))];
        for (device, option) in cases.into_iter().chain([("0:44", Some("local_lock=flock")), ("0:4", None)]) {
            assert_eq!(option_of(mounts, device), option, "{device}");
        }
        assert_eq!(local_locks(Path::new("/proc/x")).unwrap(), None);
    }
}
