//! Asks for nodes and for what their kubelets are configured to. The user who runs the command needs the rights, not the operator.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Limited};
use hyper::Request;
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::kubelet::{self, DialTimeout, Pulls};

/// Kubelets that are asked at most. What a cluster has more of comes out of the same few pools.
pub const MOST: usize = 500;
/// Nodes in one page: each is up to some 100 kB.
const PAGE: u32 = 50;
/// The largest page that is read.
const LARGEST_PAGE: usize = 32 << 20;
/// The largest configuration of a kubelet that is read; usual are 4 kB.
const LARGEST_CONFIGURATION: usize = 1 << 20;
/// As much is shown of what a node answers.
const LONGEST_WORDS: usize = 300;
/// Until a page of nodes is there.
const LISTED: Duration = Duration::from_secs(30);
/// Until a kubelet has answered, by way of the API server.
pub const ANSWERED: Duration = Duration::from_secs(5);
/// Until no further kubelet is asked.
pub const ASKED: Duration = Duration::from_mins(1);
/// Kubelets that are asked at a time.
const PARALLEL: usize = 8;

/// What is known of a cluster's nodes.
#[derive(Debug, Default)]
pub struct Nodes {
    /// Those that were asked for their configuration, by name.
    pub asked: Vec<Node>,
    /// How many there are beside them, if the API server says so.
    pub further: u64,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What its runtime can do.
    pub dial_timeout: DialTimeout,
    /// How its kubelet pulls.
    pub pulls: Result<Pulls, Refusal>,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A right is missing; the API server's words.
    Forbidden(String),
    /// Something else is wrong.
    Failed(String),
    /// It was not asked for, because others had taken the time.
    OutOfTime,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Item>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    r#continue: String,
    remaining_item_count: u64,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMetadata,
    #[serde(default)]
    status: ItemStatus,
}

#[derive(Deserialize)]
struct ItemMetadata {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ItemStatus {
    node_info: NodeInfo,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeInfo {
    container_runtime_version: String,
}

/// The first nodes of the cluster and how their kubelets pull.
pub async fn nodes(client: &Client) -> Result<Nodes, Refusal> {
    let (items, further) = list(client).await?;
    let end = Instant::now() + ASKED;
    let (allowed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = |item: Item| {
        let (allowed, refused) = (&allowed, &refused);
        async move {
            let pulls = if refused.load(Ordering::Relaxed) >= PARALLEL && allowed.load(Ordering::Relaxed) == 0 {
                // The right is one for all nodes, nearly always: the others are not asked just to be refused, too.
                Err(Refusal::Forbidden(String::new()))
            } else {
                pulls(client, &item.metadata.name, end).await
            };
            let count = if matches!(pulls, Err(Refusal::Forbidden(_))) {
                refused
            } else {
                allowed
            };
            count.fetch_add(1, Ordering::Relaxed);
            Node {
                dial_timeout: kubelet::dial_timeout(&item.status.node_info.container_runtime_version),
                name: item.metadata.name,
                pulls,
            }
        }
    };
    let mut asked: Vec<Node> = stream::iter(items).map(ask).buffer_unordered(PARALLEL).collect().await;
    asked.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Nodes { asked, further })
}

/// As many nodes as are asked, and how many more there are.
async fn list(client: &Client) -> Result<(Vec<Item>, u64), Refusal> {
    let (mut items, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let request = kube::core::Request::new("/api/v1/nodes").list(&params);
        let request = request.map_err(|error| Refusal::Failed(error.to_string()))?;
        let page = timeout(LISTED, get(client, request.map(Body::from), LARGEST_PAGE)).await;
        let page = page.map_err(|_| Refusal::Failed(format!("no answer within {} s", LISTED.as_secs())))??;
        let Page { metadata, items: more } = serde_json::from_slice(&page)
            .map_err(|error| Refusal::Failed(format!("the answer is no list of nodes: {error}")))?;
        items.extend(more);
        let cut = items.len().saturating_sub(MOST);
        items.truncate(MOST);
        if metadata.r#continue.is_empty() || items.len() == MOST {
            return Ok((items, metadata.remaining_item_count.saturating_add(cut as u64)));
        }
        params = params.continue_token(&metadata.r#continue);
    }
}

async fn pulls(client: &Client, node: &str, end: Instant) -> Result<Pulls, Refusal> {
    let now = Instant::now();
    if now >= end {
        return Err(Refusal::OutOfTime);
    }
    let request = Request::get(format!("/api/v1/nodes/{node}/proxy/configz")).body(Body::empty());
    let request = request.map_err(|error| Refusal::Failed(error.to_string()))?;
    let until = end.min(now + ANSWERED);
    let answer = timeout_at(until, get(client, request, LARGEST_CONFIGURATION)).await;
    let answer = answer.map_err(|_| Refusal::Failed(format!("no answer within {} s", ANSWERED.as_secs())))??;
    let not_understood = || Refusal::Failed("the answer is no configuration of a kubelet".to_owned());
    kubelet::pulls(&answer).ok_or_else(not_understood)
}

/// The body of a good answer, if it is not larger than this.
async fn get(client: &Client, request: Request<Body>, most: usize) -> Result<Bytes, Refusal> {
    let answer = client.send(request).await;
    let answer = answer.map_err(|error| Refusal::Failed(error.to_string()))?;
    let code = answer.status();
    let whole = Limited::new(answer.into_body(), most).collect().await;
    let body = whole.map_err(|error| Refusal::Failed(format!("failed to read the answer: {error}")))?;
    let body = body.to_bytes();
    if code.is_success() {
        return Ok(body);
    }
    let status: Option<Status> = serde_json::from_slice(&body).ok();
    let words = status
        .map(|status| status.message)
        .filter(|message| !message.is_empty());
    let words = words.unwrap_or_else(|| code.to_string());
    let words: String = words.chars().take(LONGEST_WORDS).collect();
    Err(if code == hyper::StatusCode::FORBIDDEN {
        Refusal::Forbidden(words)
    } else {
        Refusal::Failed(words)
    })
}
