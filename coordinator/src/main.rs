//! `edp-coordinator`: plans a production and drives it to its end.

mod command;

use clap::Parser;
use command::Cli;
use edp_worker::console::Ending;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    edp_engine::granule::chunks::silence_hdf5();
    match command::execute(cli) {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {}", edp_protocol::message::chain(&*error));
            Ending::of(&error).into()
        }
    }
}
