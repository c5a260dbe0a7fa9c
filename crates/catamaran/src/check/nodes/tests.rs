use super::kubelet::{DialTimeout, Pulls, dial_timeout, pulls};
use super::read::{Node, Nodes, Refusal};
use super::report;
use crate::check::line::Mark;

#[test]
fn kubelet_pulls_as_its_configuration_says() {
    let cases = [
        (r#"{"kubeletconfig":{"serializeImagePulls":true}}"#, Some(Pulls::Serial)),
        (
            r#"{"kubeletconfig":{"serializeImagePulls":false}}"#,
            Some(Pulls::Parallel),
        ),
        (
            r#"{"kubeletconfig":{"serializeImagePulls":false,"maxParallelImagePulls":3}}"#,
            Some(Pulls::Limited(3)),
        ),
        // One at a time, by another name.
        (
            r#"{"kubeletconfig":{"serializeImagePulls":false,"maxParallelImagePulls":1}}"#,
            Some(Pulls::Serial),
        ),
        // What a kubelet that says nothing does.
        (r#"{"kubeletconfig":{}}"#, Some(Pulls::Serial)),
        (
            r#"{"kubeletconfig":{"maxParallelImagePulls":2}}"#,
            Some(Pulls::Limited(2)),
        ),
        (r#"{"kubeletconfig":{"maxParallelImagePulls":-1}}"#, None),
        (r#"{"serializeImagePulls":true}"#, None),
        ("404 page not found", None),
    ];
    for (configz, expected) in cases {
        assert_eq!(pulls(configz.as_bytes()), expected, "{configz}");
    }
}

#[test]
fn dial_timeout_is_read_by_newer_containerds() {
    let cases = [
        ("containerd://2.4.2", DialTimeout::Settable),
        ("containerd://2.1.0", DialTimeout::Settable),
        ("containerd://v2.1.5-k3s1", DialTimeout::Settable),
        ("containerd://2.0.7", DialTimeout::Settable),
        ("containerd://2.0.5", DialTimeout::TooOld),
        ("containerd://2.0.0-rc.1", DialTimeout::TooOld),
        ("containerd://1.7.28+azure", DialTimeout::TooOld),
        ("containerd://", DialTimeout::TooOld),
        ("cri-o://1.36.0", DialTimeout::NotContainerd),
        ("", DialTimeout::NotContainerd),
    ];
    for (runtime, expected) in cases {
        assert_eq!(dial_timeout(runtime), expected, "{runtime}");
    }
}

fn node(name: &str, pulls: Result<Pulls, Refusal>) -> Node {
    Node {
        name: name.to_owned(),
        dial_timeout: DialTimeout::Settable,
        pulls,
    }
}

#[test]
fn nodes_that_pull_alike_share_a_line_and_serial_ones_come_first() {
    let nodes = Nodes {
        asked: vec![
            node("a", Ok(Pulls::Parallel)),
            node("b", Ok(Pulls::Serial)),
            node("c", Ok(Pulls::Limited(3))),
            node("d", Ok(Pulls::Serial)),
        ],
        further: 0,
    };
    let lines = report::lines(&nodes, 20);
    let found: Vec<_> = lines.iter().map(|line| (line.mark, line.text.as_str())).collect();
    let expected = [
        (Mark::Warning, "2 nodes pull one image after the other"),
        (Mark::Well, "1 node pulls at most 3 images at a time"),
        (Mark::Well, "1 node pulls images in parallel"),
    ];
    assert_eq!(found, expected);
    assert_eq!(lines[0].details, ["b, d"]);
    let hint = lines[0].hint.as_deref().unwrap();
    for word in ["serializeImagePulls: false", "maxParallelImagePulls", "dial_timeout"] {
        assert!(hint.contains(word), "{hint}");
    }
}

#[test]
fn dial_timeout_is_advised_only_where_it_is_read() {
    let advice = |dial_timeout: DialTimeout| {
        let nodes = Nodes {
            asked: vec![Node {
                dial_timeout,
                ..node("a", Ok(Pulls::Serial))
            }],
            further: 0,
        };
        report::lines(&nodes, 20)[0].hint.clone().unwrap()
    };
    assert!(advice(DialTimeout::Settable).contains("of both registries"));
    assert!(advice(DialTimeout::TooOld).contains("containerd 2.1 or newer"));
    assert!(!advice(DialTimeout::NotContainerd).contains("containerd"));
}

#[test]
fn names_are_cut_and_nodes_left_out_are_counted() {
    let mut asked: Vec<Node> = (0..25)
        .map(|number| node(&format!("n{number:02}"), Ok(Pulls::Serial)))
        .collect();
    asked.push(node("late", Err(Refusal::OutOfTime)));
    let nodes = Nodes { asked, further: 4_000 };
    let lines = report::lines(&nodes, 20);
    assert!(lines[0].details[0].ends_with("n19 and 5 more"), "{:?}", lines[0]);
    assert_eq!(
        (lines[1].mark, lines[1].text.as_str()),
        (Mark::Unknown, "4001 nodes were not asked")
    );
    assert!(report::lines(&nodes, usize::MAX)[0].details[0].ends_with("n23, n24"));
}

#[test]
fn cluster_without_nodes_is_fine() {
    let lines = report::lines(&Nodes::default(), 20);
    assert_eq!(
        (lines.len(), lines[0].mark, lines[0].text.as_str()),
        (1, Mark::Well, "there are no nodes")
    );
}
