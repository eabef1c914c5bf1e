//! Calls to S3. Each has a deadline. It is tried again after errors that may pass, with new credentials after the old
//! ones have expired, and in the region of the bucket if the store names another one than ours.

use super::advice;
use super::call::Call;
use super::client::client;
use super::error::{CallFailure, Remedy};
use super::pace::Pace;
use super::writing::Writing;
use aws_config::Region;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::RequestPayer;
use edp_store::{S3Error, S3Settings, TryCount};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// First pause between two tries. Each pause is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// The same after the store asked to slow down. It answers again when it gets fewer requests, which takes seconds.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// Minimum throughput in bytes per second. A slower transfer is given up.
const MIN_RATE: u64 = 64 << 10;

/// The tries of one call.
pub(super) struct CallTries {
    began: Instant,
    made: u32,
    /// Generation of the client with which the last try was made.
    generation: u64,
    /// True once the store has named another region.
    redirected: bool,
}

impl CallTries {
    pub(super) fn new() -> CallTries {
        CallTries { began: Instant::now(), made: 0, generation: 0, redirected: false }
    }
}

/// Clients with the credentials of one time.
struct Clients {
    /// Number of times that they were renewed.
    generation: u64,
    /// Client for the region of the settings.
    usual: Client,
    /// Clients for buckets that are in other regions.
    elsewhere: HashMap<String, Client>,
}

impl Clients {
    fn of(&self, bucket: &str) -> &Client {
        self.elsewhere.get(bucket).unwrap_or(&self.usual)
    }

    /// Sends calls about a bucket to a region from now on. Returns the region to which they were sent before, if it is
    /// another one.
    fn redirect(&mut self, bucket: &str, region: &str) -> Option<String> {
        let before = self.of(bucket).config().region().map(ToString::to_string).unwrap_or_default();
        if before == region {
            return None;
        }
        let config = self.usual.config().to_builder().region(Region::new(region.to_owned())).build();
        self.elsewhere.insert(bucket.to_owned(), Client::from_conf(config));
        Some(before)
    }
}

/// The client that all users of the store share.
pub(super) struct SharedClient {
    settings: S3Settings,
    /// Properties of objects that are written.
    pub(super) writing: Writing,
    timeout: Duration,
    attempts: u32,
    clients: RwLock<Clients>,
    /// Held while the client is renewed.
    renewal: Mutex<()>,
    pace: Pace,
}

impl SharedClient {
    pub(super) async fn connect(settings: &S3Settings) -> Result<SharedClient, S3Error> {
        let timeout = Duration::from_secs(settings.timeout.max(1).into());
        let attempts = settings.attempts.max(1);
        let writing = Writing::new(settings)?;
        let usual = within(timeout, client(settings, timeout)).await?;
        Ok(SharedClient {
            settings: settings.clone(),
            writing,
            timeout,
            attempts,
            clients: RwLock::new(Clients { generation: 0, usual, elsewhere: HashMap::new() }),
            renewal: Mutex::new(()),
            pace: Pace::new(),
        })
    }

    pub(super) fn payer(&self) -> Option<RequestPayer> {
        self.settings.requester_pays.then_some(RequestPayer::Requester)
    }

    /// Makes a call until it succeeds or another try is pointless.
    pub(super) async fn call<T, F: Future<Output = Result<T, CallFailure>>>(
        &self,
        call: Call<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, S3Error> {
        let mut tries = CallTries::new();
        loop {
            match self.once(&call, &mut tries, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.again(&call, &mut tries, failure).await?,
            }
        }
    }

    /// Makes a call once. Everything that it waits for is within its deadline: connecting, sending, checksums, the
    /// answer.
    pub(super) async fn once<T, F: Future<Output = Result<T, CallFailure>>>(
        &self,
        call: &Call<'_>,
        tries: &mut CallTries,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, CallFailure> {
        let _permitted = self.pace.begin().await;
        let (generation, client) = {
            let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
            (clients.generation, clients.of(call.bucket).clone())
        };
        tries.generation = generation;
        let deadline = self.timeout + Duration::from_secs(call.bytes / MIN_RATE);
        let result = tokio::time::timeout(deadline, request(client)).await;
        let result = result.unwrap_or_else(|_| Err(CallFailure::broken(format!("no answer within {deadline:?}"))));
        match &result {
            Ok(_) => self.pace.succeeded(),
            Err(CallFailure::Call { remedy: Remedy::Slower, .. }) => self.pace.slow_down(Instant::now()),
            Err(_) => {}
        }
        result
    }

    /// Waits for the beginning of an answer, whose body may take longer.
    pub(super) async fn begun<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, CallFailure>
    where
        CallFailure: From<E>,
    {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(CallFailure::broken(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// Returns an error if another try is pointless.
    pub(super) async fn again(
        &self,
        call: &Call<'_>,
        tries: &mut CallTries,
        failure: CallFailure,
    ) -> Result<(), S3Error> {
        tries.made += 1;
        let (remedy, status, code, what, region) = match failure {
            CallFailure::Final(error) => return Err(error),
            CallFailure::Call { remedy, status, code, what, region } => (remedy, status, code, what, region),
        };
        if let Some(region) = &region
            && !std::mem::replace(&mut tries.redirected, true)
            && self.redirect(call.bucket, region)
        {
            return Ok(());
        }
        let mut failed = S3Error::Failed {
            at: call.at(),
            action: call.action,
            status,
            what: what.clone(),
            tries: TryCount(tries.made),
            elapsed: tries.began.elapsed(),
            transient: remedy != Remedy::None,
        };
        if remedy == Remedy::None {
            return Err(match (status, code.as_str()) {
                (_, "NoSuchBucket") => S3Error::NoBucket { bucket: call.bucket.into() },
                (Some(404), "NoSuchKey" | "NotFound" | "") => S3Error::Missing { at: call.at() },
                (Some(401 | 403), _) if code != "RequestTimeTooSkewed" => S3Error::Denied {
                    at: call.at(),
                    action: call.action,
                    permission: call.permission,
                    advice: advice::denied(call, &code, &what, &self.settings).into(),
                    code: what.into(),
                },
                (status, code) => {
                    let advice = advice::failed(status, code, &what, region.as_deref());
                    if let (S3Error::Failed { what, .. }, Some(advice)) = (&mut failed, advice) {
                        what.push_str("; ");
                        what.push_str(&advice);
                    }
                    failed
                }
            });
        }
        if tries.made >= self.attempts {
            return Err(failed);
        }
        tracing::debug!(%what, at = %call.at(), "trying again to {}", call.action);
        let first = if remedy == Remedy::Slower { SLOW_PAUSE } else { PAUSE };
        let pause = first.saturating_mul(1 << (tries.made - 1).min(16)).min(MAX_PAUSE);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        if remedy == Remedy::Renew {
            self.renew(tries.generation).await?;
        }
        Ok(())
    }

    /// Renews the client with the present credentials of the usual places; once for all callers whose calls failed with
    /// the same client.
    async fn renew(&self, generation: u64) -> Result<(), S3Error> {
        let _alone = self.renewal.lock().await;
        if self.clients.read().unwrap_or_else(PoisonError::into_inner).generation == generation {
            let usual = within(self.timeout, client(&self.settings, self.timeout)).await?;
            // The regions of buckets are found out again.
            let new = Clients { generation: generation + 1, usual, elsewhere: HashMap::new() };
            *self.clients.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    /// Sends calls about a bucket to another region from now on. Returns false if they are sent there already.
    fn redirect(&self, bucket: &str, region: &str) -> bool {
        let moved = self.clients.write().unwrap_or_else(PoisonError::into_inner).redirect(bucket, region);
        if let Some(before) = &moved {
            tracing::info!("s3://{bucket} is in region {region}, not {before}: it is asked there");
        }
        moved.is_some()
    }
}

async fn within(time: Duration, client: impl Future<Output = Result<Client, S3Error>>) -> Result<Client, S3Error> {
    let slow = |_| Err(S3Error::NoCredentials(format!("the usual places did not give them within {time:?}")));
    tokio::time::timeout(time, client).await.unwrap_or_else(slow)
}
