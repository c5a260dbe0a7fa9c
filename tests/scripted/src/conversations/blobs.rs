//! Blobs, which other hosts serve.

use super::{BLOBS, Conversation, DEAD, OTHER, Scene, talk};
use crate::{Fault, What, Wire};

fn on_blobs(scene: &Scene, what: What) {
    scene.fault(Fault::on("/blobs/", what));
}

fn on_storage(scene: &Scene, what: What) {
    scene.registry.set_blob_host(Some(BLOBS));
    scene.fault(Fault::on("/storage/", what));
}

#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn table() -> Vec<Conversation> {
    vec![
        talk("blob from another host", "Reachable", |scene| {
            scene.registry.set_blob_host(Some(BLOBS));
        }),
        talk("blob from its own host", "Reachable", |scene| {
            scene.fault(Fault::at("/blob", What::json("x")));
            on_blobs(scene, What::redirect(307, "/blob"));
        }),
        talk("blob from a dead host", "ConnectionFailed", |scene| {
            scene.registry.set_blob_host(Some(DEAD));
        }),
        talk("blob by plain HTTP", "RefusedByOperator", |scene| {
            scene.registry.set_blob_host(Some("http://blobs.test"));
            scene.registry.set_wire(Wire::PlainToo);
        }),
        talk("blob from this machine", "RefusedByOperator", |scene| {
            let address = scene.registry.address().to_string();
            scene.registry.set_blob_host(Some(&address));
        }),
        talk(
            "blob from a CA that only nodes trust",
            "CertificateNotTrusted",
            |scene| {
                scene.registry.set_blob_host(Some(OTHER));
                scene.node_trusts.extend(scene.other.ca_pem());
            },
        ),
        talk("blob from a CA that nobody trusts", "CertificateNotTrusted", |scene| {
            scene.registry.set_blob_host(Some(OTHER));
        }),
        talk("blob redirected for ever", "RefusedByOperator", |scene| {
            on_blobs(scene, What::redirect(307, &format!("https://{BLOBS}/round")));
            scene.fault(Fault::at("/round", What::redirect(307, "/round")));
        }),
        talk("blob 307 without Location", "UnexpectedAnswer", |scene| {
            on_blobs(scene, What::status(307));
        }),
        talk("blob: ranges are 400", "Reachable", |scene| {
            on_blobs(scene, What::NoRange(400));
        }),
        talk("blob: ranges are 416", "Reachable", |scene| {
            on_blobs(scene, What::NoRange(416));
        }),
        talk("blob: ranges are 501", "Reachable", |scene| {
            on_blobs(scene, What::NoRange(501));
        }),
        talk("blob: ranges are 416 at another host", "Reachable", |scene| {
            on_storage(scene, What::NoRange(416));
        }),
        talk("blob 403", "Forbidden", |scene| on_blobs(scene, What::status(403))),
        talk("blob 404", "CanaryNotFound", |scene| on_blobs(scene, What::status(404))),
        talk("blob 404 at another host", "CanaryNotFound", |scene| {
            on_storage(scene, What::html(404));
        }),
        talk("blob 409, archived", "UnexpectedAnswer", |scene| {
            on_storage(scene, What::status(409));
        }),
        talk("blob 412", "CanaryBlocked", |scene| on_blobs(scene, What::status(412))),
        talk("blob 429 at another host", "RateLimited", |scene| {
            on_storage(scene, What::throttled(None));
        }),
        talk("blob 500", "ServerError", |scene| on_blobs(scene, What::status(500))),
        talk("blob 503 once", "Reachable", |scene| {
            scene.fault(Fault::on("/blobs/", What::status(503)).times(1));
        }),
        talk("blob breaks off once", "Reachable", |scene| {
            scene.fault(Fault::on("/blobs/", What::Truncated).times(1));
        }),
        talk("blob 503 at another host", "ServerError", |scene| {
            on_storage(scene, What::status(503));
        }),
        talk("blob never comes", "Timeout", |scene| on_blobs(scene, What::Hang)),
        talk("blob is closed before it comes", "ConnectionFailed", |scene| {
            on_blobs(scene, What::Close);
        }),
        talk("blob is empty", "UnexpectedAnswer", |scene| {
            on_blobs(scene, What::json(""));
        }),
        talk("blob is called compressed and is not", "Reachable", |scene| {
            on_blobs(
                scene,
                What::Headers(vec![("content-encoding".to_owned(), "gzip".to_owned())]),
            );
        }),
        talk("blob comes in ranges that were not asked for", "Reachable", |scene| {
            on_blobs(
                scene,
                What::Headers(vec![("content-range".to_owned(), "bytes 0-5/6".to_owned())]),
            );
        }),
    ]
}
