use super::*;

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn taken(containers: Vec<ContainerState>) -> PodState {
    PodState {
        is_taken: true,
        failed: None,
        containers,
    }
}

fn cause(outcome: &Outcome) -> Vec<Option<Cause>> {
    match outcome {
        Outcome::Pulls(pulls) => pulls
            .iter()
            .map(|pull| pull.as_ref().err().map(|it| it.cause))
            .collect(),
        Outcome::Whole(problem) => vec![Some(problem.cause)],
        Outcome::Skipped => Vec::new(),
    }
}

#[test]
fn container_says_whether_its_image_was_pulled() {
    let denied = "failed to pull and unpack image \"ghcr.io/a/b:1\": failed to resolve reference: unexpected status: 401 Unauthorized";
    let refused =
        "failed to do request: Head \"https://ghcr.io/v2/\": dial tcp 10.0.0.1:443: connect: connection refused";
    let cases = [
        (ContainerState::Started, Some(None)),
        (waiting("CreateContainerError", "no command"), Some(None)),
        (waiting("CreateContainerConfigError", "runAsNonRoot"), Some(None)),
        (waiting("RunContainerError", "not found"), Some(None)),
        (
            waiting("ErrImagePull", denied),
            Some(Some(Cause::Pull(PullFailure::Unauthorized))),
        ),
        (
            waiting("ImagePullBackOff", refused),
            Some(Some(Cause::Pull(PullFailure::Connection))),
        ),
        (
            waiting("InvalidImageName", "bad"),
            Some(Some(Cause::Pull(PullFailure::Other))),
        ),
        (waiting("ContainerCreating", ""), None),
        (waiting("SomethingNew", ""), None),
        (ContainerState::Creating, None),
    ];
    for (state, expected) in cases {
        let read = read(&taken(vec![state.clone()]), false);
        assert_eq!(read.map(|outcome| cause(&outcome)[0]), expected, "{state:?}");
    }
}

#[test]
fn pod_is_read_when_each_of_its_images_has_an_answer() {
    let some = taken(vec![ContainerState::Started, ContainerState::Creating]);
    assert_eq!(read(&some, false), None);
    let over = read(&some, true).unwrap();
    assert_eq!(cause(&over), [None, Some(Cause::PullNotEnded)]);
    assert_eq!(read(&PodState::default(), false), None, "no kubelet has said anything");
}

#[test]
fn pod_that_never_starts_says_nothing_of_images() {
    let silent = read(
        &PodState {
            containers: vec![ContainerState::Creating],
            ..PodState::default()
        },
        true,
    )
    .unwrap();
    assert_eq!(cause(&silent), [Some(Cause::NotStarted)]);
    let ended = |reason: &str, containers| {
        let failed = Some((reason.to_owned(), "no room".to_owned()));
        read(
            &PodState {
                failed,
                ..taken(containers)
            },
            false,
        )
        .unwrap()
    };
    let full = ended("OutOfpods", vec![ContainerState::Creating]);
    assert_eq!(
        full,
        Outcome::Whole(Problem::new(Cause::NotStarted, "OutOfpods: no room"))
    );
    assert_eq!(ended("NodeAffinity", vec![ContainerState::Creating]), Outcome::Skipped);
    assert_eq!(cause(&ended("Evicted", vec![ContainerState::Started])), [None]);
    let late = ended("DeadlineExceeded", vec![ContainerState::Creating]);
    assert_eq!(cause(&late), [Some(Cause::PullNotEnded)], "its kubelet tried");
}

#[test]
fn refusal_has_the_words_of_the_policy_and_not_the_pods_name() {
    let words = |name: &str| {
        format!(
            "pods \"{name}\" is forbidden: ValidatingAdmissionPolicy 'acr-only' with binding 'acr-only' denied request: not from ACR"
        )
    };
    let (one, other) = (
        Problem::refused(&words("proof-x1")),
        Problem::refused(&words("proof-y2")),
    );
    assert_eq!(one, other);
    assert_eq!(
        one.message,
        "ValidatingAdmissionPolicy 'acr-only' with binding 'acr-only' denied request: not from ACR"
    );
    let webhook = "admission webhook \"kyverno.svc\" denied the request: no";
    assert_eq!(Problem::refused(webhook).message, webhook);
}

#[test]
fn message_is_one_short_line() {
    let long = format!("a\n b{}", "é".repeat(1000));
    let problem = Problem::new(Cause::Refused, &long);
    assert!(problem.message.starts_with("a bé"), "{}", problem.message);
    assert_eq!(problem.message.chars().count(), 256 + 3);
}

#[test]
fn every_cause_is_read_back_as_it_is_written() {
    for cause in Cause::ALL {
        assert_eq!(cause.as_str().parse(), Ok(cause));
    }
    assert_eq!("Gone".parse::<Cause>(), Err(UnknownCause("Gone".to_owned())));
}
