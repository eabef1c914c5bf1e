//! `edp-worker`: makes granules and looks at them.

mod command;

use clap::Parser;
use edp_worker::console::{Ending, Usage};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = command::Cli::parse();
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
