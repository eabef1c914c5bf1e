//! The parts that both programs have besides their work: settings, logs, traces, metrics and health.
//!
//! * [`settings`] puts settings together from defaults, a file and the environment:
//!
//!   ```
//!   use edp_program::settings::Settings;
//!
//!   let variables = [("EDP_QUEUE__PATIENCE".to_owned(), "60".to_owned())];
//!   let settings = Settings::parse(None, variables)?;
//!   assert_eq!(settings.queue.patience, 60);
//!   # Ok::<(), edp_program::settings::SettingsError>(())
//!   ```
//!
//! * [`telemetry`] starts the log on standard error and, if a collector is named, traces and metrics by OpenTelemetry.
//! * [`http_service`] answers those who ask for the health and the metrics of a running program.

pub mod http_service;
pub mod settings;
pub mod telemetry;
