//! Shell completions and man pages, made from the definition of the command line.

use super::{Ending, Usage};
use clap::{Args, Command};
use clap_complete::{Shell, generate_to};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories below the `share` of an installation in which the shells look for completions.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Options of the command `pages` of both programs, by which they are packaged.
#[derive(Debug, Args)]
pub struct PagesOptions {
    /// The directory `share` of an installation
    #[arg(value_name = "SHARE")]
    share: PathBuf,
}

impl PagesOptions {
    /// Writes completions for the shells, a man page of the program, and one of each of its commands.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn execute(&self, command: Command) -> anyhow::Result<Ending> {
        write(command, &self.share).map_err(|error| Usage(format!("{}: {error}", self.share.display())))?;
        Ok(Ending::Done)
    }
}

fn write(mut command: Command, share: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let directory = share.join("man/man1");
    fs::create_dir_all(&directory)?;
    // First: completions add the command `help` to the definition.
    clap_mangen::generate_to(command.clone(), directory)?;
    for (shell, directory) in COMPLETIONS {
        let directory = share.join(directory);
        fs::create_dir_all(&directory)?;
        let written = generate_to(shell, &mut command, &name, &directory)?;
        if shell == Shell::Bash {
            // Bash loads completions by the name of the program.
            fs::rename(written, directory.join(&name))?;
        }
    }
    Ok(())
}
