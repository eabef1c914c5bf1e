//! `edp-coordinator`: plans a production and drives it to its end.

mod command;

use clap::Parser;
use command::Cli;
use edp_worker::console::{self, Ending};

fn main() -> ! {
    let cli = Cli::parse();
    edp_engine::granule::chunks::silence_hdf5();
    let ending = match command::execute(cli) {
        Ok(ending) => ending,
        Err(error) => {
            eprintln!("error: {}", edp_protocol::message::chain(&*error));
            Ending::of(&error)
        }
    };
    console::leave(ending)
}
