//! Each kind of credential lists, resolves and probes.

use std::sync::Arc;

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, Provider};
use catamaran_emulators::acr::{AUDIENCE, Rights};
use catamaran_emulators::{Acr, Options, Server, jwt};
use catamaran_registry::{Client, Connection, Credentials, Identities, Limits, Stage, Surroundings};
use serde_json::json;

use crate::{ASSIGNED, DATA, Ground, HOST, RESOURCE, SYSTEM, SYSTEM_ASSIGNED, WORKLOAD, basic, probe, workload};

async fn works(ground: &Ground, client: &Client) {
    let listed = client.list_tags("team/web").await.unwrap();
    assert!(listed.len() == 1 && listed[0].digest.is_some(), "{listed:?}");
    let resolved = client.resolve("team/web", "1.0").await.unwrap();
    assert_eq!(Some(resolved.digest), listed[0].digest);
    let report = probe(client, &ground.canary()).await;
    assert_eq!(
        (report.outcome, report.stage),
        (Outcome::Reachable, Stage::Blob),
        "{}",
        report.message
    );
    assert_eq!(ground.registry.log().count("any"), 0);
}

#[tokio::test]
async fn a_service_principal_lists_and_pulls() {
    let ground = Ground::new().await;
    ground.acr.add_account("app-1", "hunter22", Rights::reader("*"));
    works(&ground, &ground.client(basic("app-1", "hunter22"))).await;
}

#[tokio::test]
async fn the_admin_user_lists_and_pulls() {
    let ground = Ground::new().await;
    ground.acr.add_account("kracr", "hunter22", Rights::writer("*"));
    works(&ground, &ground.client(basic("kracr", "hunter22"))).await;
}

#[tokio::test]
async fn a_scope_map_token_with_metadata_read_lists_and_pulls() {
    let ground = Ground::new().await;
    let map = Rights::none().and("team/*", &["pull", "metadata_read"]);
    ground.acr.add_account("cluster-pull", "hunter22", map);
    works(&ground, &ground.client(basic("cluster-pull", "hunter22"))).await;
}

#[tokio::test]
async fn a_refresh_token_from_a_secret_lists_and_pulls() {
    let ground = Ground::granted().await;
    let now = ground.clock.seconds();
    let claims = json!({"aud": HOST, "sub": WORKLOAD, "grant_type": "refresh_token", "iat": now, "exp": now + 3600});
    let user = "00000000-0000-0000-0000-000000000000";
    works(&ground, &ground.client(basic(user, &jwt::encode(&claims)))).await;
    let log = ground.registry.log().requests();
    assert!(
        log.iter()
            .all(|request| request.kind != "token" || request.authorization.is_none())
    );
}

#[tokio::test]
async fn anonymous_pull_lists_and_pulls() {
    let ground = Ground::new().await;
    ground.acr.set_anonymous_pull(true);
    works(&ground, &ground.client(Credentials::Anonymous)).await;
    assert!(ground.registry.log().requests().iter().all(|request| {
        request
            .authorization
            .as_deref()
            .is_none_or(|value| value.starts_with("Bearer "))
    }));
}

#[tokio::test]
async fn workload_identity_lists_and_pulls() {
    let ground = Ground::granted().await;
    works(&ground, &ground.client_as(&workload())).await;
    assert_eq!(ground.login.log().count("entra"), 1);
    let asked = &ground.login.log().requests()[0];
    assert_eq!(
        (asked.host.as_str(), asked.path.as_str()),
        (crate::LOGIN, "/tenant-1/oauth2/v2.0/token")
    );
    assert!(
        asked
            .body
            .contains("scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default"),
        "{}",
        asked.body
    );
    let exchange = ground
        .registry
        .log()
        .requests()
        .into_iter()
        .find(|request| request.kind == "exchange")
        .unwrap();
    assert!(exchange.body.starts_with(&format!(
        "grant_type=access_token&service={HOST}&tenant=tenant-1&access_token="
    )));
}

#[tokio::test]
async fn workload_identity_of_another_client_and_tenant_than_the_environments() {
    let ground = Ground::new().await;
    ground.acr.set_tenant("tenant-9");
    ground.entra.federate("tenant-9", "client-9", "oid-9", crate::SUBJECT);
    ground.acr.grant("oid-9", Rights::reader("*"));
    let identity = IdentityPolicy::Workload {
        client_id: Some("client-9".to_owned()),
        tenant_id: Some("tenant-9".to_owned()),
    };
    works(&ground, &ground.client_as(&identity)).await;
}

#[tokio::test]
async fn the_system_assigned_managed_identity_lists_and_pulls() {
    let ground = Ground::granted().await;
    works(&ground, &ground.client_as(&SYSTEM_ASSIGNED)).await;
    let asked = &ground.metadata.log().requests()[0];
    assert_eq!(asked.path, "/metadata/identity/oauth2/token");
    assert!(
        asked
            .query
            .ends_with("resource=https%3A%2F%2Fcontainerregistry.azure.net"),
        "{}",
        asked.query
    );
    let token = ground
        .registry
        .log()
        .requests()
        .into_iter()
        .find(|request| request.kind == "exchange")
        .unwrap();
    let claims = token
        .body
        .rsplit_once("access_token=")
        .and_then(|(_, token)| jwt::decode(token))
        .unwrap();
    assert_eq!((&claims["oid"], &claims["aud"]), (&json!(SYSTEM), &json!(AUDIENCE)));
}

#[tokio::test]
async fn a_user_assigned_managed_identity_by_each_of_its_ids() {
    let cases = [
        (
            IdentityPolicy::Managed(ManagedIdentity::Client("client-2".to_owned())),
            "client_id=client-2",
        ),
        (
            IdentityPolicy::Managed(ManagedIdentity::Object(ASSIGNED.to_owned())),
            "object_id=oid-assigned",
        ),
        (
            IdentityPolicy::Managed(ManagedIdentity::Resource(RESOURCE.to_owned())),
            "msi_res_id=",
        ),
    ];
    for (identity, parameter) in cases {
        let ground = Ground::granted().await;
        works(&ground, &ground.client_as(&identity)).await;
        let asked = &ground.metadata.log().requests()[0];
        assert!(asked.query.contains(parameter), "{}", asked.query);
    }
}

#[tokio::test]
async fn an_abac_registry_gives_one_token_for_each_repository() {
    let ground = Ground::new().await;
    ground.memory.push("team/api", "1.0", "x");
    ground.acr.set_abac(true);
    ground.acr.grant(
        WORKLOAD,
        Rights::reader("team/web").and("team/api", &["pull", "metadata_read"]),
    );
    let client = ground.client_as(&workload());
    works(&ground, &client).await;
    assert_eq!(client.list_tags("team/api").await.unwrap().len(), 1);
    let scopes: Vec<_> = ground
        .registry
        .log()
        .requests()
        .into_iter()
        .filter(|request| request.kind == "token")
        .collect();
    assert!(
        scopes
            .iter()
            .all(|request| request.body.matches("repository%3A").count() == 1)
    );
    assert_eq!(ground.registry.log().count("exchange"), 1);
}

#[tokio::test]
async fn blobs_come_from_a_dedicated_data_endpoint_that_never_sees_a_credential() {
    let ground = Ground::granted().await;
    ground.acr.set_data_host(Some(DATA));
    works(&ground, &ground.client_as(&workload())).await;
    assert_eq!(ground.registry.log().count("data"), 1);
    let data = ground
        .registry
        .log()
        .requests()
        .into_iter()
        .find(|request| request.kind == "data")
        .unwrap();
    assert_eq!((data.host.as_str(), data.authorization), (DATA, None));
}

#[tokio::test]
async fn a_regional_endpoint_says_itself_which_service_it_is() {
    const REGIONAL: &str = "kracr.westeurope.geo.azurecr.io";
    let ground = Ground::granted().await;
    let mut connection = ground.connection(crate::by(&ground.identities(), &workload()));
    connection.registry = REGIONAL.to_owned();
    connection
        .resolve
        .push((REGIONAL.to_owned(), ground.registry.address()));
    let client = Client::new(connection, Limits::default()).unwrap();
    works(&ground, &client).await;
    let log = ground.registry.log().requests();
    let asked = |host: &str, kind: &str| {
        log.iter()
            .filter(|request| request.host == host && request.kind == kind)
            .count()
    };
    assert_eq!(
        (
            asked(REGIONAL, "tags"),
            asked(HOST, "exchange"),
            asked(REGIONAL, "exchange")
        ),
        (2, 1, 0)
    );
    let exchange = log.iter().find(|request| request.kind == "exchange").unwrap();
    assert!(exchange.body.contains(&format!("service={HOST}&")), "{}", exchange.body);
}

#[tokio::test]
async fn a_registry_of_a_sovereign_cloud_uses_its_clouds_authority() {
    for (host, login) in [
        ("kracr.azurecr.cn", "login.chinacloudapi.cn"),
        ("kracr.azurecr.us", "login.microsoftonline.us"),
    ] {
        let ground = Ground::granted().await;
        let acr = Arc::new(Acr::new(host, ground.memory.clone(), ground.clock.clone()));
        acr.grant(WORKLOAD, Rights::reader("*"));
        let server = Server::start(acr, Options::default()).await.unwrap();
        let surroundings = Surroundings {
            resolve: vec![(login.to_owned(), ground.login.address())],
            ..ground.surroundings()
        };
        let credentials = Identities::new(surroundings)
            .credentials(Provider::Azure, host, &workload())
            .unwrap();
        let connection = Connection {
            registry: host.to_owned(),
            extra_ca: Some(server.ca_pem().unwrap().as_bytes().to_vec()),
            resolve: vec![(host.to_owned(), server.address())],
            ..ground.connection(credentials)
        };
        let client = Client::new(connection, Limits::default()).unwrap();
        assert_eq!(client.list_tags("team/web").await.unwrap().len(), 1);
        assert_eq!(ground.login.log().requests()[0].host, login);
    }
}
