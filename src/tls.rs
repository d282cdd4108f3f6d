//! TLS to whoever we connect to: a device (Modbus/TCP Security) or a broker.
//!
//! TLS 1.2 or 1.3, the far end's certificate checked against the authorities in `ca_file`, or those of this machine for a
//! broker, and for the name it was reached by; a certificate of our own where one is given (MODBUS/TCP Security V2.1; port
//! 802). The role that our certificate may carry (8.3 there) is between its issuer and the device. Nothing can be switched
//! off: a connection that is not checked is no better than one without TLS.
//!
//! With TLS 1.3 a client is done before the server has looked at its certificate: a refusal comes with the first read.
//! [`in_words`] is for the errors of a stream after [`Tls::connect`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// Where Linux systems keep the authorities that they trust: Debian, Alpine and Arch; Fedora and Red Hat; SUSE; others.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Who is at the far end, for what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// Of a link.
    Device,
    /// Of an uplink.
    Broker,
}

impl FarEnd {
    const fn noun(self) -> &'static str {
        match self {
            FarEnd::Device => "device",
            FarEnd::Broker => "broker",
        }
    }

    const fn no_tls(self) -> &'static str {
        match self {
            FarEnd::Device => {
                "what answers does not speak TLS: is the port right (802 is usual), and `tls` wanted?"
            }
            FarEnd::Broker => {
                "what answers does not speak TLS: is the port right (8883 is usual, 443 for wss://)?"
            }
        }
    }
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The authorities that are trusted; none: those of this machine.
    pub ca_file: Option<&'a Path>,
    /// `cert_file` and `key_file`.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// The host name or address, without a port, that the far end's certificate must be for.
    pub server_name: &'a str,
    /// The protocol that is asked for (ALPN, RFC 7301), where one is.
    pub protocol: Option<&'a str>,
    /// Who is there.
    pub far_end: FarEnd,
}

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
    /// This machine has no list of authorities.
    #[error(
        "this machine has no list of authorities that it trusts: install ca-certificates, or set `ca_file`"
    )]
    NoAuthorities,
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
    /// The far end's name.
    #[error("\"{0}\" is neither a host name nor an address: no certificate can be for it")]
    Name(String),
    /// The library offers no protocol: a fault of the build.
    #[error("TLS is not available: {0}")]
    Library(#[source] rustls::Error),
}

/// How one far end is reached over TLS.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
    far_end: FarEnd,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where a file cannot be read or used, or the name is none.
    pub fn new(wanted: &Wanted<'_>) -> Result<Tls, TlsError> {
        let name = ServerName::try_from(wanted.server_name.to_owned());
        let server_name = name.map_err(|_| TlsError::Name(wanted.server_name.to_owned()))?;
        let roots = match wanted.ca_file {
            Some(file) => authorities(file)?,
            None => system_authorities(&SYSTEM_AUTHORITIES)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .with_root_certificates(roots);
        let mut config = match wanted.identity {
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
        config.alpn_protocols = wanted.protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), server_name, far_end: wanted.far_end })
    }

    /// Shakes hands over `stream`.
    ///
    /// # Errors
    /// Where the far end speaks no TLS, its certificate does not hold, or it refuses ours, in words.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let connected = self.connector.connect(self.server_name.clone(), stream).await;
        connected.map_err(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            if matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) {
                return io::Error::new(error.kind(), "the far end hung up: does it speak TLS on this port?");
            }
            in_words(error, self.far_end)
        })
    }
}

/// The authorities of one file, each of which must be sound: a person has chosen it.
fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { file: file.to_owned(), source })?;
    }
    Ok(roots)
}

/// The authorities of the first file that has any. Among a hundred of them some may be of a kind that is not known here.
fn system_authorities(files: &[&str]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificates in files.iter().filter_map(|file| certificates(Path::new(file)).ok()) {
        let (usable, _) = roots.add_parsable_certificates(certificates);
        if usable > 0 {
            return Ok(roots);
        }
    }
    Err(TlsError::NoAuthorities)
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
pub fn in_words(error: io::Error, far_end: FarEnd) -> io::Error {
    let noun = far_end.noun();
    let said = match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            format!("the {noun}'s certificate is refused: {}", certificate_in_words(fault))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the {noun} refuses the connection: {} ({alert:?})", alert_in_words(*alert))
        }
        Some(rustls::Error::InvalidMessage(_)) => far_end.no_tls().to_owned(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the far end hung up".to_owned(),
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
            "its issuer is unknown, or it is signed by itself: `ca_file` (without it, this machine's list) has no \
             such authority"
                .to_owned()
        }
        // rustls hands this reason of its verifier on without a type
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is marked as an authority, or signed by itself: one for a host is to be made with basicConstraints CA:FALSE"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// What the far end has against us.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by their names")]
fn alert_in_words(alert: AlertDescription) -> &'static str {
    match alert {
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
            "our `cert_file` may not connect: has it the role that is asked for?"
        }
        AlertDescription::ProtocolVersion => "it knows neither TLS 1.2 nor 1.3",
        AlertDescription::NoApplicationProtocol => "it does not serve this protocol on this port",
        _ => "an alert",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(ca_file: &'a Path, server_name: &'a str) -> Wanted<'a> {
        Wanted {
            ca_file: Some(ca_file),
            identity: None,
            server_name,
            protocol: None,
            far_end: FarEnd::Device,
        }
    }

    #[track_caller]
    fn check(content: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        std::fs::write(&file, content).unwrap();
        let error = Tls::new(&wanted(&file, "plc")).unwrap_err().to_string();
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
        let missing = Tls::new(&wanted(Path::new("/nowhere/ca.pem"), "plc")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nowhere/ca.pem: No such file"), "{missing}");
    }

    #[test]
    fn a_name_is_a_host_or_an_address() {
        for name in ["", "plc:802", "two words"] {
            let error = Tls::new(&wanted(Path::new("/nowhere/ca.pem"), name)).unwrap_err();
            assert!(matches!(error, TlsError::Name(_)), "{name}: {error}");
        }
    }

    #[test]
    fn a_machine_without_authorities_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let error =
            system_authorities(&["/nowhere/ca.pem", empty.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("install ca-certificates, or set `ca_file`"), "{error}");
    }
}
