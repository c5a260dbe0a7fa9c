use std::time::Duration;

use catamaran_core::policy::Provider;
use catamaran_registry::{DiagnosisTarget, Failure, Stage, azure, github};

use super::*;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn plan(provider: Provider, whose: Whose) -> Plan {
    Plan {
        heading: "kracr.azurecr.io/web".to_owned(),
        registry: "kracr.azurecr.io".to_owned(),
        provider,
        whose,
        notes: Vec::new(),
        client: None,
        target: DiagnosisTarget::default(),
    }
}

fn well(step: Step, finding: Finding) -> StepResult {
    StepResult {
        step,
        finding: Some(finding),
        failure: None,
    }
}

fn describe(provider: Provider, checked: &StepResult) -> Line {
    let plan = plan(provider, Whose::Own);
    Describe::new(&plan, now()).line(checked)
}

fn certificates(days: i64) -> StepResult {
    let end = now() + Duration::from_hours(u64::try_from(days).unwrap() * 24 + 1);
    well(
        Step::Tls,
        Finding::Certificates(vec![Certificate {
            subject: "CN=*.azurecr.io".to_owned(),
            issuer: "CN=Some CA".to_owned(),
            not_before: now(),
            not_after: end,
        }]),
    )
}

#[test]
fn a_certificate_is_worth_a_warning_in_its_last_two_weeks() {
    for (days, mark) in [
        (0, Mark::Warning),
        (13, Mark::Warning),
        (14, Mark::Well),
        (83, Mark::Well),
    ] {
        let line = describe(Provider::Azure, &certificates(days));
        assert_eq!(line.mark, mark, "{line:?}");
        assert_eq!(
            line.details,
            [format!("CN=*.azurecr.io by CN=Some CA, for {days} more days")]
        );
    }
}

#[test]
fn addresses_say_whether_they_are_private() {
    let address = |text: &str, private| Address {
        address: text.parse().unwrap(),
        private,
    };
    let both = vec![address("20.1.2.3", false), address("10.0.0.4", true)];
    let cases = [
        (both, None, "resolves to 20.1.2.3 (public), 10.0.0.4 (private)"),
        (
            Vec::new(),
            Some("proxy.test"),
            "is left to the proxy proxy.test: it does not resolve here",
        ),
    ];
    for (addresses, proxy, text) in cases {
        let proxy = proxy.map(str::to_owned);
        let line = describe(
            Provider::Azure,
            &well(Step::Dns, Finding::Addresses { addresses, proxy }),
        );
        assert_eq!(line.text, text);
    }
}

fn identity(kind: CredentialKind, minutes: Option<i64>) -> StepResult {
    let expires = minutes.map(|minutes| now() + jiff::SignedDuration::from_mins(minutes));
    well(
        Step::Credential,
        Finding::Presented(Presented {
            kind,
            username: Some("bot".to_owned()),
            expires,
            by_repository: false,
        }),
    )
}

#[test]
fn credentials_that_can_not_work_are_worth_a_warning() {
    let cases = [
        (CredentialKind::ANONYMOUS, None, Mark::Well),
        (CredentialKind::PASSWORD, None, Mark::Well),
        (github::CLASSIC_TOKEN, None, Mark::Well),
        (github::FINE_GRAINED_TOKEN, None, Mark::Warning),
        (github::APP_TOKEN, None, Mark::Warning),
        (azure::REFRESH_TOKEN, Some(170), Mark::Well),
        (azure::REFRESH_TOKEN, Some(10), Mark::Warning),
        (azure::REFRESH_TOKEN, Some(-10), Mark::Warning),
    ];
    for (kind, minutes, mark) in cases {
        let line = describe(Provider::Azure, &identity(kind, minutes));
        assert_eq!(line.mark, mark, "{line:?}");
        assert_eq!(line.hint.is_some(), mark == Mark::Warning, "{line:?}");
    }
}

#[test]
fn a_token_that_grants_less_than_was_asked_for_names_the_roles() {
    let admitted = |actions: &[&str]| {
        well(
            Step::Token,
            Finding::Admitted {
                scope: Some("repository:web:pull,metadata_read".to_owned()),
                granted: Some(Granted {
                    actions: actions.iter().map(|action| (*action).to_owned()).collect(),
                    expires: None,
                }),
            },
        )
    };
    let line = describe(Provider::Azure, &admitted(&["pull"]));
    assert_eq!(
        (line.mark, line.details.as_slice()),
        (Mark::Warning, &["it lacks metadata_read".to_owned()][..])
    );
    let hint = line.hint.unwrap();
    assert!(
        hint.contains("AcrPull") && hint.contains("Container Registry Repository Reader"),
        "{hint}"
    );
    assert_eq!(
        describe(Provider::Azure, &admitted(&["pull", "metadata_read"])).mark,
        Mark::Well
    );
    assert_eq!(describe(Provider::Azure, &admitted(&[])).mark, Mark::Well);
}

fn refused(step: Step) -> StepResult {
    StepResult {
        step,
        finding: None,
        failure: Some(Failure {
            stage: Stage::Token,
            class: Class::Unauthorized,
            status: Some(401),
            code: None,
            message: "POST https://kracr.azurecr.io/oauth2/token: 401 Unauthorized".to_owned(),
        }),
    }
}

#[test]
fn what_only_the_operators_identity_may_do_could_not_be_told() {
    let operator = |identity: bool| Whose::Operator {
        namespace: "catamaran-system".to_owned(),
        subject: "system:serviceaccount:catamaran-system:catamaran".to_owned(),
        exec: identity.then(|| "kubectl exec ...".to_owned()),
    };
    let cases = [
        (operator(true), CredentialKind::ANONYMOUS, Mark::Unknown),
        (operator(true), CredentialKind::PASSWORD, Mark::Failed),
        (operator(false), CredentialKind::ANONYMOUS, Mark::Failed),
        (Whose::Own, CredentialKind::ANONYMOUS, Mark::Failed),
    ];
    for (whose, kind, mark) in cases {
        let plan = plan(Provider::Azure, whose);
        let mut describe = Describe::new(&plan, now());
        describe.line(&identity(kind, None));
        let line = describe.line(&refused(Step::Token));
        assert_eq!(line.mark, mark, "{line:?}");
        assert!(line.hint.is_some());
        assert_eq!(line.details.len(), 1);
    }
}

#[test]
fn the_worst_mark_is_the_greatest() {
    assert!(Mark::Well < Mark::Warning && Mark::Warning < Mark::Unknown && Mark::Unknown < Mark::Failed);
}
