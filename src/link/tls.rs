//! TLS to a device: the client of Modbus/TCP Security.
//!
//! TLS 1.2 or 1.3, the device's certificate checked against the authorities in `ca_file` and for the name it was
//! reached by, and a certificate of our own where one is given (MODBUS/TCP Security V2.1; port 802). The role that our
//! certificate may carry (8.3 there) is between its issuer and the device. Nothing can be switched off: a connection
//! that is not checked is no better than one without TLS.
//!
//! With TLS 1.3 a client is done before the server has looked at its certificate: a refusal comes with the first read.
//! [`in_words`] is for the errors of a stream after [`Tls::connect`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// Why there can be no TLS as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not to be had.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file has nothing of what it is for, or no sound PEM.
    #[error("{file} holds no {wanted} in PEM form: {reason}")]
    Pem {
        /// Which.
        file: PathBuf,
        /// What is looked for.
        wanted: &'static str,
        /// What was found.
        reason: String,
    },
    /// A certificate in `ca_file` cannot vouch for others.
    #[error("{file} holds a certificate that cannot be used: {source}")]
    Authority {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// `cert_file` and `key_file` do not go together, or cannot be used.
    #[error("{cert_file} and {key_file} are no certificate and its key: {source}")]
    Identity {
        /// `cert_file`
        cert_file: PathBuf,
        /// `key_file`
        key_file: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The device's name.
    #[error("\"{0}\" is neither a host name nor an address: no certificate can be for it")]
    Name(String),
    /// The library offers no protocol: a fault of the build.
    #[error("TLS is not available: {0}")]
    Library(#[source] rustls::Error),
}

/// How one device is reached over TLS.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads `ca_file`, and `cert_file` and `key_file` where `identity` has them; `server_name` is the host name or
    /// address, without a port, that the device's certificate must be for.
    ///
    /// # Errors
    /// Where a file cannot be read or used, or the name is none.
    pub fn new(ca_file: &Path, identity: Option<(&Path, &Path)>, server_name: &str) -> Result<Tls, TlsError> {
        let name = ServerName::try_from(server_name.to_owned());
        let server_name = name.map_err(|_| TlsError::Name(server_name.to_owned()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Authority { file: ca_file.to_owned(), source })?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                let chain = certificates(cert_file)?;
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| unreadable(key_file, "private key that is not encrypted", error))?;
                builder.with_client_auth_cert(chain, key).map_err(|source| TlsError::Identity {
                    cert_file: cert_file.to_owned(),
                    key_file: key_file.to_owned(),
                    source,
                })?
            }
        };
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    /// Shakes hands over `stream`.
    ///
    /// # Errors
    /// Where the far end speaks no TLS, its certificate does not hold, or it refuses ours, in words.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.server_name.clone(), stream).await.map_err(in_words)
    }
}

/// All certificates of a PEM file; at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(file).and_then(|certificates| certificates.collect());
    let found =
        found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    found.map_err(|error| unreadable(file, "certificate", error))
}

fn unreadable(file: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    let file = file.to_owned();
    if let pem::Error::Io(source) = error {
        return TlsError::Read { file, source };
    }
    TlsError::Pem { file, wanted, reason: error.to_string() }
}

/// An error of a TLS stream, said for whoever can mend it; other errors as they are.
#[must_use]
pub fn in_words(error: io::Error) -> io::Error {
    let said = match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            format!("the device's certificate is refused: {}", certificate_in_words(fault))
        }
        Some(rustls::Error::AlertReceived(alert)) => alert_in_words(*alert),
        Some(rustls::Error::InvalidMessage(_)) => {
            "what answers does not speak TLS: is the port right (802 is usual), and `tls` wanted?".to_owned()
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the far end hung up: does it speak TLS on this port?".to_owned()
        }
        None => return error,
    };
    io::Error::new(error.kind(), said)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by themselves")]
fn certificate_in_words(fault: &CertificateError) -> String {
    let days = |seconds: u64| seconds / 86_400;
    match fault {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "it expired {} days ago: renew it, or set this machine's clock",
            days(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "it becomes valid in {} days: is this machine's clock right?",
            days(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("it names no host and no address (subjectAltName); {} is wanted", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is for {}, not for {}", presented.join(", "), expected.to_str())
        }
        CertificateError::UnknownIssuer => {
            "its issuer is unknown: `ca_file` has no such authority".to_owned()
        }
        // rustls hands this reason of its verifier on without a type
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is marked as an authority: a device's own is to be made with basicConstraints CA:FALSE"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// What the device has against us.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by their names")]
fn alert_in_words(alert: AlertDescription) -> String {
    let advice = match alert {
        AlertDescription::CertificateRequired => "it wants a certificate: set `cert_file` and `key_file`",
        AlertDescription::HandshakeFailure => {
            "it wants a certificate (`cert_file`, `key_file`), or has only ciphers without forward secrecy or with CBC"
        }
        AlertDescription::UnknownCA => "it does not know the issuer of our `cert_file`",
        AlertDescription::CertificateExpired => "our `cert_file` has expired, or its clock is wrong",
        AlertDescription::CertificateRevoked => "our `cert_file` has been revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => "it does not accept our `cert_file`",
        AlertDescription::AccessDenied => {
            "our `cert_file` may not connect: has it the role that the device asks for?"
        }
        AlertDescription::ProtocolVersion => "it knows neither TLS 1.2 nor 1.3",
        _ => "an alert",
    };
    format!("the device refuses the connection: {advice} ({alert:?})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        std::fs::write(&file, content).unwrap();
        let error = Tls::new(&file, None, "plc").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_is_no_certificate_is_refused_by_name() {
        check("", "a.pem holds no certificate in PEM form: no items found");
        check("hello", "a.pem holds no certificate in PEM form: no items found");
        check("-----BEGIN CERTIFICATE-----\nAAAA", "missing section end");
        check(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "a certificate that cannot be used",
        );
        let missing = Tls::new(Path::new("/nowhere/ca.pem"), None, "plc").unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nowhere/ca.pem: No such file"), "{missing}");
    }

    #[test]
    fn a_name_is_a_host_or_an_address() {
        for name in ["", "plc:802", "two words"] {
            let error = Tls::new(Path::new("/nowhere/ca.pem"), None, name).unwrap_err();
            assert!(matches!(error, TlsError::Name(_)), "{name}: {error}");
        }
    }
}
