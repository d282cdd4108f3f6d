//! Modbus/TCP Security against a server with certificates of every kind.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tidegate::config::site::Framing;
use tidegate::reading::Quality;
use tidegate::tls::{FarEnd, Tls, TlsError, Wanted, in_words};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::rig::{Rig, far_end, tags};

const REQUEST: &[u8] = b"\x00\x07\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01";
const ANSWER: &[u8] = b"\x00\x07\x00\x00\x00\x05\x01\x03\x02\x12\x34";

/// An authority, and the folder in which all it has signed lies as PEM.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for these names.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    CertificateParams::new(names).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut authority = params(&[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "works authority");
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(authority, key) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `name.pem` and `name.key`, signed by the authority or by itself.
    pub(crate) fn issue(&self, name: &str, params: &CertificateParams, is_self_signed: bool) {
        let key = KeyPair::generate().unwrap();
        let certificate = if is_self_signed {
            params.self_signed(&key).unwrap()
        } else {
            params.signed_by(&key, &self.issuer).unwrap()
        };
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The client that trusts `ca`, with a certificate of its own or without.
    fn client(&self, ca: &str, identity: Option<&str>, server_name: &str) -> Result<Tls, TlsError> {
        let identity =
            identity.map(|name| (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key"))));
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        Tls::new(&Wanted {
            ca_file: Some(&self.file(ca)),
            identity,
            server_name,
            protocol: None,
            far_end: FarEnd::Device,
        })
    }

    /// What a device does that has the certificate `name`, and asks for one where `is_mutual`.
    pub(crate) fn acceptor(
        &self,
        name: &str,
        is_mutual: bool,
        version: &'static SupportedProtocolVersion,
    ) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let builder = if is_mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_file(self.file(&format!("{name}.pem"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

/// A device that answers one request; without an acceptor it speaks no TLS.
async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let Some(acceptor) = acceptor else {
        stream.read_u8().await?;
        return stream.write_all(ANSWER).await;
    };
    let mut stream = acceptor.accept(stream).await?;
    let mut request = [0; REQUEST.len()];
    stream.read_exact(&mut request).await?;
    assert_eq!(request, REQUEST);
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// Asks for a register over TLS.
async fn ask(tls: &Tls, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, acceptor));
    let mut stream = tls.connect(TcpStream::connect(address).await?).await?;
    let exchange = async {
        stream.write_all(REQUEST).await?;
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, ANSWER);
        Ok(())
    };
    exchange.await.map_err(|error| in_words(error, FarEnd::Device))
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// What is said where the device has this certificate; the client wants `plc-1`.
#[track_caller]
fn check(params: &CertificateParams, is_self_signed: bool, expected: &str) {
    let authority = Authority::new();
    authority.issue("device", params, is_self_signed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for version in VERSIONS {
        let tls = authority.client("ca.pem", None, "plc-1").unwrap();
        let result = runtime.block_on(ask(&tls, Some(authority.acceptor("device", false, version))));
        let said = result.map_or_else(|error| error.to_string(), |()| "answered".to_owned());
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_device_with_a_sound_certificate_answers() {
    check(&params(&["plc-1"]), false, "answered");
    check(&params(&["other", "plc-1"]), false, "answered");
}

#[test]
fn a_certificate_that_does_not_hold_is_refused_with_the_reason() {
    let mut expired = params(&["plc-1"]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    check(&expired, false, "the device's certificate is refused: it expired ");
    let mut future = params(&["plc-1"]);
    future.not_before = date_time_ymd(4000, 1, 1);
    check(&future, false, "is this machine's clock right?");
    check(&params(&["plc-2", "10.0.0.2"]), false, ", not for plc-1");
    check(&params(&[]), false, "it names no host and no address (subjectAltName); plc-1 is wanted");
    check(&params(&["plc-1"]), true, "its issuer is unknown, or it is signed by itself: `ca_file`");
    let mut authority = params(&["plc-1"]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    check(&authority, false, "it is marked as an authority");
}

#[tokio::test]
async fn a_device_is_reached_by_its_address_too() {
    let authority = Authority::new();
    authority.issue("device", &params(&["127.0.0.1"]), false);
    let tls = authority.client("ca.pem", None, "127.0.0.1").unwrap();
    ask(&tls, Some(authority.acceptor("device", false, &TLS13))).await.unwrap();
    let tls = authority.client("ca.pem", None, "127.0.0.2").unwrap();
    let error = ask(&tls, Some(authority.acceptor("device", false, &TLS13))).await.unwrap_err().to_string();
    assert!(error.contains("not for 127.0.0.2"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_the_device_has_signed_itself_can_be_its_ca_file() {
    let authority = Authority::new();
    authority.issue("device", &params(&["plc-1"]), true);
    let tls = authority.client("device.pem", None, "plc-1").unwrap();
    ask(&tls, Some(authority.acceptor("device", false, &TLS13))).await.unwrap();
}

#[tokio::test]
async fn a_device_that_wants_a_certificate_answers_with_it_and_says_so_without() {
    let authority = Authority::new();
    authority.issue("device", &params(&["plc-1"]), false);
    authority.issue("gateway", &params(&["gateway"]), false);
    authority.issue("stranger", &params(&["gateway"]), true);
    for version in VERSIONS {
        let ask = async |identity: Option<&str>| {
            let tls = authority.client("ca.pem", identity, "plc-1").unwrap();
            ask(&tls, Some(authority.acceptor("device", true, version))).await
        };
        ask(Some("gateway")).await.unwrap();
        let without = ask(None).await.unwrap_err().to_string();
        assert!(without.contains("`cert_file`"), "{version:?}: {without}");
        let stranger = ask(Some("stranger")).await.unwrap_err().to_string();
        assert!(
            stranger.contains("it does not know the issuer of our `cert_file`"),
            "{version:?}: {stranger}"
        );
    }
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_apart() {
    let authority = Authority::new();
    let tls = authority.client("ca.pem", None, "plc-1").unwrap();
    let error = ask(&tls, None).await.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused_at_once() {
    let authority = Authority::new();
    authority.issue("gateway", &params(&["gateway"]), false);
    authority.issue("other", &params(&["other"]), false);
    std::fs::copy(authority.file("other.key"), authority.file("gateway.key")).unwrap();
    let error = authority.client("ca.pem", Some("gateway"), "plc-1").unwrap_err().to_string();
    assert!(error.contains("gateway.key are no certificate and its key"), "{error}");
    std::fs::write(
        authority.file("gateway.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let error = authority.client("ca.pem", Some("gateway"), "plc-1").unwrap_err().to_string();
    assert!(error.contains("holds no private key that is not encrypted"), "{error}");
}

/// From the configuration to the values: a device behind mutual TLS is read, one with another's certificate is not.
#[tokio::test]
async fn a_device_is_read_over_tls_and_one_that_cannot_prove_itself_is_not_connected() {
    let authority = Authority::new();
    authority.issue("device", &params(&["127.0.0.1"]), false);
    authority.issue("gateway", &params(&["gateway"]), false);
    let strangers = Authority::new();
    strangers.issue("device", &params(&["127.0.0.1"]), false);
    let mut tasks = JoinSet::new();
    let mut text = String::new();
    for (name, of) in [("right", &authority), ("wrong", &strangers)] {
        let acceptor = of.acceptor("device", name == "right", &TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let file = |name: &str| authority.file(name).display().to_string();
        text += &format!(
            "[link.{name}]\ntcp = \"{}\"\ntls = true\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            listener.local_addr().unwrap(),
            file("ca.pem"),
            file("gateway.pem"),
            file("gateway.key")
        );
        text += &format!("[device.{name}]\nlink = \"{name}\"\nevery = \"100ms\"\n{}\n", tags(3, 2));
        let far = far_end(Framing::Tcp, [1], []);
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    far.clone().serve_stream(stream, None).await;
                }
            }
        });
    }
    let mut rig = Rig::start(&text);
    let heard = rig
        .hear_until(Duration::from_secs(10), |heard| heard.of("right") >= 30 && !heard.bad.is_empty())
        .await;
    heard.assert_true();
    assert!(heard.of("right") >= 30, "{heard:?}");
    assert_eq!(heard.of("wrong"), 0);
    assert_eq!(heard.bad["wrong:r0"], [Quality::BadNotConnected]);
    assert_eq!(heard.bad.len(), 3, "only those of the wrong one: {:?}", heard.bad);
}
