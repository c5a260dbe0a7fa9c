//! What broke, when there is no answer: an error's source chain, read from the inside.

use std::error::Error;
use std::io;

use catamaran_core::endpoint::Unavailable;
use rustls::{AlertDescription, CertificateError};

use crate::wire::dns::DnsError;
use crate::wire::failure::{Class, Failure, Stage, one_line};

/// Classifies an error of reqwest. The stage is `stage` unless the error shows that it never came so far.
pub(crate) fn failure(error: &reqwest::Error, stage: Stage, request: &str) -> Failure {
    if let Some(dns) = find::<DnsError>(error) {
        return unresolved(dns, lower(Stage::Dns, error, stage), request);
    }
    if let Some(text) = find::<rustls::Error>(error).and_then(about_our_certificate) {
        // With TLS 1.3 the registry says so when the handshake is over for us.
        let reached = if is_own(stage) { Stage::Tls } else { stage };
        return Failure::new(reached, Class::Unauthorized, format!("{request}: TLS: {text}"));
    }
    if let Some(text) = find::<rustls::Error>(error).and_then(not_trusted) {
        let reached = lower(Stage::Tls, error, stage);
        return Failure::new(reached, Class::UntrustedCertificate, format!("{request}: TLS: {text}"));
    }
    if let Some(text) = not_understood(error) {
        return Failure::new(stage, Class::Unexpected, format!("{request}: {text}"));
    }
    if let Some((class, text)) = refused_by_proxy(error) {
        let reached = if is_own(stage) { Stage::Connect } else { stage };
        return Failure::new(reached, class, format!("{request}: {text}"));
    }
    let (why, text, reached) = cause(error, stage);
    let reached = lower(reached, error, stage);
    Failure::new(reached, Class::Unavailable(why), format!("{request}: {text}"))
}

/// Classifies an address that we did not get, or that we refuse.
pub(crate) fn unresolved(error: &DnsError, stage: Stage, request: &str) -> Failure {
    let class = match error {
        DnsError::NotResolved { .. } => Class::Unavailable(Unavailable::DnsFailure),
        DnsError::Refused { .. } => Class::RefusedAddress,
    };
    Failure::new(stage, class, format!("{request}: {}", one_line(&error.to_string())))
}

/// Whether the other side closed the connection before it had answered.
pub(crate) fn is_closed(error: &reqwest::Error) -> bool {
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message)
        || find::<io::Error>(error).is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}

/// Whether a connection that stood was gone before the answer: most often one that had been idle for a while.
pub(crate) fn is_dropped(error: &reqwest::Error) -> bool {
    let is_reset = |io: &io::Error| {
        matches!(
            io.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
        )
    };
    !error.is_connect() && (is_closed(error) || find::<io::Error>(error).is_some_and(is_reset))
}

/// A token endpoint or a blob host that can't be reached fails its own stage: the registry's name, port and certificate are
/// good. Only the registry's first request tells about the stages below.
fn lower(reached: Stage, error: &reqwest::Error, stage: Stage) -> Stage {
    if is_own(stage) && error.is_connect() {
        reached
    } else {
        stage
    }
}

/// Whether a request on this stage goes to the registry itself.
fn is_own(stage: Stage) -> bool {
    !matches!(stage, Stage::Exchange | Stage::Token | Stage::Blob)
}

/// What the other side says of our certificate, or of its absence: a matter of credentials, not an outage.
fn about_our_certificate(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::AlertReceived(alert) = error else {
        return None;
    };
    match alert {
        AlertDescription::CertificateRequired => {
            Some("the server wants a client certificate, and there is none (tls.crt and tls.key in certSecretRef)")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            Some("the server does not accept our client certificate (tls.crt and tls.key in certSecretRef)")
        }
        _ => None,
    }
}

/// What is wrong with a certificate that is good for anyone who trusts its CA, or reads certificates less strictly. One that has
/// expired, was revoked, or is another name's, is good for nobody.
fn not_trusted(error: &rustls::Error) -> Option<String> {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, Revoked,
    };
    let rustls::Error::InvalidCertificate(why) = error else {
        return None;
    };
    let nobody = matches!(
        why,
        Expired
            | ExpiredContext { .. }
            | NotValidYet
            | NotValidYetContext { .. }
            | NotValidForName
            | NotValidForNameContext { .. }
            | Revoked
    );
    (!nobody).then(|| one_line(&error.to_string()))
}

/// What came over a connection that works, and is no answer in HTTP as it is read here.
fn not_understood(error: &reqwest::Error) -> Option<String> {
    if error.is_builder() {
        return Some(format!("can't be asked for: {}", root_cause(error)));
    }
    let hyper = find::<hyper::Error>(error).filter(|hyper| hyper.is_parse())?;
    Some(format!("not a registry's answer: {}", one_line(&hyper.to_string())))
}

/// What a proxy answered to `CONNECT`. Of its answer only this much is known: 407, or another that is not 200; that may be an
/// outage of the registry as well as a rule of the proxy.
fn refused_by_proxy(error: &reqwest::Error) -> Option<(Class, &'static str)> {
    let text = root_cause(error);
    match text.strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Some((
            Class::NetworkDenied,
            "the proxy wants a user name and password, which can stand in HTTPS_PROXY",
        )),
        "unsuccessful" => Some((
            Class::Unavailable(Unavailable::ConnectionFailed),
            "the proxy gives no connection to it",
        )),
        "unexpected end of file" => Some((
            Class::Unavailable(Unavailable::ConnectionFailed),
            "the proxy closed the connection",
        )),
        _ => None,
    }
}

fn cause(error: &reqwest::Error, stage: Stage) -> (Unavailable, String, Stage) {
    if let Some(tls) = find::<rustls::Error>(error) {
        return (
            Unavailable::TlsError,
            format!("TLS: {}", one_line(&tls.to_string())),
            Stage::Tls,
        );
    }
    if error.is_timeout() {
        let text = if error.is_connect() {
            "no connection in time"
        } else {
            "no complete answer in time"
        };
        return (Unavailable::Timeout, text.to_owned(), Stage::Connect);
    }
    if let Some(io) = find::<io::Error>(error)
        && let Some(known) = io_cause(io, error.is_connect())
    {
        return known;
    }
    if let Some(hyper) = find::<hyper::Error>(error)
        && (hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled())
    {
        let text = "connection closed before the answer was complete".to_owned();
        return (Unavailable::ConnectionFailed, text, stage);
    }
    (Unavailable::ConnectionFailed, root_cause(error), Stage::Connect)
}

fn io_cause(error: &io::Error, connecting: bool) -> Option<(Unavailable, String, Stage)> {
    let (why, text, reached) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Unavailable::ConnectionFailed, "connection refused", Stage::Connect),
        io::ErrorKind::NetworkUnreachable => (Unavailable::ConnectionFailed, "network unreachable", Stage::Connect),
        io::ErrorKind::HostUnreachable => (Unavailable::ConnectionFailed, "host unreachable", Stage::Connect),
        io::ErrorKind::TimedOut => (Unavailable::Timeout, "no connection in time", Stage::Connect),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            // While connecting, TCP may stand already: a reset then ends the TLS handshake.
            (Unavailable::ConnectionFailed, "connection reset", Stage::Tls)
        }
        io::ErrorKind::UnexpectedEof if connecting => (
            Unavailable::TlsError,
            "TLS: connection closed during the handshake",
            Stage::Tls,
        ),
        io::ErrorKind::UnexpectedEof => (
            Unavailable::ConnectionFailed,
            "connection closed before the answer was complete",
            Stage::Connect,
        ),
        _ => return None,
    };
    Some((why, text.to_owned(), reached))
}

/// Looks for an error of one type in the chain. An `io::Error` hides the error inside it from `source`, so ask it as well.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            // Of nested errors of one kind the innermost knows best.
            return current
                .source()
                .and_then(find)
                .or_else(|| inside(current).and_then(find))
                .or(Some(found));
        }
        if let Some(found) = inside(current).and_then(find) {
            return Some(found);
        }
        next = current.source();
    }
    None
}

fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

/// The innermost error's words.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = inside(current).or_else(|| current.source()) {
        current = source;
    }
    one_line(&current.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let inner = rustls::Error::General("x".to_owned());
        let middle = io::Error::new(io::ErrorKind::InvalidData, inner);
        let outer = io::Error::other(middle);
        assert!(find::<rustls::Error>(&outer).is_some());
        assert!(find::<DnsError>(&outer).is_none());
        assert_eq!(root_cause(&outer), "unexpected error: x");
    }

    #[test]
    fn of_nested_io_errors_the_innermost_counts() {
        let outer = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(
            find::<io::Error>(&outer).map(io::Error::kind),
            Some(io::ErrorKind::ConnectionRefused)
        );
    }
}
