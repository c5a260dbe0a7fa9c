//! Manifests, and `/v2/`, which only people ask for.

use http::Method;

use super::{BLOBS, Conversation, HOST, Scene, an_index_of_nothing, headers, talk};
use crate::{Auth, Fault, What};

const MANIFESTS: &str = "/manifests/";

fn on_manifests(scene: &Scene, what: What) {
    scene.fault(Fault::on(MANIFESTS, what));
}

fn on_heads(scene: &Scene, what: What) {
    scene.fault(Fault::on(MANIFESTS, what).method(Method::HEAD));
}

fn on_base(scene: &Scene, what: What) {
    scene.fault(Fault::at("/v2/", what));
}

#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn table() -> Vec<Conversation> {
    vec![
        talk("as it should be", "Reachable", |_| {}),
        talk("open to everybody", "Reachable", |scene| {
            scene.registry.set_auth(Auth::Open);
        }),
        talk("/v2/ is 404", "Reachable", |scene| on_base(scene, What::status(404))),
        talk("/v2/ is 405", "Reachable", |scene| on_base(scene, What::status(405))),
        talk("/v2/ is 503", "Reachable", |scene| on_base(scene, What::status(503))),
        talk("/v2/ is a web page", "Reachable", |scene| {
            on_base(scene, What::html(200));
        }),
        talk("/v2/ never answers", "Reachable", |scene| on_base(scene, What::Hang)),
        talk("/v2/ redirects to a web site", "Reachable", |scene| {
            on_base(scene, What::redirect(302, "https://registry.test/about"));
        }),
        talk("HEAD is 400", "UnexpectedAnswer", |scene| {
            on_heads(scene, What::status(400));
        }),
        talk("HEAD is 403", "Forbidden", |scene| on_heads(scene, What::status(403))),
        talk("HEAD is 404", "Reachable", |scene| on_heads(scene, What::status(404))),
        talk("HEAD is 405", "Reachable", |scene| on_heads(scene, What::status(405))),
        talk("HEAD is 501", "Reachable", |scene| on_heads(scene, What::status(501))),
        talk("HEAD is 500", "ServerError", |scene| on_heads(scene, What::status(500))),
        talk("manifest 400", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(400));
        }),
        talk("manifest 403, no right", "Forbidden", |scene| {
            on_manifests(
                scene,
                What::error(403, "DENIED", "requested access to the resource is denied"),
            );
        }),
        talk("manifest 403, a firewall", "NetworkDenied", |scene| {
            let words = "client with IP '172.214.169.102' is not allowed access. Refer https://aka.ms/acr/firewall";
            on_manifests(scene, What::error(403, "DENIED", words));
        }),
        talk("manifest 403, a rate limit", "RateLimited", |scene| {
            on_manifests(scene, What::error(403, "", "You have exceeded a secondary rate limit"));
        }),
        talk("manifest 404, a web page", "CanaryNotFound", |scene| {
            on_manifests(scene, What::html(404));
        }),
        talk("manifest 404, its words", "CanaryNotFound", |scene| {
            on_manifests(scene, What::error(404, "MANIFEST_UNKNOWN", "manifest unknown"));
        }),
        talk("manifest 408", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(408));
        }),
        talk("manifest 410", "CanaryBlocked", |scene| {
            on_manifests(scene, What::status(410));
        }),
        talk("manifest 412, a project's policy", "CanaryBlocked", |scene| {
            let words = "current image with 3 vulnerabilities can't be pulled due to configured policy";
            on_manifests(scene, What::error(412, "PROJECTPOLICYVIOLATION", words));
        }),
        talk("manifest 423", "CanaryBlocked", |scene| {
            on_manifests(scene, What::status(423));
        }),
        talk("manifest 429", "RateLimited", |scene| {
            on_manifests(scene, What::throttled(Some("1")));
        }),
        talk("manifest 451", "CanaryBlocked", |scene| {
            on_manifests(scene, What::status(451));
        }),
        talk("manifest 500", "ServerError", |scene| {
            on_manifests(scene, What::status(500));
        }),
        talk("manifest 502, a web page", "ServerError", |scene| {
            on_manifests(scene, What::html(502));
        }),
        talk("manifest 503", "ServerError", |scene| {
            on_manifests(scene, What::status(503));
        }),
        talk("manifest 503 once", "Reachable", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::status(503)).times(1));
        }),
        talk("manifest 503 every other time", "Reachable", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::status(503)).one_in(2));
        }),
        talk("manifest 500, then 503, then well", "Reachable", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::status(500)).times(1));
            scene.fault(Fault::on(MANIFESTS, What::status(503)).times(1));
        }),
        talk("manifest 502 every other time", "ServerError", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::status(502)).one_in(2));
        }),
        talk("manifest 600", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(600));
        }),
        talk("manifest 200, a web page", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::html(200));
        }),
        talk("manifest 204", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(204));
        }),
        talk("manifest without a type", "Reachable", |scene| {
            on_manifests(scene, What::Headers(vec![("content-type".to_owned(), String::new())]));
        }),
        talk("its digest header is empty", "Reachable", |scene| {
            on_manifests(scene, What::digest(" "));
        }),
        talk("its digest header is no digest", "Reachable", |scene| {
            on_manifests(scene, What::digest("sha256:zz"));
        }),
        talk("its digest header is missing", "Reachable", |scene| {
            on_manifests(scene, What::digest(""));
        }),
        talk("its digest header is another's", "CanaryBlocked", |scene| {
            on_manifests(scene, What::digest(&format!("sha256:{}", "0".repeat(64))));
        }),
        talk("its content is another's", "CanaryBlocked", |scene| {
            on_manifests(scene, an_index_of_nothing());
        }),
        talk("its content is compressed", "UnexpectedAnswer", |scene| {
            let gzip = What::Headers(vec![("content-encoding".to_owned(), "gzip".to_owned())]);
            scene.fault(Fault::on(MANIFESTS, gzip).method(Method::GET));
        }),
        talk("its content breaks off", "ConnectionFailed", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::Truncated).method(Method::GET));
        }),
        talk("its content breaks off once", "Reachable", |scene| {
            scene.fault(Fault::on(MANIFESTS, What::Truncated).method(Method::GET).times(1));
        }),
        talk("its content is 5 MiB long", "UnexpectedAnswer", |scene| {
            let what = Scene::answer(200, &[], &" ".repeat(5 << 20));
            scene.fault(Fault::on(MANIFESTS, what).method(Method::GET));
        }),
        talk("an answer with 120 headers", "UnexpectedAnswer", |scene| {
            on_manifests(scene, headers(120, 1));
        }),
        talk("an answer with 100 kB of headers", "UnexpectedAnswer", |scene| {
            on_manifests(scene, headers(20, 5000));
        }),
    ]
}

/// Redirects of manifests.
pub(super) fn redirects() -> Vec<Conversation> {
    vec![
        talk("manifest redirected to another host", "Reachable", |scene| {
            scene.fault(Fault::at("/elsewhere", scene.manifest()));
            on_manifests(scene, What::redirect(307, &format!("https://{BLOBS}/elsewhere")));
        }),
        talk("manifest redirected to the same host", "Reachable", |scene| {
            scene.fault(Fault::at("/elsewhere", scene.manifest()));
            on_manifests(scene, What::redirect(307, &format!("https://{HOST}/elsewhere")));
        }),
        talk("manifest redirected to a web site", "UnexpectedAnswer", |scene| {
            scene.fault(Fault::at("/about", What::html(200)));
            on_manifests(scene, What::redirect(303, &format!("https://{BLOBS}/about")));
        }),
        talk("manifest redirected nine times", "Reachable", |scene| hops(scene, 9)),
        talk("manifest redirected for ever", "RefusedByOperator", |scene| {
            on_manifests(scene, What::redirect(307, &format!("https://{BLOBS}/round")));
            scene.fault(Fault::at("/round", What::redirect(307, "/round")));
        }),
        talk("manifest 302 without Location", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(302));
        }),
        talk("manifest 307 without Location", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(307));
        }),
        talk("manifest 304", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(304));
        }),
        talk("manifest 300", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::status(300));
        }),
        talk("manifest redirected to nowhere", "UnexpectedAnswer", |scene| {
            on_manifests(scene, What::redirect(307, "https://["));
        }),
    ]
}

fn hops(scene: &Scene, count: usize) {
    on_manifests(scene, What::redirect(307, &format!("https://{BLOBS}/hop/1")));
    for hop in 1..count {
        let next = format!("/hop/{}", hop + 1);
        scene.fault(Fault::at(&format!("/hop/{hop}"), What::redirect(302, &next)));
    }
    scene.fault(Fault::at(&format!("/hop/{count}"), scene.manifest()));
}
