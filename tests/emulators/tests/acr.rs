//! The registry emulator, asked over TLS as any client would.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use catamaran_emulators::acr::{AUDIENCE, Attributes, Rights};
use catamaran_emulators::{Acr, Clock, Memory, Options, Server, jwt};
use serde_json::{Value, json};

const HOST: &str = "kracr.azurecr.io";

struct Ground {
    acr: Arc<Acr>,
    memory: Arc<Memory>,
    clock: Clock,
    server: Server,
    client: reqwest::Client,
}

async fn ground() -> Ground {
    let clock = Clock::new();
    let memory = Arc::new(Memory::new(clock.clone()));
    let acr = Arc::new(Acr::new(HOST, memory.clone(), clock.clone()));
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let server = Server::start(acr.clone(), options).await.unwrap();
    let ca = reqwest::Certificate::from_pem(server.ca_pem().unwrap().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .resolve(HOST, server.address())
        .no_proxy()
        .build()
        .unwrap();
    Ground {
        acr,
        memory,
        clock,
        server,
        client,
    }
}

impl Ground {
    fn entra_token(&self, audience: &str, object_id: &str) -> String {
        let now = self.clock.seconds();
        jwt::encode(&json!({"aud": audience, "tid": "tenant-1", "oid": object_id, "iat": now, "exp": now + 3600}))
    }

    async fn exchange(&self, token: &str) -> (u16, Value) {
        let form = format!("grant_type=access_token&service={HOST}&tenant=tenant-1&access_token={token}");
        self.post("/oauth2/exchange", form).await
    }

    async fn post(&self, path: &str, form: String) -> (u16, Value) {
        let ask = self.client.post(format!("https://{HOST}{path}")).body(form);
        let reply = ask.send().await.unwrap();
        let status = reply.status().as_u16();
        (status, serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
    }

    async fn access(&self, refresh: &str, scope: &str) -> String {
        let form = format!("grant_type=refresh_token&service={HOST}&scope={scope}&refresh_token={refresh}");
        let (status, body) = self.post("/oauth2/token", form).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let reply = self
            .client
            .get(format!("https://{HOST}{path}"))
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        let status = reply.status().as_u16();
        let body = reply.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn the_whole_way_from_an_entra_token_to_a_list_of_tags() {
    let ground = ground().await;
    let digest = ground.memory.push("team/web", "1.0", "first");
    ground.acr.grant("oid-1", Rights::reader("*"));
    let (status, body) = ground.exchange(&ground.entra_token(AUDIENCE, "oid-1")).await;
    assert_eq!(status, 200, "{body}");
    let refresh = body["refresh_token"].as_str().unwrap();
    let claims = jwt::decode(refresh).unwrap();
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        11_700
    );
    assert!(claims.get("aad_identity").is_none());
    let token = ground.access(refresh, "repository:team/web:pull,metadata_read").await;
    let (status, body) = ground.get("/acr/v1/team/web/_tags?n=10", &token).await;
    assert_eq!(
        (status, body["tags"][0]["digest"].as_str()),
        (200, Some(digest.as_str()))
    );
    let (status, _) = ground.get("/v2/team/web/manifests/1.0", &token).await;
    assert_eq!(status, 200);
    let counts = ground.server.log().counts();
    assert_eq!(
        counts,
        [("exchange", 1), ("manifest", 1), ("tags", 1), ("token", 1)].into()
    );
}

#[tokio::test]
async fn an_exchange_is_refused_for_a_reason() {
    let ground = ground().await;
    ground.acr.grant("oid-1", Rights::none());
    let now = ground.clock.seconds();
    let foreign = jwt::encode(&json!({"aud": AUDIENCE, "tid": "other", "oid": "oid-1", "exp": now + 60}));
    let expired = jwt::encode(&json!({"aud": AUDIENCE, "tid": "tenant-1", "oid": "oid-1", "exp": now - 1}));
    let cases = [
        (
            ground.entra_token("https://management.azure.com", "oid-1"),
            "Audience validation",
        ),
        (ground.entra_token(AUDIENCE, "oid-2"), "authentication required"),
        (foreign, "another tenant"),
        (expired, "expired"),
        ("rubbish".to_owned(), "JWT must have"),
    ];
    for (token, why) in cases {
        let (status, body) = ground.exchange(&token).await;
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(status == 401 && message.contains(why), "{why}: {body}");
    }
}

#[tokio::test]
async fn an_abac_registry_tells_by_its_claim_and_grants_by_repository() {
    let ground = ground().await;
    ground.memory.push("a", "1", "x");
    ground.memory.push("b", "1", "x");
    ground.acr.set_abac(true);
    ground.acr.grant("oid-1", Rights::reader("a"));
    let (_, body) = ground.exchange(&ground.entra_token(AUDIENCE, "oid-1")).await;
    let refresh = body["refresh_token"].as_str().unwrap();
    assert!(jwt::decode(refresh).unwrap()["aad_identity"].is_object());
    let wildcard = ground.access(refresh, "repository:*:*").await;
    assert_eq!(ground.get("/v2/a/manifests/1", &wildcard).await.0, 401);
    let token = ground.access(refresh, "repository:a:pull repository:b:pull").await;
    assert_eq!(ground.get("/v2/a/manifests/1", &token).await.0, 200);
    let (status, body) = ground.get("/v2/b/manifests/1", &token).await;
    let detail = &body["errors"][0]["detail"][0];
    assert_eq!(
        (status, &detail["Action"], &detail["Name"]),
        (401, &json!("pull"), &json!("b"))
    );
}

#[tokio::test]
async fn locks_hide_tags_and_refuse_reads() {
    let ground = ground().await;
    ground.memory.push("a", "open", "x");
    ground.memory.push("a", "hidden", "x");
    ground.memory.push("a", "unreadable", "x");
    let hidden = Attributes {
        list: false,
        ..Attributes::default()
    };
    let unreadable = Attributes {
        read: false,
        ..Attributes::default()
    };
    ground.acr.lock("a", Some("hidden"), hidden);
    ground.acr.lock("a", Some("unreadable"), unreadable);
    ground.acr.grant("oid-1", Rights::reader("*"));
    let (_, body) = ground.exchange(&ground.entra_token(AUDIENCE, "oid-1")).await;
    let token = ground
        .access(
            body["refresh_token"].as_str().unwrap(),
            "repository:a:pull,metadata_read",
        )
        .await;
    let (_, body) = ground.get("/acr/v1/a/_tags", &token).await;
    let names: Vec<_> = body["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["open", "unreadable"]);
    assert_eq!(body["tags"][1]["changeableAttributes"]["readEnabled"], json!(false));
    assert_eq!(ground.get("/v2/a/manifests/hidden", &token).await.0, 200);
    let (status, body) = ground.get("/v2/a/manifests/unreadable", &token).await;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (405, &json!("REGISTRY_DISALLOWED_OPERATION"))
    );
}

#[tokio::test]
async fn tokens_end_when_their_time_is_over() {
    let ground = ground().await;
    ground.memory.push("a", "1", "x");
    ground.acr.grant("oid-1", Rights::reader("*"));
    let (_, body) = ground.exchange(&ground.entra_token(AUDIENCE, "oid-1")).await;
    let token = ground
        .access(body["refresh_token"].as_str().unwrap(), "repository:a:pull")
        .await;
    assert_eq!(ground.get("/v2/a/manifests/1", &token).await.0, 200);
    ground.clock.advance(Duration::from_mins(76));
    assert_eq!(ground.get("/v2/a/manifests/1", &token).await.0, 401);
}
