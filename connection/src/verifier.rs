//! The check of a server's certificate, as strict as sslmode says.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::certificate::Certificate;

/// Checks the server's certificate. Its proof that it has the key to it is checked always: channel binding needs that
/// even where the certificate itself may be anyone's.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// None takes any certificate.
    pub(crate) trust: Option<Trust>,
    pub(crate) verifies_name: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// The authorities, and beside them the certificates themselves: one that is in the root file is trusted as it is.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) chain: Arc<WebPkiServerVerifier>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// What the names of a certificate say about the host.
fn names_host(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate);
    let outcome = parsed.and_then(|parsed| verify_server_name(&parsed, host));
    outcome.or_else(|error| if common_name_is(certificate, &host.to_str()) { Ok(()) } else { Err(error) })
}

/// A certificate without any name of a host in subjectAltName is taken by its common name, as libpq does.
fn common_name_is(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Some(certificate) = Certificate::parse(certificate) else { return false };
    !certificate.has_alternative_names() && certificate.common_name().is_some_and(|name| matches_name(name, host))
}

/// `*.example.com` stands for exactly one more label.
fn matches_name(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, parent))) => {
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            !is_address && !label.is_empty() && domain.contains('.') && domain.eq_ignore_ascii_case(parent)
        }
        _ => false,
    }
}

impl Trust {
    fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.chain.verify_server_cert(certificate, intermediates, host, &[], now) {
            // The name is looked at last, so that everything else is in order. It is checked apart.
            Ok(_) | Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => Ok(()),
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => Err(CertificateError::Revoked.into()),
            Err(_) if self.roots.contains(certificate) => in_time(certificate, now),
            Err(error) => Err(error),
        }
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match Certificate::parse(certificate) {
        Some(certificate) if certificate.valid_at(seconds) => Ok(()),
        Some(_) => Err(CertificateError::Expired.into()),
        None => Err(CertificateError::BadEncoding.into()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            trust.check_chain(end_entity, intermediates, server_name, now)?;
        }
        if self.verifies_name {
            names_host(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if ParsedCertificate::try_from(cert).is_ok() {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        // A certificate of version 1, as openssl made them by default for years: its key is as good as any.
        let certificate = Certificate::parse(cert).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key_info);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_matches_as_in_libpq() {
        for (pattern, host, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*", "localhost", false),
            ("*.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("", "", true),
        ] {
            assert_eq!(matches_name(pattern, host), expected, "{pattern} {host}");
        }
    }
}
