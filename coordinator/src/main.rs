//! `edp-coordinator`: plans a production and drives it to its end.

mod command;

fn main() -> ! {
    edp_worker::console::main(command::execute)
}
