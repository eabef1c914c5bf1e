//! Notices of the metadata service (IMDSv2) that an EC2 instance will end.

use super::TerminationNotice;
use aws_config::BehaviorVersion;
use aws_config::imds::client::{Client, error::ImdsError};
use aws_config::provider_config::ProviderConfig;
use edp_protocol::message::chain;
use jiff::Timestamp;
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use tokio::time::MissedTickBehavior;

/// Interval of the requests, as AWS recommends. An interruption is announced two minutes ahead.
const PERIOD: Duration = Duration::from_secs(5);

/// Time that one request may take, and that connecting may take, since the service is on the same host.
const TIMEOUT: Duration = Duration::from_secs(2);

/// AWS's own variable, by which the metadata service is not used.
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

const INTERRUPTION: &str = "/latest/meta-data/spot/instance-action";
const SCALING: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";

/// Returns true if this machine says that it is an EC2 instance. No request is sent: on other machines, the address of
/// the metadata service may belong to another service, or requests to it may be dropped silently.
pub(super) fn is_here() -> bool {
    std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").is_ok_and(|vendor| vendor.trim() == "Amazon EC2")
}

/// Completes when the instance is to be interrupted or scaled in. The endpoint is that of the settings, else that of
/// AWS programs: environment variables, configuration files, and the well-known address.
pub(super) async fn watch(endpoint: Option<&str>) -> TerminationNotice {
    if std::env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
        tracing::info!("{DISABLED} is set: notices of EC2 are not waited for");
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut service = None;
    let (mut silent, mut advised) = (false, false);
    loop {
        ticks.tick().await;
        let client = match service.take() {
            None => start(endpoint),
            Some(client) => Ok(client),
        };
        let answer = match client {
            Ok(client) => ask(service.insert(client), &mut advised).await,
            Err(why) => Err(why),
        };
        match answer {
            Ok(Some(notice)) => return notice,
            Ok(None) => silent = false,
            Err(why) => {
                if !silent {
                    tracing::warn!("notices of EC2: {why}; going on without, and asking again");
                }
                silent = true;
                // A client keeps its token even after that was refused; a new client takes a new token.
                service = None;
            }
        }
    }
}

fn start(endpoint: Option<&str>) -> Result<Client, String> {
    let config = ProviderConfig::without_region().with_behavior_version(Some(BehaviorVersion::latest()));
    let mut builder = Client::builder()
        .configure(&config)
        .max_attempts(1)
        .connect_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .operation_attempt_timeout(TIMEOUT)
        .operation_timeout(TIMEOUT);
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint(endpoint).map_err(|e| format!("serve.imds '{endpoint}': {e}"))?;
    }
    Ok(builder.build())
}

/// Runs one round of requests.
async fn ask(service: &Client, advised: &mut bool) -> Result<Option<TerminationNotice>, String> {
    if let Some(text) = get(service, INTERRUPTION).await? {
        return Ok(Some(interruption(&text)));
    }
    if let Some(state) = get(service, SCALING).await?
        && ends(&state)
    {
        return Ok(Some(TerminationNotice { reason: format!("scale-in ({})", state.trim()), end: None }));
    }
    // This is advice only: many instances that get it run on for a long time.
    if !*advised && get(service, REBALANCE).await?.is_some() {
        *advised = true;
        tracing::warn!("EC2 says that an interruption of this instance has become more likely");
    }
    Ok(None)
}

/// Returns the text at a path, or `None` if there is none.
async fn get(service: &Client, path: &str) -> Result<Option<String>, String> {
    match service.get(path).await {
        Ok(text) => Ok(Some(text.into())),
        Err(ImdsError::ErrorResponse(answer)) => match answer.response().status().as_u16() {
            404 => Ok(None),
            status => Err(format!("{path}: status {status}")),
        },
        Err(error) => Err(format!("{path}: {}", chain(&error))),
    }
}

fn interruption(text: &str) -> TerminationNotice {
    #[derive(Deserialize)]
    struct Action {
        action: String,
        time: Option<String>,
    }
    // Whatever the text is: if there is one, the instance is about to be interrupted.
    let said = serde_json::from_str::<Action>(text).ok();
    let action = said.as_ref().map_or("?", |said| said.action.as_str());
    let reason = format!("spot interruption ({})", action.escape_debug().take(40).collect::<String>());
    let end = said.and_then(|said| said.time?.parse::<Timestamp>().ok());
    TerminationNotice { reason, end: end.map(SystemTime::from) }
}

/// Returns true if an instance that is changing to this state stops running.
fn ends(state: &str) -> bool {
    ["Terminated", "Warmed:Terminated", "Warmed:Stopped", "Warmed:Hibernated"].contains(&state.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interruptions_are_understood_or_at_least_heeded() {
        let notice = interruption(r#"{"action": "terminate", "time": "2027-09-18T08:22:00Z"}"#);
        assert_eq!(notice.to_string(), "spot interruption (terminate) at 2027-09-18T08:22:00Z");
        assert!(notice.end.is_some());
        for text in ["", "{}", "soon", r#"{"action": "stop"}"#, r#"{"action": "stop", "time": "soon"}"#] {
            let notice = interruption(text);
            assert!(notice.to_string().starts_with("spot interruption (") && notice.end.is_none(), "{notice}");
        }
    }

    #[test]
    fn states_that_end_an_instance() {
        assert!(ends("Terminated") && ends("Warmed:Stopped\n"));
        for state in ["InService", "Standby", "Detached", "Warmed:Running", "", "terminated?"] {
            assert!(!ends(state), "{state}");
        }
    }
}
