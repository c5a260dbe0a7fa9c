//! The client against an emulated Azure: registry, Entra ID and managed identities, over TLS on loopback.
//!
//! One named test for each cell of "credential kind × listing × limits × what a failing stage says".

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod failures;
mod identities;
mod kinds;
mod listing;
mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, Provider};
use catamaran_emulators::acr::Rights;
use catamaran_emulators::entra::Entra;
use catamaran_emulators::managed::Managed;
use catamaran_emulators::{Acr, Authority, Clock, Memory, Options, Server, Tls, jwt};
use catamaran_registry::{
    Client, Connection, Credentials, Identities, Limits, ProbeReport, ProbeTarget, Secret, Surroundings,
};
use serde_json::json;

pub(crate) const HOST: &str = "kracr.azurecr.io";
pub(crate) const LOGIN: &str = "login.microsoftonline.com";
pub(crate) const DATA: &str = "kracr.westeurope.data.azurecr.io";
pub(crate) const SUBJECT: &str = "system:serviceaccount:catamaran:catamaran";
/// The object ids of the identities.
pub(crate) const WORKLOAD: &str = "oid-workload";
pub(crate) const SYSTEM: &str = "oid-system";
pub(crate) const ASSIGNED: &str = "oid-assigned";
pub(crate) const RESOURCE: &str =
    "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i";

/// Everything that a cluster in Azure talks to.
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) memory: Arc<Memory>,
    pub(crate) acr: Arc<Acr>,
    pub(crate) registry: Server,
    pub(crate) entra: Arc<Entra>,
    pub(crate) login: Server,
    pub(crate) managed: Arc<Managed>,
    pub(crate) metadata: Server,
    files: tempfile::TempDir,
}

impl Ground {
    /// A registry with `team/web:1.0`; identities without any role.
    pub(crate) async fn new() -> Ground {
        let clock = Clock::new();
        let memory = Arc::new(Memory::new(clock.clone()));
        memory.push("team/web", "1.0", "first");
        let acr = Arc::new(Acr::new(HOST, memory.clone(), clock.clone()));
        let authority = Arc::new(Authority::new().unwrap());
        let options = |tls| Options {
            tls: Some(tls),
            clock: clock.clone(),
            ..Options::default()
        };
        let registry = Server::start(acr.clone(), options(Tls::By(authority.clone())))
            .await
            .unwrap();
        let entra = Arc::new(Entra::new(clock.clone()));
        entra.federate("tenant-1", "client-1", WORKLOAD, SUBJECT);
        let login = Server::start(entra.clone(), options(Tls::By(authority))).await.unwrap();
        let managed = Arc::new(Managed::new("header-1", clock.clone()));
        managed.set_system(SYSTEM);
        managed.assign("client-2", ASSIGNED, RESOURCE);
        let metadata = Server::start(managed.clone(), options(Tls::Off)).await.unwrap();
        let ground = Ground {
            clock,
            memory,
            acr,
            registry,
            entra,
            login,
            managed,
            metadata,
            files: tempfile::tempdir().unwrap(),
        };
        ground.project_token(SUBJECT, Duration::from_hours(24));
        ground
    }

    /// The same with `AcrPull` for every identity.
    pub(crate) async fn granted() -> Ground {
        let ground = Ground::new().await;
        for identity in [WORKLOAD, SYSTEM, ASSIGNED] {
            ground.acr.grant(identity, Rights::reader("*"));
        }
        ground
    }

    fn token_file(&self) -> PathBuf {
        self.files.path().join("token")
    }

    /// What the kubelet projects into the operator's pod.
    pub(crate) fn project_token(&self, subject: &str, life: Duration) {
        let now = self.clock.seconds();
        let until = now + i64::try_from(life.as_secs()).unwrap();
        let token = jwt::encode(&json!({"sub": subject, "iat": now, "exp": until}));
        std::fs::write(self.token_file(), token).unwrap();
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        let file = self.token_file();
        let variables = [
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_TENANT_ID", "tenant-1"),
        ];
        Surroundings {
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            extra_ca: Some(self.login.ca_pem().unwrap().as_bytes().to_vec()),
            resolve: vec![(LOGIN.to_owned(), self.login.address())],
            metadata: Some(self.metadata.address()),
            ..Surroundings::default()
        }
    }

    pub(crate) fn identities(&self) -> Identities {
        Identities::new(self.surroundings())
    }

    pub(crate) fn connection(&self, credentials: Credentials) -> Connection {
        Connection {
            registry: HOST.to_owned(),
            provider: Provider::Azure,
            credentials,
            extra_ca: Some(self.registry.ca_pem().unwrap().as_bytes().to_vec()),
            resolve: [HOST, DATA]
                .map(|host| (host.to_owned(), self.registry.address()))
                .to_vec(),
            ..Connection::default()
        }
    }

    pub(crate) fn client(&self, credentials: Credentials) -> Client {
        let limits = Limits {
            connect: Duration::from_secs(10),
            total: Duration::from_secs(20),
            ..Limits::default()
        };
        Client::new(self.connection(credentials), limits).unwrap()
    }

    /// A client by an identity of a new process.
    pub(crate) fn client_as(&self, identity: &IdentityPolicy) -> Client {
        self.client(by(&self.identities(), identity))
    }

    /// The manifest to probe with.
    pub(crate) fn canary(&self) -> ProbeTarget {
        let (_, body) = self.memory.manifest("team/web", "1.0").unwrap();
        let digest = catamaran_core::digest::Digest::of(&body);
        ProbeTarget {
            canary: Some(("team/web".to_owned(), digest)),
            blob: true,
            fresh_token: true,
        }
    }
}

pub(crate) fn by(identities: &Identities, identity: &IdentityPolicy) -> Credentials {
    identities.credentials(Provider::Azure, HOST, identity).unwrap()
}

/// The machine's own identity.
pub(crate) const SYSTEM_ASSIGNED: IdentityPolicy = IdentityPolicy::Managed(ManagedIdentity::System);

pub(crate) fn workload() -> IdentityPolicy {
    IdentityPolicy::Workload {
        client_id: None,
        tenant_id: None,
    }
}

pub(crate) fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }
}

pub(crate) async fn probe(client: &Client, target: &ProbeTarget) -> ProbeReport {
    client.probe(target, Duration::from_secs(10)).await
}

/// Whether this outcome can make a side unavailable, whatever is opted into.
pub(crate) fn never_flips(outcome: &Outcome) -> bool {
    use catamaran_core::policy::{HealthPolicy, Trigger};
    let policy = HealthPolicy {
        triggers: vec![Trigger::Unavailable, Trigger::Unauthorized, Trigger::Forbidden],
        ..HealthPolicy::default()
    };
    *outcome != Outcome::Reachable && !outcome.counts_as_failure(&policy)
}
