//! Profiles of the AWS configuration files.

use aws_config::profile::load;
use aws_types::os_shim_internal::{Env, Fs};
use edp_files::regular;
use edp_protocol::text::NamedFile;
use edp_store::{S3Error, S3Settings};
use std::io;

/// Refuses a file of credentials that cannot be opened, or is not a regular file. The SDK would wait for the process
/// that opens the other end of a FIFO.
///
/// # Errors
/// Returns an error that names the file and the reason.
pub(super) fn check_credentials(settings: &S3Settings) -> Result<(), S3Error> {
    let Some(file) = &settings.credentials else { return Ok(()) };
    regular::open(file).map(drop).map_err(|error| {
        let what = format!("{}: {error}", NamedFile(file));
        match error.kind() {
            // It may appear later, as the secrets of a container do.
            io::ErrorKind::NotFound => S3Error::NoCredentials(format!("store.s3.credentials: {what}")),
            _ => S3Error::Settings { key: "credentials", what },
        }
    })
}

/// Checks that the profile of the settings exists. Otherwise credentials of the environment would be used in its place,
/// unnoticed.
///
/// # Errors
/// Returns an error if there is no such profile, or the files cannot be read.
#[allow(deprecated)] // the names that replace these are in a crate that the SDK does not hand on
pub fn check_profile(settings: &S3Settings) -> Result<(), S3Error> {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let Some(name) = &settings.profile else { return Ok(()) };
    let fail = |what: String| Err(S3Error::Settings { key: "profile", what });
    check_credentials(settings)?;
    let files = match &settings.credentials {
        Some(file) => ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file).build(),
        None => ProfileFiles::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| S3Error::Io { path: "thread of S3".into(), source })?;
    match runtime.block_on(load(&Fs::real(), &Env::real(), &files, None)) {
        Ok(profiles) if profiles.get_profile(name).is_some() => Ok(()),
        Ok(_) => {
            let places = match &settings.credentials {
                Some(file) => file.display().to_string(),
                None => "the AWS configuration files (~/.aws/config and ~/.aws/credentials, or AWS_CONFIG_FILE and \
                         AWS_SHARED_CREDENTIALS_FILE)"
                    .into(),
            };
            fail(format!("there is no profile '{}' in {places}", name.escape_debug()))
        }
        // the message may contain a line with a secret
        Err(_) => fail("the AWS configuration files cannot be read".into()),
    }
}
