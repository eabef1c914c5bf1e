//! The end of a process.
//!
//! The programs end by [`leave`], never by returning from `main`. Returning would run the handlers that libraries have
//! registered for the end of the process, while threads may still be ending. The handler of libcrypto, which comes with
//! the netCDF library, frees memory that ending threads still need: one of 130 ends was an abort. Nothing here depends
//! on such handlers. Commands do what has to happen before the end: they close files, send telemetry, and remove
//! copies.

use super::Ending;
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Time that the threads of a runtime have to end. They are idle by then, except for a computation that does not end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends a runtime, and waits for its threads. A computation that does not end is not waited for; it ends with the
/// process.
pub fn shut_down(runtime: Runtime) {
    runtime.shutdown_timeout(PATIENCE);
}

/// Ends the process with the status of its ending.
pub fn leave(ending: Ending) -> ! {
    let _ = io::stdout().flush(); // its reader may have gone
    leave_at_once(ending)
}

/// Ends the process, even while other threads print. What they have not printed is lost.
pub(super) fn leave_at_once(ending: Ending) -> ! {
    signal_hook::low_level::exit(ending.code().into())
}
