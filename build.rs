//! Tells the code which commit it is built from.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // a packed crate inside somebody else's checkout is not built from that checkout's commit
    let is_ours = git(&["ls-files", "build.rs"]).is_some_and(|tracked| tracked == "build.rs");
    let commit = is_ours.then(|| git(&["rev-parse", "--short=10", "HEAD"])).flatten();
    println!("cargo:rustc-env=VLLM_LOADGEN_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
}
