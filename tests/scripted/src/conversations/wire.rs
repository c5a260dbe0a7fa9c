//! What happens below HTTP.

use super::{Conversation, HOST, talk};
use crate::{Certificate, Fault, What, Wire};

pub(super) fn table() -> Vec<Conversation> {
    vec![
        talk("a certificate that has expired", "TLSError", |scene| {
            scene.registry.set_certificate(Certificate::Expired);
        }),
        talk("a certificate of another name", "TLSError", |scene| {
            scene.registry.set_certificate(Certificate::WrongName);
        }),
        talk("a certificate that nobody trusts", "CertificateNotTrusted", |scene| {
            scene.registry.set_certificate(Certificate::SelfSigned);
        }),
        talk("a certificate that is its own CA", "Reachable", |scene| {
            scene.registry.set_certificate(Certificate::OwnCa);
            let certificate = scene.registry.certificate_pem(Certificate::OwnCa, HOST);
            scene.operator_trusts.clone_from(&certificate);
            scene.node_trusts = certificate;
        }),
        talk("TLS 1.2 at most", "Reachable", |scene| {
            scene.registry.set_wire(Wire::Tls12);
        }),
        talk("HTTP/2 goes away", "Reachable", |scene| {
            scene.registry.set_wire(Wire::BrokenHttp2);
        }),
        talk("another protocol inside of TLS", "UnexpectedAnswer", |scene| {
            scene.registry.set_wire(Wire::Garbage);
        }),
        talk("plain HTTP instead of TLS", "TLSError", |scene| {
            scene.registry.set_wire(Wire::Plain);
        }),
        talk("TLS never answers", "Timeout", |scene| {
            scene.registry.set_wire(Wire::Silent);
        }),
        talk("TLS is closed", "TLSError", |scene| {
            scene.registry.set_wire(Wire::Close);
        }),
        talk("TLS is reset", "ConnectionFailed", |scene| {
            scene.registry.set_wire(Wire::Reset);
        }),
        talk("the connection is closed", "ConnectionFailed", |scene| {
            scene.registry.fault(Fault::on("/manifests/", What::Close));
        }),
        talk("the connection is closed once", "Reachable", |scene| {
            scene.registry.fault(Fault::on("/manifests/", What::Close).times(1));
        }),
        talk("the connection is closed four times", "Reachable", |scene| {
            scene.registry.fault(Fault::on("/manifests/", What::Close).times(4));
        }),
        talk("the connection is reset", "ConnectionFailed", |scene| {
            scene.registry.fault(Fault::on("/manifests/", What::Reset));
        }),
        talk("no answer", "Timeout", |scene| {
            scene.registry.fault(Fault::on("/manifests/", What::Hang));
        }),
    ]
}
