//! `edp-worker`: makes granules and draws pictures of them.

mod command;

fn main() -> ! {
    edp_worker::console::main(command::execute)
}
