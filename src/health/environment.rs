//! The machine a run is made on, and the limits it is made under.

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// The machine and the limits a run was made under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system and architecture, such as `linux-x86_64`.
    pub platform: String,
    /// Release of the kernel; `None` where it cannot be asked.
    pub kernel: Option<String>,
    /// Cores this process may use; `None` where it cannot be asked.
    pub cores: Option<usize>,
    /// Files and sockets this process may have open; `None` where it cannot be asked.
    pub open_files_limit: Option<u64>,
}

impl Environment {
    /// That of this process.
    pub fn here() -> Self {
        Self {
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: nix::sys::utsname::uname().ok().map(|u| u.release().to_string_lossy().into_owned()),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            open_files_limit: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// Raises the limit of open files as far as the system lets it, so that a thousand streams need no `ulimit`. Returns
/// the limit now in force; `None` where it cannot be asked.
pub fn raise_open_files_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}
