//! Certificates for encrypted connections.

use edp_files::regular;
use edp_protocol::text::NamedFile;
use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Largest size of a file of certificates or keys, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Certificates for `amqps://`. The broker's name is always verified: against the given authorities alone, or against
/// those that the system trusts.
#[derive(Default)]
pub struct Tls {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// The reason why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: {source}", NamedFile(.path))]
    Read {
        /// Purpose of the file.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file contains nothing of its kind in PEM form.
    #[error("{what} {}: it holds none in PEM form, or a damaged one", NamedFile(.path))]
    Content {
        /// Purpose of the file.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
    },
    /// There is a certificate without its key, or a key without its certificate.
    #[error("a client certificate and its key belong together: give both or none")]
    Half,
}

impl Tls {
    /// Reads PEM files: `ca` has the authorities to trust instead of those of the system; `certificate` (with its
    /// chain) and `key` identify this program to the broker.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or contains nothing usable, or if only one of `certificate` and `key`
    /// is given.
    pub fn read(ca: Option<&Path>, certificate: Option<&Path>, key: Option<&Path>) -> Result<Tls, TlsError> {
        let authorities = ca.map(|path| certificates("certificate authority", path)).transpose()?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("client certificate", certificate)?;
                let what = "key of the client certificate";
                let key = PrivateKeyDer::from_pem_slice(&read(what, key)?)
                    .map_err(|_| TlsError::Content { what, path: key.into() })?;
                Some((chain, key))
            }
            (None, None) => None,
            _ => return Err(TlsError::Half),
        };
        Ok(Tls { authorities: authorities.unwrap_or_default(), identity })
    }

    pub(super) fn connector(&self) -> io::Result<RustlsConnector> {
        let trusted = if self.authorities.is_empty() {
            RustlsConnectorConfig::new_with_native_certs()?
        } else {
            RustlsConnectorConfig::default().with_parsable_certificates(self.authorities.clone())
        };
        match &self.identity {
            Some((chain, key)) => trusted.connector_with_single_cert(chain.clone(), key.clone_key()),
            None => trusted.connector_with_no_client_auth(),
        }
    }
}

impl Clone for Tls {
    fn clone(&self) -> Tls {
        let identity = self.identity.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
        Tls { authorities: self.authorities.clone(), identity }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.is_some();
        f.debug_struct("Tls").field("authorities", &self.authorities.len()).field("identity", &identity).finish()
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(what, path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::Content { what, path: path.into() })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    regular::read(path, MAX_FILE).map_err(|source| TlsError::Read { what, path: path.into(), source })
}
