//! Calls to S3: with a deadline each, tried again after what passes, with new credentials when the old have expired.

use super::error::{At, Failure, Remedy, S3Error, Tried, causes};
use crate::settings::S3Settings;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{ProvideCredentials as _, RequestChecksumCalculation, StalledStreamProtectionConfig};
use aws_sdk_s3::types::RequestPayer;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Calls under way at once, of all threads.
const CALLS: usize = 64;

/// The first pause between two tries; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// Bytes that come through in a second at least; who is slower is given up.
const MIN_RATE: u64 = 64 << 10;

/// What is called, for deadlines and messages.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) action: &'static str,
    pub(super) permission: &'static str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// How many bytes go over the line.
    pub(super) bytes: u64,
}

impl Call<'_> {
    pub(super) fn at(&self) -> At {
        At::new(self.bucket, self.key)
    }

    /// The error for an answer of no use, that another try would not better.
    pub(super) fn failed(&self, what: impl Into<String>) -> S3Error {
        S3Error::Failed {
            at: self.at(),
            action: self.action,
            status: None,
            what: what.into(),
            tries: Tried(1),
            elapsed: Duration::ZERO,
            transient: false,
        }
    }
}

/// The tries of one call.
pub(super) struct Tries {
    began: Instant,
    made: u32,
    /// Which client the last one was made with.
    generation: u64,
}

impl Tries {
    pub(super) fn new() -> Tries {
        Tries { began: Instant::now(), made: 0, generation: 0 }
    }
}

/// The client, whoever uses it.
pub(super) struct Link {
    settings: S3Settings,
    timeout: Duration,
    attempts: u32,
    /// With the number of times that it was made anew.
    client: RwLock<(u64, Client)>,
    /// Held while it is made anew.
    renewal: Mutex<()>,
    calls: Semaphore,
}

impl Link {
    pub(super) async fn connect(settings: &S3Settings) -> Result<Link, S3Error> {
        let timeout = Duration::from_secs(u64::from(settings.timeout.unwrap_or(30).max(1)));
        let attempts = settings.attempts.unwrap_or(5).max(1);
        let client = within(timeout, client(settings, timeout)).await?;
        Ok(Link {
            settings: settings.clone(),
            timeout,
            attempts,
            client: RwLock::new((0, client)),
            renewal: Mutex::new(()),
            calls: Semaphore::new(CALLS),
        })
    }

    pub(super) fn payer(&self) -> Option<RequestPayer> {
        self.settings.requester_pays.unwrap_or(false).then_some(RequestPayer::Requester)
    }

    /// Makes a call until it succeeds or there is no sense in going on.
    pub(super) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        call: Call<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, S3Error> {
        let mut tries = Tries::new();
        loop {
            match self.once(&call, &mut tries, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.again(&call, &mut tries, failure).await?,
            }
        }
    }

    /// Makes a call once. Whatever it waits for is within its deadline: connecting, sending, checksums, the answer.
    pub(super) async fn once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        call: &Call<'_>,
        tries: &mut Tries,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        let _one_of_few = self.calls.acquire().await; // never closed
        let (generation, client) = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        tries.generation = generation;
        let deadline = self.timeout + Duration::from_secs(call.bytes / MIN_RATE);
        let result = tokio::time::timeout(deadline, request(client)).await;
        result.unwrap_or_else(|_| Err(Failure::broken(format!("no answer within {deadline:?}"))))
    }

    /// The beginning of an answer, whose body may take longer.
    pub(super) async fn begun<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::broken(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// There is no sense in another one.
    pub(super) async fn again(&self, call: &Call<'_>, tries: &mut Tries, failure: Failure) -> Result<(), S3Error> {
        tries.made += 1;
        let (remedy, status, code, what) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Call { remedy, status, code, what } => (remedy, status, code, what),
        };
        let mut failed = S3Error::Failed {
            at: call.at(),
            action: call.action,
            status,
            what: what.clone(),
            tries: Tried(tries.made),
            elapsed: tries.began.elapsed(),
            transient: remedy != Remedy::None,
        };
        if remedy == Remedy::None {
            return Err(match (status, code.as_str()) {
                (_, "NoSuchBucket") => S3Error::NoBucket { bucket: call.bucket.into() },
                (Some(404), "NoSuchKey" | "NotFound" | "") => S3Error::Missing { at: call.at() },
                (Some(403), _) | (Some(401), _) if code != "RequestTimeTooSkewed" => {
                    S3Error::Denied { at: call.at(), action: call.action, code: what, permission: call.permission }
                }
                (Some(301 | 307), _) => {
                    if let S3Error::Failed { what, .. } = &mut failed {
                        what.push_str("; the bucket is in another region: set AWS_REGION or store.s3.region");
                    }
                    failed
                }
                _ => failed,
            });
        }
        if tries.made >= self.attempts {
            return Err(failed);
        }
        tracing::debug!(%what, at = %call.at(), "trying again to {}", call.action);
        let pause = PAUSE.saturating_mul(1 << (tries.made - 1).min(16)).min(MAX_PAUSE);
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * (random() as f64 / u64::MAX as f64))).await;
        if remedy == Remedy::Renew {
            self.renew(tries.generation).await?;
        }
        Ok(())
    }

    /// Makes the client anew, with the credentials that the usual places have now; once for all whose calls failed
    /// with the same one.
    async fn renew(&self, generation: u64) -> Result<(), S3Error> {
        let _alone = self.renewal.lock().await;
        if self.client.read().unwrap_or_else(PoisonError::into_inner).0 == generation {
            let client = within(self.timeout, client(&self.settings, self.timeout)).await?;
            *self.client.write().unwrap_or_else(PoisonError::into_inner) = (generation + 1, client);
        }
        Ok(())
    }
}

/// A number that is another one each time.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

async fn within(time: Duration, client: impl Future<Output = Result<Client, S3Error>>) -> Result<Client, S3Error> {
    let slow = |_| Err(S3Error::NoCredentials(format!("the usual places did not give them within {time:?}")));
    tokio::time::timeout(time, client).await.unwrap_or_else(slow)
}

/// A client with the credentials of now.
async fn client(settings: &S3Settings, timeout: Duration) -> Result<Client, S3Error> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // tries and deadlines are ours
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(timeout.min(Duration::from_secs(10))).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(timeout).build())
        // stores other than AWS' do not all understand checksums that follow a body; we send ours before it
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    match (&settings.region, &settings.endpoint) {
        (Some(region), _) => loader = loader.region(Region::new(region.clone())),
        // outside of AWS the name of a region means little, and no EC2 machine need be asked
        (None, Some(_)) => {
            let mut profile = ProfileFileRegionProvider::builder();
            if let Some(name) = &settings.profile {
                profile = profile.profile_name(name);
            }
            let places =
                RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
            loader = loader.region(places.or_else(Region::from_static("us-east-1")));
        }
        (None, None) => {}
    }
    let anonymous = settings.anonymous.unwrap_or(false);
    if anonymous {
        loader = loader.no_credentials();
    } else if let Some(file) = &settings.credentials {
        loader = loader.credentials_provider(credentials_in(file, settings.profile.as_deref()));
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(S3Error::Settings {
            key: "region",
            what: "no region is known: set AWS_REGION, or name it here".into(),
        });
    }
    if let Some(provider) = config.credentials_provider().filter(|_| !anonymous) {
        provider.provide_credentials().await.map_err(|error| S3Error::NoCredentials(causes(&error)))?;
    }
    let mut config = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(settings.path_style.unwrap_or(settings.endpoint.is_some()));
    if anonymous {
        config = config.allow_no_auth();
    }
    Ok(Client::from_conf(config.build()))
}

/// The credentials of one file and nothing else.
#[allow(deprecated)] // the names that replace these are in a crate that the SDK does not hand on
fn credentials_in(file: &Path, profile: Option<&str>) -> ProfileFileCredentialsProvider {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file).build();
    let provider = ProfileFileCredentialsProvider::builder().profile_files(files);
    profile.into_iter().fold(provider, |provider, name| provider.profile_name(name)).build()
}
