//! What is printed without a registry or a cluster: help, versions and mistakes. `TRYCMD=overwrite` brings the expected
//! texts up to date, those in docs/cli.md too.

// Helpers of a test fail by panicking, as the test does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod documents;

#[test]
fn help_and_mistakes_read_as_written_down() {
    trycmd::TestCases::new()
        .env("HOME", "/nowhere")
        .env("DOCKER_CONFIG", "/nowhere")
        .env("KUBECONFIG", "/nowhere/config")
        .case("tests/cmd/*.trycmd")
        .case("../../docs/cli.md");
}

#[test]
fn crd_prints_the_definition_that_is_in_the_tree() {
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_catamaran"))
        .arg("crd")
        .output()
        .unwrap();
    let committed = include_str!("../../../crds/catamaran.dev_registrymirrors.yaml");
    assert!(ran.status.success());
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), committed);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_catamaran"))
        .args(["version", "-o", "json"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        (child.status.code(), String::from_utf8(child.stderr).unwrap().as_str()),
        (Some(0), "")
    );
}
