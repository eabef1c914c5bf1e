//! What both programs need besides their work: settings, and what they tell of themselves.

pub mod settings;
pub mod telemetry;
