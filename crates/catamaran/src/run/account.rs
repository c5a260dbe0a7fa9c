//! Who this process is to the API server.

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};

/// The account that requests are made with.
#[derive(Debug, PartialEq)]
pub struct Account {
    /// Requests in this name are never rewritten.
    pub username: String,
    /// The service account, where it is one of the operator's own namespace: what is kept for the installation alone belongs to
    /// it, and so goes when the installation is removed.
    pub owner: Option<OwnerReference>,
}

/// Asks the API server.
pub async fn ask(client: &kube::Client, namespace: &str) -> anyhow::Result<Account> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let review = review.context("failed to ask the API server who we are")?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    account(user, namespace).context("failed to ask the API server who we are: the answer has no user name")
}

fn account(user: UserInfo, namespace: &str) -> Option<Account> {
    let username = user.username.filter(|name| !name.is_empty())?;
    let name = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(of, _)| *of == namespace)
        .map(|(_, name)| name.to_owned());
    let uid = user.uid.filter(|uid| !uid.is_empty());
    let owner = name.zip(uid).map(|(name, uid)| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name,
        uid,
        // Anyone who blocks an owner's deletion needs a right on its finalizers.
        block_owner_deletion: None,
        controller: None,
    });
    Some(Account { username, owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: &str) -> UserInfo {
        UserInfo {
            username: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..UserInfo::default()
        }
    }

    #[test]
    fn a_service_account_of_the_own_namespace_owns_what_is_kept() {
        let account = account(
            user("system:serviceaccount:catamaran-system:catamaran", "u1"),
            "catamaran-system",
        );
        let account = account.unwrap();
        assert_eq!(account.username, "system:serviceaccount:catamaran-system:catamaran");
        let owner = account.owner.unwrap();
        assert_eq!((&*owner.api_version, &*owner.kind), ("v1", "ServiceAccount"));
        assert_eq!((&*owner.name, &*owner.uid), ("catamaran", "u1"));
    }

    #[test]
    fn an_account_that_could_not_own_it_does_not() {
        for (case, name, uid) in [
            ("of another namespace", "system:serviceaccount:other:catamaran", "u1"),
            ("without a uid", "system:serviceaccount:catamaran-system:catamaran", ""),
            ("a person", "kubernetes-admin", "u1"),
        ] {
            let account = account(user(name, uid), "catamaran-system").unwrap();
            assert_eq!((&*account.username, account.owner), (name, None), "{case}");
        }
    }

    #[test]
    fn nobody_is_not_an_account() {
        assert_eq!(account(user("", "u1"), "catamaran-system"), None);
    }
}
