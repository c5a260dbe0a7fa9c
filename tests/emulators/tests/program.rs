//! The program: it says where it is, obeys, and ends with its input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[test]
fn the_program_serves_and_obeys_until_its_input_ends() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_emulator"))
        .args(["acr", "--host", "kracr.azurecr.io", "--anonymous", "--fill", "2x3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&output.next().unwrap().unwrap()).unwrap() };
    let told = next();
    assert!(told["ca"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let address: std::net::SocketAddr = told["address"].as_str().unwrap().parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() != 0);
    std::net::TcpStream::connect(address).unwrap();
    for (line, error) in [
        ("latency 40", false),
        ("wire silent", false),
        ("advance 60", false),
        ("dance", true),
        ("wire x", true),
    ] {
        writeln!(input, "{line}").unwrap();
        assert_eq!(next().get("error").is_some(), error, "{line}");
    }
    writeln!(input, "counts").unwrap();
    let counts = next();
    assert_eq!(
        (&counts["total"], &counts["connections"]),
        (&json!(0), &json!(1)),
        "{counts}"
    );
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn wrong_arguments_are_refused() {
    for arguments in [
        vec!["acr"],
        vec!["acr", "--host", "x", "--fill", "many"],
        vec!["acr", "--host", "x", "--account", "nobody"],
        vec!["acr", "--host", "x", "--cert", "/nonexistent"],
        vec!["acr", "--host", "x", "--cert", "/nonexistent", "--key", "/nonexistent"],
        vec!["entra", "--application", "a,b,c"],
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_emulator"))
            .args(&arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(!status.unwrap().success(), "{arguments:?}");
    }
}
