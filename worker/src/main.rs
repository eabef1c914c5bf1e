//! `edp-worker`: makes granules and looks at them.

mod command;

fn main() -> ! {
    edp_worker::console::main(command::execute)
}
