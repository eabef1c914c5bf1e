//! Productions by a real Slurm on this machine, with daemons, ports and directories of its own.

use super::{Case, of_brokers};
use edp_tests::{Started, expect, files, not_permitted, not_run, until};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time for a production: a wall time, the half minute until Slurm notices its end, and another round.
const PATIENCE: Duration = Duration::from_secs(400);

/// Slurm with one node, which ends when this is dropped.
struct Slurm {
    directory: tempfile::TempDir,
    /// In the order of their ends.
    daemons: Vec<Started>,
}

impl Slurm {
    /// Starts Slurm. Returns `None`, and says why, if that cannot be done here.
    fn start() -> Option<Slurm> {
        if !rustix::process::geteuid().is_root() {
            not_permitted("Slurm's daemons need root");
            return None;
        }
        let there = |name: &str| Path::new("/usr/sbin").join(name).exists();
        if !["munged", "slurmctld", "slurmd"].into_iter().all(there) {
            not_run("there is no Slurm here (deploy/deps.sh slurm)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut slurm = Slurm { directory, daemons: Vec::new() };
        slurm.authenticate();
        slurm.configure();
        for (name, log) in [("slurmctld", "slurmctld.log"), ("slurmd", "slurmd.log")] {
            let mut daemon = Command::new(Path::new("/usr/sbin").join(name));
            daemon.arg("-D").env("SLURM_CONF", slurm.path("slurm.conf"));
            slurm.run(&mut daemon, log);
        }
        until("a node of Slurm that is idle", || {
            let nodes = slurm.command("sinfo").args(["--noheader", "--format=%T"]).output().unwrap();
            String::from_utf8_lossy(&nodes.stdout).trim() == "idle"
        });
        Some(slurm)
    }

    /// Starts munged, which proves to the daemons of Slurm who has sent a message, as the user that it insists on.
    fn authenticate(&mut self) {
        let munge = self.path("munge");
        fs::create_dir(&munge).unwrap();
        fs::set_permissions(&munge, fs::Permissions::from_mode(0o755)).unwrap();
        let key = munge.join("key");
        fs::write(&key, [7; 128]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        let id = |what: &str| -> u32 {
            let output = expect(Command::new("id").args([what, "munge"]), 0);
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        };
        for path in [&munge, &key] {
            chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let mut munged = Command::new("setpriv");
        munged.args(["--reuid=munge", "--regid=munge", "--clear-groups", "/usr/sbin/munged", "--foreground"]);
        for (option, name) in [
            ("--socket", "socket"),
            ("--key-file", "key"),
            ("--pid-file", "pid"),
            ("--log-file", "log"),
            ("--seed-file", "seed"),
        ] {
            munged.arg(format!("{option}={}", munge.join(name).display()));
        }
        self.run(&mut munged, "munged.log");
        until("munged", || munge.join("socket").exists());
    }

    fn configure(&self) {
        for name in ["state", "spool"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        // held together, so that they differ
        let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [controller, node] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let directory = self.directory.path().display();
        let text = format!(
            "ClusterName=edp\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmdPort={node}\n\
             SlurmUser=root\nAuthType=auth/munge\nAuthInfo=socket={directory}/munge/socket\nCredType=cred/munge\n\
             StateSaveLocation={directory}/state\nSlurmdSpoolDir={directory}/spool\n\
             SlurmctldPidFile={directory}/slurmctld.pid\nSlurmdPidFile={directory}/slurmd.pid\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherType=jobacct_gather/none\n\
             MpiDefault=none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2\n\
             SlurmdParameters=config_overrides\nSchedulerParameters=sched_interval=2,bf_interval=2\nKillWait=5\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN\nPartitionName=all Nodes=ALL Default=YES State=UP\n"
        );
        fs::write(self.path("slurm.conf"), text).unwrap();
    }

    /// Starts a daemon.
    fn run(&mut self, daemon: &mut Command, log: &str) {
        let log = fs::File::create(self.path(log)).unwrap();
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.insert(0, Started(daemon.spawn().unwrap()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns one of the commands of Slurm. They hang if a daemon does not answer.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["20", name]).env("SLURM_CONF", self.path("slurm.conf"));
        command
    }

    /// Submits a production, waits for its end and for that of all jobs, and returns the progress.
    fn make(&self, case: &Case, words: &[&str]) -> String {
        let mut submit = case.submit("slurm");
        submit.env("SLURM_CONF", self.path("slurm.conf")).env("TMPDIR", self.path("tmp")).args(words);
        fs::create_dir(self.path("tmp")).unwrap();
        expect(&mut submit, 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let queue = self.command("squeue").arg("--noheader").output().unwrap();
            if queue.status.success() && queue.stdout.is_empty() {
                return case.of_run("progress");
            }
            assert!(
                Instant::now() < deadline,
                "{}\n{}\n{}",
                String::from_utf8_lossy(&queue.stdout),
                case.logs(),
                fs::read_to_string(self.path("slurmctld.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.command("scancel").arg("--user=root").output();
        until("the end of Slurm's jobs", || {
            let queue = self.command("squeue").arg("--noheader").output().unwrap();
            queue.stdout.is_empty()
        });
        for daemon in &mut self.daemons {
            // in order, so that slurmd's own children end too
            let _ = Command::new("kill").arg(daemon.id().to_string()).status();
            let _ = daemon.wait();
        }
    }
}

/// Checks that the rounds of a production, of which the first one was killed, ended with all granules.
fn check(slurm: &Slurm, case: &Case, progress: &str) {
    let lines: Vec<&str> = progress.lines().collect();
    let [.., incomplete, complete, "complete"] = lines[..] else { panic!("{progress}\n{}", case.logs()) };
    assert!(complete.contains(": verified: 24 good, 0 missing"), "{progress}\n{}", case.logs());
    assert!(incomplete.starts_with("round ") && !incomplete.contains(" 0 missing"), "{progress}\n{}", case.logs());
    let log = fs::read_to_string(slurm.path("slurmctld.log")).unwrap();
    assert!(log.contains("Time limit exhausted for JobId="), "{log}\n{}", case.logs());
    assert_eq!(files(&case.out), case.reference());
}

#[test]
#[ignore = "needs Slurm, root and some minutes: make check-all"]
fn a_production_over_a_broker_goes_on_after_its_coordinator_was_killed_at_its_time_limit_on_slurm() {
    let Some(slurm) = Slurm::start() else { return };
    let case = Case::new();
    case.hang("edp-coordinator", "run");
    case.hang("edp-worker", "serve");
    let progress = slurm.make(&case, &["--nodes", "1", "--time", "0:02:00", "--drain", "10"]);
    check(&slurm, &case, &progress);
    until("the end of the brokers", || of_brokers(&slurm.path("tmp")).is_empty());
    assert!(!case.fixture.path("edp-default/url").exists());
}

#[test]
#[ignore = "needs Slurm, root and some minutes: make check-all"]
fn shares_of_arrays_are_made_again_after_one_was_killed_at_its_time_limit_on_slurm() {
    let Some(slurm) = Slurm::start() else { return };
    let case = Case::new();
    case.hang("edp-worker", "make");
    let words = ["--array", "--nodes", "3", "--max-array", "2", "--time", "0:01:00", "--drain", "10"];
    let progress = slurm.make(&case, &words);
    check(&slurm, &case, &progress);
}
