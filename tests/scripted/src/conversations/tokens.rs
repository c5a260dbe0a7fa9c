//! Challenges and tokens.

use super::{BLOBS, Conversation, DEAD, Scene, talk};
use crate::{Auth, Fault, What};

fn on_tokens(scene: &Scene, what: What) {
    scene.fault(Fault::at("/token", what));
}

fn challenged(scene: &Scene, challenge: &str) {
    scene.fault(Fault::on("/v2/", What::challenge(challenge)));
}

fn realm(scene: &Scene, realm: &str) {
    scene.registry.set_auth(Auth::Bearer {
        realm: Some(realm.to_owned()),
        expires_in: None,
    });
}

fn account(scene: &mut Scene, password: &str) {
    scene.registry.set_account(Some(("user", "right")));
    scene.account = Some(("user".to_owned(), password.to_owned()));
}

#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn table() -> Vec<Conversation> {
    vec![
        talk("a password is right", "Reachable", |scene| account(scene, "right")),
        talk("a password is wrong", "Unauthorized", |scene| account(scene, "wrong")),
        talk("a password is right, by Basic", "Reachable", |scene| {
            scene.registry.set_auth(Auth::Basic);
            account(scene, "right");
        }),
        talk("a password is wrong, by Basic", "Unauthorized", |scene| {
            scene.registry.set_auth(Auth::Basic);
            account(scene, "wrong");
        }),
        talk("Basic, and there is no password", "Unauthorized", |scene| {
            scene.registry.set_auth(Auth::Basic);
            scene.registry.set_account(Some(("user", "right")));
        }),
        talk("401 without a challenge", "Unauthorized", |scene| {
            scene.fault(Fault::on("/v2/", What::status(401)));
        }),
        talk("401 without a challenge but at /v2/", "Reachable", |scene| {
            scene.fault(Fault::on("/manifests/", What::status(401)).times(1));
        }),
        talk("401 with a challenge that nobody knows", "Unauthorized", |scene| {
            challenged(scene, "Negotiate");
        }),
        talk("401 with a challenge without a realm", "Unauthorized", |scene| {
            challenged(scene, "Bearer service=\"registry.test\"");
        }),
        talk("401 with an empty challenge", "Unauthorized", |scene| {
            challenged(scene, "");
        }),
        talk("tokens of a host that is not admitted", "RefusedByOperator", |scene| {
            realm(scene, &format!("https://{BLOBS}/token"));
        }),
        talk("tokens by plain HTTP", "RefusedByOperator", |scene| {
            realm(scene, "http://registry.test/token");
            scene.registry.set_wire(crate::Wire::PlainToo);
        }),
        talk("tokens of a dead host", "RefusedByOperator", |scene| {
            realm(scene, &format!("https://{DEAD}/token"));
        }),
        talk("token 201", "Reachable", |scene| {
            // What scopes it has does not matter to a registry that is open by then.
            on_tokens(scene, Scene::answer(201, &[], r#"{"token":"good"}"#));
            scene.fault(Fault::on("/manifests/", What::challenge(CHALLENGE)).times(1));
            scene.registry.set_auth(Auth::Open);
        }),
        talk("token as a web page by its type only", "Reachable", |scene| {
            on_tokens(
                scene,
                Scene::answer(200, &[("content-type", "text/html")], r#"{"token":"good"}"#),
            );
            scene.fault(Fault::on("/manifests/", What::challenge(CHALLENGE)).times(1));
            scene.registry.set_auth(Auth::Open);
        }),
        talk("token 200 and empty", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::json(r#"{"token":""}"#));
        }),
        talk("token 200 and no JSON", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::json("token"));
        }),
        talk("token 200, a web page", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::html(200));
        }),
        talk("token 200, 2 MiB long", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::json(&" ".repeat(2 << 20)));
        }),
        talk("token 302 to another path", "RefusedByOperator", |scene| {
            scene.fault(Fault::at("/tokens", What::json(r#"{"token":"good"}"#)));
            on_tokens(scene, What::redirect(302, "/tokens"));
            scene.fault(Fault::on("/manifests/", What::challenge(CHALLENGE)).times(1));
            scene.registry.set_auth(Auth::Open);
        }),
        talk("token 400", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::status(400));
        }),
        talk("token 401", "Unauthorized", |scene| on_tokens(scene, What::status(401))),
        talk("token 403", "Forbidden", |scene| on_tokens(scene, What::status(403))),
        talk("token 404", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::status(404));
        }),
        talk("token 405", "UnexpectedAnswer", |scene| {
            on_tokens(scene, What::status(405));
        }),
        talk("token 429", "RateLimited", |scene| {
            on_tokens(scene, What::throttled(None));
        }),
        talk("token 500", "ServerError", |scene| on_tokens(scene, What::status(500))),
        talk("token 503, a web page", "ServerError", |scene| {
            on_tokens(scene, What::html(503));
        }),
        talk("token never comes", "Timeout", |scene| on_tokens(scene, What::Hang)),
        talk("token breaks off", "ConnectionFailed", |scene| {
            on_tokens(scene, What::Truncated);
        }),
        talk("token breaks off once", "Reachable", |scene| {
            scene.fault(Fault::at("/token", What::Truncated).times(1));
        }),
        talk("token is never good enough", "Unauthorized", |scene| {
            on_tokens(scene, What::json(r#"{"token":"of-another-registry"}"#));
        }),
    ]
}

const CHALLENGE: &str = r#"Bearer realm="https://registry.test/token",service="registry.test""#;
