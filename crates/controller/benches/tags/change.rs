//! What one changed tag costs: `ConfigMaps`, and processor time of the leader and of another replica.
//!
//! Each has a runtime of its own, and the kernel's account of its threads is what counts: from the answer of the registries through
//! the machine to the evidence of the leader's own webhook and the ConfigMap, and from the ConfigMap's event to the other's.

use std::time::Duration;

use crate::apiserver::{ApiServer, MIRRORS, NAMESPACES, WrittenConfigMap};
use crate::leader::Command;
use crate::mirror::{MirrorOf, namespace};
use crate::replica::{Replica, pass};
use crate::table::{Table, median};
use crate::threads;

/// Tags that change one by one.
const CHANGES: u32 = 25;

/// Until everything that a change leads to has come to rest: changes are collected for 50 ms.
const REST: Duration = Duration::from_millis(150);

const CPU_BAR: Duration = Duration::from_millis(5);
const SIZE_BAR: usize = 64_000;

/// What one change has cost.
struct Cost {
    leader: Duration,
    replica: Duration,
    written: Vec<WrittenConfigMap>,
}

/// Measures a mirror of so many tags; the bars hold where `barred`.
pub fn measure(tags: u32, barred: bool, table: &mut Table) {
    let api = threads::runtime("apiserver", 1);
    let (leader, replica) = (threads::runtime("leader", 2), threads::runtime("replica", 2));
    let server = ApiServer::new(api.handle().clone());
    let of = MirrorOf { number: 0, tags };
    server.put(MIRRORS, of.object(0));
    server.put(NAMESPACES, namespace("shop"));
    let leading = Replica::start(&server, leader.handle(), true);
    let mut other = Replica::start(&server, replica.handle(), false);
    let costs = api.block_on(async {
        let commands = leading.lead(of);
        pass(&commands).await;
        other.knows(tags as usize).await;
        let mut costs = Vec::new();
        for round in 0..CHANGES {
            tokio::time::sleep(REST).await;
            server.take_written();
            let before = (threads::cpu("leader"), threads::cpu("replica"));
            let tag = (u64::from(round) * 7_919 * 101 % u64::from(tags)) as u32;
            let mut seen = other.snapshots.clone();
            seen.mark_unchanged();
            assert!(commands.send(Command::Change(tag)).is_ok(), "the leader goes on");
            seen.changed().await.expect("the replica goes on");
            tokio::time::sleep(REST).await;
            costs.push(Cost {
                leader: threads::cpu("leader").saturating_sub(before.0),
                replica: threads::cpu("replica").saturating_sub(before.1),
                written: server.take_written(),
            });
        }
        costs
    });
    report(tags, barred, &costs, table);
    for runtime in [leader, replica, api] {
        runtime.shutdown_background();
    }
}

fn report(tags: u32, barred: bool, costs: &[Cost], table: &mut Table) {
    let writes = costs.iter().map(|cost| cost.written.len()).max().unwrap_or_default();
    let fewest = costs.iter().map(|cost| cost.written.len()).min().unwrap_or_default();
    let largest = |size: fn(&WrittenConfigMap) -> usize| {
        let sizes = costs.iter().flat_map(|cost| &cost.written).map(size);
        sizes.max().unwrap_or_default()
    };
    let (group, request) = (largest(|written| written.group), largest(|written| written.request));
    Table::row(tags, "ConfigMaps written for a changed tag", &writes.to_string(), "1");
    Table::row(tags, "bytes of the largest of them", &group.to_string(), "64000");
    Table::row(
        tags,
        "bytes of the largest request, in base64",
        &request.to_string(),
        "",
    );
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let medians = [("the leader", 0), ("another replica", 1)].map(|(who, index)| {
        let times = || costs.iter().map(|cost| [cost.leader, cost.replica][index]);
        let middle = Duration::from_secs_f64(median(times().map(|time| time.as_secs_f64())));
        let slowest = times().max().unwrap_or_default();
        let figure = format!("{:.2} ({:.2})", millis(middle), millis(slowest));
        Table::row(tags, &format!("CPU ms of {who}: median (most)"), &figure, "5");
        middle
    });
    if barred {
        table.expect((fewest, writes) == (1, 1), "a changed tag writes exactly one ConfigMap");
        table.expect(group <= SIZE_BAR, "a ConfigMap has at most 64 kB");
        table.expect(medians[0] <= CPU_BAR, "a changed tag costs the leader at most 5 ms");
        table.expect(medians[1] <= CPU_BAR, "a changed tag costs a replica at most 5 ms");
    }
}
