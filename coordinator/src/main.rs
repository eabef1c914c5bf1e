//! `edp-coordinator`: plans a production and drives it to its end.

mod command;

use clap::Parser;
use command::Cli;
use edp_worker::console::{Ending, Usage};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    edp_worker::granule::chunks::silence_hdf5();
    match command::execute(cli) {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {}", edp_protocol::message::chain(&*error));
            let code = error.downcast_ref::<Usage>().map_or(Ending::ProgramFailed, |_| Ending::Usage);
            code.into()
        }
    }
}
