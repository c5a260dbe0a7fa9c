//! What was found of nodes, in lines.

use std::collections::BTreeMap;

use super::kubelet::{DialTimeout, Pulls};
use super::read::{self, Node, Nodes, Refusal};
use crate::check::line::{Line, Mark};

/// The step, as documents call it.
const STEP: &str = "image-pulls";

/// What takes effect without the kubelet.
const DIAL_TIMEOUT: &str = "`dial_timeout` in containerd's hosts.toml of both registries, such as \"3s\"";

/// How many of these nodes pull in which way, and which could not be asked. At most so many are named in a line.
pub fn lines(nodes: &Nodes, most_named: usize) -> Vec<Line> {
    let mut alike: BTreeMap<(Pulls, DialTimeout), Vec<&str>> = BTreeMap::new();
    let (mut refused, mut failed, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut refusal = "";
    for Node { name, pulls, .. } in &nodes.asked {
        match pulls {
            Ok(_) => {}
            Err(Refusal::Forbidden(words)) => {
                refused.push(name.as_str());
                refusal = if refusal.is_empty() { words } else { refusal };
            }
            Err(Refusal::Failed(words)) => failed.push(format!("{name}: {words}")),
            Err(Refusal::OutOfTime) => left_out.push(name.as_str()),
        }
    }
    for node in &nodes.asked {
        if let Ok(pulls) = node.pulls {
            alike.entry((pulls, node.dial_timeout)).or_default().push(&node.name);
        }
    }
    let mut lines: Vec<Line> = alike
        .into_iter()
        .map(|((pulls, dial_timeout), names)| pulling(pulls, dial_timeout, &names, most_named))
        .collect();
    if !refused.is_empty() {
        lines.push(not_allowed(&refused, refusal, most_named));
    }
    if !failed.is_empty() {
        lines.push(not_read(&failed, most_named));
    }
    let further = nodes.further.saturating_add(left_out.len() as u64);
    if further > 0 {
        lines.push(not_asked(further));
    }
    if lines.is_empty() {
        lines.push(line(Mark::Well, "there are no nodes".to_owned()));
    }
    lines
}

/// That the nodes themselves are not known.
pub fn not_listed(refusal: &Refusal) -> Line {
    match refusal {
        Refusal::Forbidden(words) => Line {
            details: vec![words.clone()],
            hint: Some(
                "needs the right to `list` nodes, and to `get` `nodes/proxy`; the operator needs neither".to_owned(),
            ),
            ..line(Mark::Unknown, "the nodes may not be listed".to_owned())
        },
        Refusal::Failed(words) => Line {
            details: vec![words.clone()],
            ..line(Mark::Unknown, "the nodes could not be listed".to_owned())
        },
        Refusal::OutOfTime => line(Mark::Unknown, "the nodes were not listed in time".to_owned()),
    }
}

fn pulling(pulls: Pulls, dial_timeout: DialTimeout, names: &[&str], most_named: usize) -> Line {
    let nodes = nodes_that(names.len(), "pulls", "pull");
    let mut found = match pulls {
        Pulls::Serial => Line {
            hint: Some(serial_hint(dial_timeout)),
            ..line(Mark::Warning, format!("{nodes} one image after the other"))
        },
        Pulls::Limited(most) => line(Mark::Well, format!("{nodes} at most {most} images at a time")),
        Pulls::Parallel => line(Mark::Well, format!("{nodes} images in parallel")),
    };
    found.details.push(named(names, most_named));
    if let Pulls::Limited(most) = pulls {
        found.details.push(format!(
            "{most} pulls from a registry that does not answer hold up all others of their node"
        ));
    }
    if pulls != Pulls::Serial && dial_timeout == DialTimeout::Settable {
        found.details.push(format!(
            "a pull from a registry that does not answer takes 30 s or a multiple; {DIAL_TIMEOUT}, makes it shorter"
        ));
    }
    found
}

fn serial_hint(dial_timeout: DialTimeout) -> String {
    let until = match dial_timeout {
        DialTimeout::Settable => format!("; {DIAL_TIMEOUT}, makes each of them shorter"),
        DialTimeout::TooOld => {
            "; containerd 2.1 or newer can be told to wait less, by `dial_timeout` in hosts.toml".to_owned()
        }
        DialTimeout::NotContainerd => String::new(),
    };
    format!(
        "each pull from a registry that does not answer holds up all later ones of its node for 30 s or a multiple, also after a \
         failover: set `serializeImagePulls: false` in the kubelet's configuration, with `maxParallelImagePulls` as a limit{until}"
    )
}

fn not_allowed(names: &[&str], words: &str, most_named: usize) -> Line {
    let mut found = line(
        Mark::Unknown,
        format!(
            "how {} images may not be read",
            nodes_that(names.len(), "pulls", "pull")
        ),
    );
    found.details.push(named(names, most_named));
    if !words.is_empty() {
        found.details.push(words.to_owned());
    }
    found.hint = Some(
        "needs the right to `get` `nodes/proxy`, which only administrators should have; the operator does not need it"
            .to_owned(),
    );
    found
}

fn not_read(failed: &[String], most_named: usize) -> Line {
    let mut found = line(
        Mark::Unknown,
        format!(
            "how {} images could not be read",
            nodes_that(failed.len(), "pulls", "pull")
        ),
    );
    found.details.extend(failed.iter().take(most_named).cloned());
    if failed.len() > most_named {
        found.details.push(format!("and {} more", failed.len() - most_named));
    }
    found.hint = Some("ask one by itself: `kubectl get --raw /api/v1/nodes/NODE/proxy/configz`".to_owned());
    found
}

fn not_asked(count: u64) -> Line {
    let (most, time) = (read::MOST, read::ASKED.as_secs());
    let text = format!(
        "{} not asked",
        nodes_that(usize::try_from(count).unwrap_or(usize::MAX), "was", "were")
    );
    Line {
        details: vec![format!("at most {most} are asked, and for at most {time} s")],
        ..line(Mark::Unknown, text)
    }
}

fn line(mark: Mark, text: String) -> Line {
    Line {
        step: STEP,
        mark,
        text,
        details: Vec::new(),
        hint: None,
    }
}

fn nodes_that(count: usize, one: &str, more: &str) -> String {
    if count == 1 {
        format!("1 node {one}")
    } else {
        format!("{count} nodes {more}")
    }
}

fn named(names: &[&str], most: usize) -> String {
    let shown = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
