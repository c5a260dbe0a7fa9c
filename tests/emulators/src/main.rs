//! Serves one emulator until its input ends.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    catamaran_emulators::program::run(std::env::args_os()).await
}
