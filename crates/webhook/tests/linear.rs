//! What a review costs grows with its bytes and not with their square, whatever it repeats: four times as much of it must not take
//! more than some six times as long, by the clock of this thread.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::time::Duration;

use catamaran_core::side::Side;
use catamaran_webhook::review;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use support::{CREATE, UPDATE, with};

/// Four times as much may take so many times as long.
const BAR: u32 = 6;

/// Something that a review may have much of, and as much of it as can be read.
struct Shape {
    name: &'static str,
    most: usize,
    body: fn(usize) -> String,
}

fn containers(count: usize, name: impl Fn(usize) -> String) -> Value {
    let one = |index: usize| json!({"name": name(index), "image": format!("ghcr.io/devopskev/shop/web:{index}")});
    (0..count).map(one).collect()
}

fn labels(count: usize) -> Value {
    let one = |index: usize| (format!("example.com/label-{index}"), json!("value"));
    Value::Object((0..count).map(one).collect())
}

fn volumes(count: usize) -> Value {
    let image = |index: usize| json!({"reference": format!("ghcr.io/devopskev/shop/web:{index}")});
    let one = |index: usize| json!({"name": format!("v{index}"), "image": image(index)});
    (0..count).map(one).collect()
}

/// In every list that has images.
fn everywhere(each: usize, name: impl Fn(usize) -> String + Copy) -> String {
    let fields = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let mut changes: Vec<_> = fields.iter().map(|field| (*field, containers(each, name))).collect();
    changes.push(("/spec/volumes", volumes(each)));
    with(CREATE, &changes)
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "images in four lists",
        most: 256,
        body: |count| everywhere(count, |index| format!("c{index}")),
    },
    Shape {
        name: "containers of one name",
        most: 256,
        body: |count| everywhere(count, |_| "same".to_owned()),
    },
    Shape {
        name: "four lists of thousands of containers, which are too long",
        most: 4096,
        body: |count| everywhere(count.max(300), |index| format!("c{index}")),
    },
    Shape {
        name: "image volumes, each held against as many labels as may be",
        most: 4096,
        body: |count| {
            with(
                CREATE,
                &[
                    ("/spec/volumes", volumes(count)),
                    ("/metadata/labels", labels(count / 16)),
                ],
            )
        },
    },
    Shape {
        name: "an update of containers that stood elsewhere",
        most: 256,
        body: |count| {
            let after = containers(count, |index| format!("c{index}"));
            let before = containers(count, |index| format!("c{}", count - index));
            with(
                UPDATE,
                &[("/spec/containers", after), ("//oldObject/spec/containers", before)],
            )
        },
    },
    Shape {
        name: "pull secrets that are there",
        most: 4096,
        body: |count| {
            let secrets: Value = (0..count).map(|index| json!({"name": format!("s{index}")})).collect();
            with(CREATE, &[("/spec/imagePullSecrets", secrets)])
        },
    },
    Shape {
        name: "notes of an earlier review",
        most: 4096,
        body: |count| {
            let notes: serde_json::Map<_, _> = (0..count).map(|index| (format!("c{index}"), json!("i"))).collect();
            let annotations = json!({"catamaran.dev/original-images": Value::Object(notes).to_string()});
            with(CREATE, &[("/metadata/annotations", annotations)])
        },
    },
    Shape {
        name: "a long image, and what is escaped",
        most: 1 << 20,
        body: |count| {
            let image = "a/".repeat(count / 2);
            with(
                CREATE,
                &[
                    ("/spec/containers/0/image", json!(image)),
                    ("/metadata/name", json!("\"".repeat(count))),
                ],
            )
        },
    },
    Shape {
        name: "lists in lists, and a key that comes again and again",
        most: 1 << 20,
        body: |count| {
            let (deep, end) = ("[".repeat(count / 4), "]".repeat(count / 4));
            let again = r#""spec":{"containers":[{"image":"ghcr.io/devopskev/shop/web:1"}]},"#.repeat(count / 128);
            CREATE.replacen("\"metadata\":", &format!("{again}\"x\":{deep}{end},\"metadata\":"), 1)
        },
    },
];

fn clock() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// The least that it took: whatever else the machine does only adds to it.
fn cost(body: &str) -> Duration {
    let table = support::table(Side::Primary);
    let once = || {
        let begun = clock();
        let reviewed = review(body.as_bytes(), Some(&table), support::OWN_USER);
        let took = clock().saturating_sub(begun);
        assert!(!reviewed.response.is_empty());
        took
    };
    (0..7).map(|_| once()).min().unwrap()
}

#[test]
fn review_costs_no_more_than_its_size() {
    for Shape { name, most, body } in SHAPES {
        let (quarter, whole) = (body(most / 4), body(*most));
        assert!(whole.len() < 7 << 20, "{name}: {} bytes", whole.len());
        let (few, many) = (cost(&quarter), cost(&whole));
        let times = many.as_secs_f64() / few.as_secs_f64();
        println!(
            "{name}: {} bytes, {few:?}; {} bytes, {many:?}: {times:.1} times",
            quarter.len(),
            whole.len()
        );
        // What every review costs is more than the rest of a small one.
        assert!(
            many <= few * BAR + Duration::from_micros(200),
            "{name}: four times as much takes {times:.1} times as long"
        );
    }
}
