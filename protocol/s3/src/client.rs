//! The client of the SDK, by our settings and those of AWS programs.

use super::error::causes;
use super::profile::check_credentials;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    ProvideCredentials as _, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_types::service_config::ServiceConfigKey;
use edp_store::{S3Error, S3Settings};
use std::path::Path;
use std::time::Duration;

/// Environment variables of AWS programs that name a service other than AWS.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// The region for services that do not have regions.
const USUAL_REGION: &str = "us-east-1";

/// Makes a client with the present credentials.
pub(super) async fn client(settings: &S3Settings, timeout: Duration) -> Result<Client, S3Error> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // retries and deadlines are ours
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(timeout.min(Duration::from_secs(10))).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(timeout).build())
        // not all stores other than AWS understand checksums that follow a body; we send ours before it
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        // nor the header that asks for checksums of what is read, which parts of objects do not have anyway
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    // if one is configured elsewhere, in a profile, that shows only after loading
    let elsewhere = settings.endpoint.is_some() || ENDPOINTS.iter().any(|name| std::env::var(name).is_ok());
    match (&settings.region, elsewhere) {
        (Some(region), _) => loader = loader.region(Region::new(region.clone())),
        // outside AWS the name of a region means little, and no EC2 machine need be asked
        (None, true) => {
            let mut profile = ProfileFileRegionProvider::builder();
            if let Some(name) = &settings.profile {
                profile = profile.profile_name(name);
            }
            let places =
                RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
            loader = loader.region(places.or_else(Region::from_static(USUAL_REGION)));
        }
        (None, false) => {}
    }
    let anonymous = settings.anonymous;
    if anonymous {
        loader = loader.no_credentials();
    } else if let Some(file) = &settings.credentials {
        check_credentials(settings)?;
        loader = loader.credentials_provider(credentials_in(file, settings.profile.as_deref()));
    }
    let config = loader.load().await;
    let endpoint = endpoint(settings, &config)?;
    if config.region().is_none() && endpoint.is_none() {
        return Err(S3Error::Settings {
            key: "region",
            what: "no region is known: set AWS_REGION, or name it here".into(),
        });
    }
    if let Some(provider) = config.credentials_provider().filter(|_| !anonymous) {
        provider.provide_credentials().await.map_err(|error| S3Error::NoCredentials(causes(&error)))?;
    }
    let region = config.region().cloned().unwrap_or(Region::from_static(USUAL_REGION));
    let mut config = aws_sdk_s3::config::Builder::from(&config)
        .region(region)
        // few services other than AWS have a host name for each bucket
        .force_path_style(settings.path_style.unwrap_or(endpoint.is_some()));
    config.set_endpoint_url(endpoint);
    if anonymous {
        config = config.allow_no_auth();
    }
    Ok(Client::from_conf(config.build()))
}

/// Returns the credentials of one file and of no other place.
#[allow(deprecated)] // the names that replace these are in a crate that the SDK does not hand on
fn credentials_in(file: &Path, profile: Option<&str>) -> ProfileFileCredentialsProvider {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file).build();
    let provider = ProfileFileCredentialsProvider::builder().profile_files(files);
    profile.into_iter().fold(provider, |provider, name| provider.profile_name(name)).build()
}

/// Returns the address of a service other than AWS, if there is one: our setting, else that of AWS programs in
/// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile.
///
/// # Errors
/// Returns an error if it is not an address.
fn endpoint(settings: &S3Settings, config: &SdkConfig) -> Result<Option<String>, S3Error> {
    if settings.endpoint.is_some() {
        return Ok(settings.endpoint.clone());
    }
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_s3 = key.ok().and_then(|key| config.service_config()?.load_config(key));
    let endpoint = of_s3.or_else(|| config.endpoint_url().map(str::to_owned)).filter(|text| !text.is_empty());
    let good = |text: &String| (text.starts_with("https://") || text.starts_with("http://")) && !text.contains('@');
    match endpoint {
        Some(text) if !good(&text) => Err(S3Error::Settings {
            key: "endpoint",
            what:
                "write https://host:port into AWS_ENDPOINT_URL, or into endpoint_url of the profile, without user and \
                   password"
                    .into(),
        }),
        endpoint => Ok(endpoint),
    }
}
