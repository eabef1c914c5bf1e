//! Faults at system calls, injected by strace without any hook in the programs.

use std::path::Path;
use std::process::Command;

/// The message for a test that is skipped because processes cannot be traced.
pub const NONE: &str = "processes cannot be traced here: install strace, allow ptrace";

/// Returns true if processes can be traced here.
pub fn is_there() -> bool {
    let mut traced = Command::new("strace");
    let words = ["-D", "-o", "/dev/null", "-e", "trace=getpid", "true"];
    traced.args(words).output().is_ok_and(|output| output.status.success())
}

/// Returns the words before a command line that make something happen (`what`, in strace's notation) at some system
/// calls: at all of them, or only at those on one file. The trace is written to `log`.
pub fn words(calls: &str, what: &str, file: Option<&Path>, log: &Path) -> Vec<String> {
    // The tracer runs as a grandchild, so that the process itself remains our child.
    let mut words: Vec<_> = ["strace", "-D", "-f", "-o"].map(str::to_owned).to_vec();
    words.push(log.display().to_string());
    if let Some(file) = file {
        words.extend(["-P".into(), file.display().to_string()]);
    }
    words.extend(["-e".into(), format!("trace={calls}"), "-e".into(), format!("inject={calls}:{what}")]);
    words
}

/// Returns the command, started under strace with these words.
pub fn beneath(words: &[String], command: &Command) -> Command {
    let mut traced = Command::new(&words[0]);
    traced.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        traced.current_dir(directory);
    }
    traced
}
