//! Processes that are told things line by line, and answer each line with one of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// This program in another role; it ends with its owner.
pub struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    /// Starts this program with other arguments.
    pub fn start(arguments: &[&str]) -> Talk {
        let me = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(me)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        Talk {
            input: child.stdin.take().expect("it was piped"),
            output: BufReader::new(child.stdout.take().expect("it was piped")),
            child,
        }
    }

    /// The next line of the other side.
    pub fn hear<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the other side is there");
        serde_json::from_str(&line).expect("the other side speaks JSON")
    }

    /// Says a line; the answer.
    pub fn say<T: DeserializeOwned>(&mut self, line: &str) -> T {
        writeln!(self.input, "{line}").expect("the other side listens");
        self.hear()
    }

    /// Says a line whose answer says nothing.
    pub fn tell(&mut self, line: &str) {
        let answer: Value = self.say(line);
        assert!(answer.get("error").is_none(), "{line}: {answer}");
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The largest resident size of a process so far, in bytes; `None` when it has ended.
pub fn peak(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
