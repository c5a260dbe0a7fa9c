//! Specs that make no sense, and mirrors that are gone.

use kube::core::error_boundary::InvalidObject;

use super::*;
use crate::mirrors::take;

impl Bed {
    /// The watch shows a spec that makes no sense; the one before stays in force.
    fn spoil(&self) {
        let valid = ValidPolicy {
            policy: self.policy(),
            generation: 1,
        };
        {
            let mut api = self.api();
            api.mirror["spec"]["fallback"] = api.mirror["spec"]["primary"].clone();
            api.mirror["metadata"]["generation"] = json!(2);
            api.touch();
        }
        let mirror = self.object();
        let news = MirrorNews::Applied {
            policy: Err(catamaran_api::policy::policy(&mirror).unwrap_err()),
            mirror: Arc::new(MirrorObject::of(&mirror).unwrap()),
            last_valid: Some(valid),
            flip: None,
        };
        self.news.exists(&uid(), news);
    }

    /// The watch shows an object that can't be decoded; the spec before stays in force.
    fn garble(&self) {
        let invalid = InvalidObject {
            error: "spec.parity: invalid type".to_owned(),
            metadata: self.object().metadata.clone(),
        };
        let news = MirrorNews::Unreadable {
            invalid: Arc::new(invalid),
            last_valid: Some(ValidPolicy {
                policy: self.policy(),
                generation: 1,
            }),
        };
        self.news.exists(&uid(), news);
    }

    fn forget_requests(&self) {
        for side in Side::ALL {
            self.registries[side].forget_requests();
        }
    }
}

#[tokio::test]
async fn spec_that_makes_no_sense_is_reported_and_probes_go_on() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    bed.spoil();
    bed.until("Stalled", |api| api.condition("Stalled")["reason"] == "InvalidSpec")
        .await;
    assert_eq!(bed.api().condition("Ready")["status"], "True");
    bed.forget_requests();
    bed.probed().await;
}

#[tokio::test]
async fn mirror_that_can_not_be_decoded_is_reported_and_probes_go_on() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    bed.garble();
    let reported = |api: &Api| api.count("PATCH /apis/catamaran.dev/v1alpha1/registrymirrors/apps/status", 200) > 0;
    bed.until("the report", reported).await;
    bed.forget_requests();
    bed.probed().await;
    let puts = |api: &Api| api.count("PUT ", 200);
    let before = puts(&bed.api());
    bed.tasks.rescued(&id(), 1);
    bed.probed().await;
    assert_eq!(puts(&bed.api()), before, "what can't be read is not replaced");
    // Once it can be read again, all is as it was.
    bed.apply();
    bed.until("the count", |api| api.mirror["status"]["pods"]["rescued"] == 1)
        .await;
}

#[tokio::test]
async fn mirror_that_a_list_does_not_show_ends_its_task() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    let known = |uids: &[Arc<str>]| MirrorNews::Listed {
        uids: uids.iter().cloned().collect(),
    };
    take(&bed.context, &bed.tasks, known(&[uid()]));
    assert!(bed.tasks.tasks().contains_key(&uid()));
    take(&bed.context, &bed.tasks, known(&[]));
    assert!(bed.tasks.tasks().is_empty());
}
