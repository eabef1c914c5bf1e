//! `edp-worker`: makes granules and looks at them.

mod command;

use clap::Parser;
use edp_worker::console::Ending;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = command::Cli::parse();
    edp_engine::granule::chunks::silence_hdf5();
    match command::execute(cli) {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {}", edp_protocol::message::chain(&*error));
            Ending::of(&error).into()
        }
    }
}
