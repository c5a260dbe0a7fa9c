//! A test in a process of its own, where the environment or the memory of the whole process is what is tested.

use std::process::Command;

/// Runs one ignored test of this very binary, with these variables besides a bare environment; its standard output.
pub(crate) async fn run(test: &'static str, variables: Vec<(&'static str, String)>) -> String {
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let proxies = [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
        ];
        for name in proxies {
            command.env_remove(name);
        }
        let arguments = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
        command.args(arguments).envs(variables).output().unwrap()
    });
    let ran = ran.await.unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout).into_owned(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    );
    assert!(ran.status.success() && out.contains("1 passed"), "{test}: {out}\n{err}");
    out
}

/// What the parent told this process.
pub(crate) fn told(name: &str) -> String {
    std::env::var(name).expect("this test is run by another one, which sets it")
}
