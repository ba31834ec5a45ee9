//! What can keep the tool from doing its job, and the exit codes it answers with.
//!
//! A request that goes wrong is none of these: that is a measurement ([`crate::failure`]).

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the tool could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was typed or configured is wrong; all mistakes at once.
    #[error("{}", lines(.0))]
    Usage(Vec<Mistake>),
    /// The server cannot be reached, or not be used.
    #[error("{0}")]
    Server(String),
    /// A file cannot be read or written.
    #[error("{path}: {cause}{advice}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
        /// What to do, after a semicolon; or nothing.
        advice: &'static str,
    },
    /// The system refused to start a thread.
    #[error(
        "cannot start thread {number} of {of}: {cause}; use fewer --threads, or raise the limits \
         (ulimit -u, a container's pids.max, or of memory: ulimit -v)"
    )]
    Thread {
        /// The thread that was refused, from 1.
        number: usize,
        /// Threads wanted.
        of: usize,
        /// What the system says.
        cause: io::Error,
    },
    /// The system does not give what the command needs for itself.
    #[error("cannot start: {0}; {advice}", advice = limit_of(.0))]
    Start(io::Error),
    /// The results could not be written to standard output.
    #[error("cannot write the report: {0}")]
    Output(#[from] io::Error),
}

/// One thing that is wrong with what was typed or configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: a flag with its value, or file, line and column.
    pub place: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl Mistake {
    /// A mistake at `place`.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Which limit stands behind what the system says.
fn limit_of(cause: &io::Error) -> &'static str {
    // EMFILE and ENFILE have no kind of their own
    match (cause.raw_os_error(), cause.kind()) {
        (Some(23 | 24), _) => "raise the limit of open files (ulimit -n)",
        (_, io::ErrorKind::WouldBlock) => {
            "raise the limit of threads (ulimit -u, a container's pids.max) or of memory (ulimit -v)"
        }
        (_, io::ErrorKind::OutOfMemory) => "raise the limit of memory (ulimit -v, or a container's)",
        _ => "raise the limits of this shell (ulimit -a shows them)",
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done.
    Success,
    /// Could not run, could not write, or no request succeeded.
    Failed,
    /// Usage or configuration is wrong.
    Usage,
    /// Done, and what came of it is not what was asked for: a threshold that failed, a comparison that is worse, too many
    /// failures, or an INVALID run under `--strict`.
    Unmet,
    /// Stopped by this signal; what was measured until then is written and marked.
    Interrupted(u8),
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unmet => 99,
            Self::Interrupted(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl Error {
    /// The exit code that this error means.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::Usage,
            _ => ExitCode::Failed,
        }
    }
}
