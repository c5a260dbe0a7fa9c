//! What a program that serves an emulator is told while it runs: one line in, one line of JSON out.
//!
//! | line | what happens | answer |
//! | --- | --- | --- |
//! | `counts` | | requests of each kind, and connections |
//! | `clear` | the log is forgotten | `{}` |
//! | `latency 40` | milliseconds before each answer | `{}` |
//! | `wire normal`, `wire reset`, `wire silent` | what happens below HTTP | `{}` |
//! | `advance 3600` | seconds by which the emulator's time is moved on | `{}` |

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, Wire};

/// Does what a line says; the answer, or `{"error": …}` for a line that says nothing.
pub fn obey(server: &Server, line: &str) -> Value {
    let mut words = line.split_whitespace();
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
    match (words.next(), words.next()) {
        (Some("counts"), None) => {
            json!({"requests": server.log().counts(), "total": server.log().total(), "connections": server.log().connections()})
        }
        (Some("clear"), None) => {
            server.log().clear();
            json!({})
        }
        (Some("latency"), milliseconds) => number(milliseconds).map_or_else(unknown, |milliseconds| {
            server.set_latency(Duration::from_millis(milliseconds));
            json!({})
        }),
        (Some("advance"), seconds) => number(seconds).map_or_else(unknown, |seconds| {
            server.clock().advance(Duration::from_secs(seconds));
            json!({})
        }),
        (Some("wire"), Some(wire)) => match wire {
            "normal" => set(server, Wire::Normal),
            "reset" => set(server, Wire::Reset),
            "silent" => set(server, Wire::Silent),
            _ => unknown(),
        },
        _ => unknown(),
    }
}

fn set(server: &Server, wire: Wire) -> Value {
    server.set_wire(wire);
    json!({})
}

fn unknown() -> Value {
    json!({"error": "say counts, clear, latency MILLISECONDS, advance SECONDS, or wire normal|reset|silent"})
}
