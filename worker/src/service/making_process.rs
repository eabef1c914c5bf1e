//! A making process: it makes granules for the worker that has started it, and takes no decisions of its own.
//!
//! Signals that end programs do not end it, since they reach all processes of a job or service at once: the worker
//! decides what is finished, and closes the socket then. It has a name of its own, by which its partial files are known,
//! so that they are removed if it dies.

use super::Worker;
use super::allowed_roots::AllowedRoots;
use super::processes::{FromProcess, ProcessSetup, ToProcess};
use edp_engine::libraries::silence_hdf5;
use edp_engine::own_process;
use edp_engine::resources::Cache;
use edp_program::telemetry::{self, Program, Telemetry, trace};
use edp_protocol::Location;
use edp_protocol::message::FailureKind;
use edp_protocol::wire::Failed;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The granules that are being made, with their cancellation flags.
type Flags = Arc<Mutex<HashMap<u64, Arc<AtomicBool>>>>;

/// Makes granules until the worker closes its end of the socket. What is under way then is given up.
///
/// # Errors
/// Returns an error if the setup cannot be used.
pub(crate) fn serve(socket: &UnixStream) -> anyhow::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let Some((ToProcess::Setup(setup), _, _)) = own_process::receive(socket, 0, None)? else { return Ok(()) };
    let (worker, _telemetry) = begin(&setup)?;
    let (worker, answers) = (Arc::new(worker), Arc::new(Mutex::new(socket.try_clone()?)));
    answer(&answers, &FromProcess::Ready)?;
    let flags = Flags::default();
    // An error means that the worker is gone.
    while let Ok(Some((message, _, _))) = own_process::receive::<ToProcess>(socket, 0, None) {
        match message {
            ToProcess::Make { number, recipe, look, trace } => {
                let cancel = Arc::new(AtomicBool::new(false));
                flags.lock().unwrap_or_else(PoisonError::into_inner).insert(number, cancel.clone());
                let (worker, answers, flags) = (worker.clone(), answers.clone(), flags.clone());
                let making = move || {
                    silence_hdf5();
                    let span = trace::carried_on(&trace);
                    let make = || span.in_scope(|| worker.produce(&recipe, &look, &cancel));
                    let result = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
                        let reason =
                            format!("{}: the program failed while making it; please report this", recipe.granule);
                        Err(Failed::because(FailureKind::Transient, reason))
                    });
                    drop(span);
                    flags.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                    let _ = answer(&answers, &FromProcess::Made { number, result }); // the worker may have gone
                };
                thread::Builder::new().name("edp-slot".into()).spawn(making)?;
            }
            ToProcess::Cancel { number } => {
                if let Some(flag) = flags.lock().unwrap_or_else(PoisonError::into_inner).get(&number) {
                    flag.store(true, Ordering::Relaxed);
                }
            }
            ToProcess::Setup(_) => {}
        }
    }
    Ok(())
}

/// Makes the worker, and starts the telemetry.
fn begin(setup: &ProcessSetup) -> anyhow::Result<(Worker, Telemetry)> {
    let mut stores = edp_s3::stores(&setup.store);
    if let Some(roots) = &setup.roots {
        let roots = roots.iter().map(|root| root.parse()).collect::<Result<Vec<Location>, _>>()?;
        stores = stores.confined(AllowedRoots::open(&roots)?.files());
    }
    let worker = Worker {
        replace_older: setup.replace_older,
        memory: setup.memory,
        paranoid: setup.paranoid,
        cache: Cache::with_memory(stores, setup.memory),
        ..Worker::new(1, setup.replace)
    };
    let [level, format] = setup.log.each_ref().map(Option::as_deref);
    let telemetry =
        telemetry::start(Program { name: "edp-worker", instance: &worker.id }, level, format, setup.traces)?;
    Ok((worker, telemetry))
}

fn answer(socket: &Mutex<UnixStream>, message: &FromProcess) -> io::Result<()> {
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    own_process::send(&socket, message, &[], None, None)
}
