//! TLS 1.3 to a server: who vouches for its certificate, and the binding that the handshake signs.
//!
//! A certificate that nobody vouches for is only noted where the server's own key is pinned. Sessions
//! are not resumed: a resumed one would skip the check.

use super::{CertTrust, DialError, safe};
use crate::origin::Origin;
use conclave_proto::handshake::EXPORTER_LABEL;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A stream under TLS.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    /// RFC 9266.
    pub(super) exporter: [u8; 32],
    pub(super) unknown_cert: bool,
}

/// Does the TLS handshake.
pub(super) async fn secure(
    origin: &Origin,
    trust: CertTrust,
    tcp: TcpStream,
) -> Result<Secured, DialError> {
    let failed = |why: String| DialError::Tls {
        to: origin.host().to_owned(),
        why: safe(&why),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = tokio::task::spawn_blocking(roots)
        .await
        .map_err(|e| failed(e.to_string()))?;
    let verifier = Arc::new(Verifier {
        // Without a single root there is no verifier, and every certificate is unknown.
        web_pki: WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .ok(),
        trust,
        unknown: AtomicBool::new(false),
        provider: Arc::clone(&provider),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| failed(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(origin.bare_host().to_owned())
        .map_err(|_| failed("the host is no name that a certificate can have".to_owned()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|e| explain(origin, &e))?;
    let (_, session) = stream.get_ref();
    let exporter = session
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .map_err(|e| failed(e.to_string()))?;
    Ok(Secured {
        stream,
        exporter,
        unknown_cert: verifier.unknown.load(Ordering::Relaxed),
    })
}

/// Returns the system's authorities, read once.
fn roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (added, ignored) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        tracing::debug!(added, ignored, "certificate authorities read");
        Arc::new(roots)
    });
    Arc::clone(roots)
}

fn explain(origin: &Origin, error: &io::Error) -> DialError {
    let to = origin.host().to_owned();
    let why = safe(&error.to_string());
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    match cause {
        Some(TlsError::InvalidCertificate(_)) => DialError::Certificate { to, why },
        _ => DialError::Tls { to, why },
    }
}

#[derive(Debug)]
struct Verifier {
    web_pki: Option<Arc<WebPkiServerVerifier>>,
    trust: CertTrust,
    unknown: AtomicBool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verdict = match &self.web_pki {
            Some(web_pki) => web_pki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match self.trust {
            CertTrust::WebPki => verdict,
            CertTrust::Pinned => {
                self.unknown.store(verdict.is_err(), Ordering::Relaxed);
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
