//! argv to exit code: the only place that sets the logger up, catches signals and looks at the surroundings.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;

use env_logger::Env;
use log::{Level, Log, Metadata};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use vllm_loadgen::app::{self, Streams};
use vllm_loadgen::cli::{self, DEFAULT_CONFIG, Order, Surroundings};
use vllm_loadgen::clock::{Stopper, stop_pair};
use vllm_loadgen::error::{Error, ExitCode};
use vllm_loadgen::report;
use vllm_loadgen::text::one_line;

fn main() -> process::ExitCode {
    // on a stack of its own, which is enough whatever `ulimit -s` says
    let body = thread::Builder::new().name("main".to_owned()).stack_size(STACK).spawn(answer);
    match body.map(thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // it has been told
        Ok(Err(_panic)) => process::ExitCode::from(101),
        Err(cause) => process::ExitCode::from(complain(&Error::Start(cause)).number()),
    }
}

/// Of the thread that does the work.
const STACK: usize = 8 << 20;

fn answer() -> process::ExitCode {
    let color =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut streams = Streams { out: &mut io::stdout(), err: &mut io::stderr(), color };
    let code = obey(&mut streams).unwrap_or_else(|error| complain(&error));
    process::ExitCode::from(code.number())
}

fn obey(streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    let default_config = PathBuf::from(DEFAULT_CONFIG);
    let around = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        read: &read,
        default_config: default_config.is_file().then_some(default_config),
    };
    let (stopper, stop) = stop_pair();
    // caught, a file that may not grow is a write that fails, and no end of the process
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(Error::Start)?;
    match cli::parse(&words, &around)? {
        Order::Print(text) => {
            streams.out.write_all(text.as_bytes())?;
            Ok(ExitCode::Success)
        }
        Order::Run(order) => {
            start_logger(order.verbosity);
            let caught = stop_at_signals(stopper, INTERRUPTED).map_err(Error::Start)?;
            let code = app::run(*order, &stop, streams)?;
            Ok(caught.get().map_or(code, |signal| ExitCode::Interrupted(*signal)))
        }
        Order::Report(order) => {
            start_logger(order.verbosity);
            app::report(&order, streams)
        }
        Order::Compare(order) => {
            start_logger(order.verbosity);
            app::compare(&order, streams)
        }
        Order::Export(order) => {
            start_logger(order.verbosity);
            app::export(&order, streams)
        }
        Order::Trend(order) => {
            start_logger(order.verbosity);
            app::trend(&order, streams)
        }
        Order::Simulate(order) => {
            start_logger(order.verbosity);
            stop_at_signals(stopper, STOPPING).map_err(Error::Start)?;
            app::simulate(*order, &stop, streams)
        }
        Order::Selftest(order) => {
            start_logger(order.verbosity);
            let caught = stop_at_signals(stopper, CUT_SHORT).map_err(Error::Start)?;
            let code = app::selftest(*order, &stop, streams)?;
            Ok(caught.get().map_or(code, |signal| ExitCode::Interrupted(*signal)))
        }
    }
}

/// What is said at the first signal and at the second.
const INTERRUPTED: [&str; 2] = [
    "interrupted: no further request is sent; the report follows when those under way have ended, after 10s or --grace \
     at the latest; interrupt again to give them up now",
    "giving up the requests under way; the report follows; interrupt again to end at once without it",
];
const CUT_SHORT: [&str; 2] =
    ["interrupted: what was found so far follows", "interrupt again to end at once without it"];
const STOPPING: [&str; 2] = ["stopping", "stopping at once"];
/// What is said at the first SIGXFSZ.
const FULL: &str =
    "a file may not grow any more (ulimit -f): no further request is sent, and the report follows";

/// Asks for the stop at the first Ctrl-C, SIGTERM, hang-up or SIGXFSZ, urges it at the second, and ends the process at the
/// third. Tells which signal came first.
fn stop_at_signals(mut stopper: Stopper, say: [&'static str; 2]) -> io::Result<Arc<OnceLock<u8>>> {
    let caught = Arc::new(OnceLock::new());
    let first = Arc::clone(&caught);
    let signals = [SIGINT, SIGTERM, SIGXFSZ].into_iter().chain(ends_at_hang_up().then_some(SIGHUP));
    let mut signals = Signals::new(signals)?;
    let wait = move || {
        let tell = |what: &str| {
            let _ = writeln!(io::stderr(), "{what}");
        };
        let mut signals = signals.forever();
        let number = signals.next().unwrap_or_default();
        tell(if number == SIGXFSZ { FULL } else { say[0] });
        // told before the stop, so that whoever sees the stop knows why
        let _ = first.set(u8::try_from(number).unwrap_or_default());
        stopper.begin();
        // each further write to a file that may not grow brings one more, and nobody is impatient
        let mut signals = signals.filter(|signal| *signal != SIGXFSZ);
        signals.next();
        tell(say[1]);
        stopper.stop();
        let last = signals.next().and_then(|signal| u8::try_from(signal).ok()).unwrap_or_default();
        report::remove_unfinished();
        process::exit(i32::from(ExitCode::Interrupted(last).number()));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(caught)
}

/// Whether a hang-up is to end the process: not where it was started to live on, by `nohup`, nor where the system does not say.
fn ends_at_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) == 0)
}

/// Logs go to standard error. `RUST_LOG` wins over `-v`; other crates log warnings only unless it names them.
fn start_logger(verbosity: u8) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbosity.min(3))];
    let filter = format!("warn,vllm_loadgen={level}");
    let logger = env_logger::Builder::from_env(Env::default().default_filter_or(filter)).build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(WithoutWire(logger))).expect("no other logger was set");
}

/// A logger that keeps what ureq sends and receives to itself: at trace level it dumps every byte, the key's too.
struct WithoutWire(env_logger::Logger);

impl Log for WithoutWire {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let dumps = metadata.level() == Level::Trace && metadata.target().starts_with("ureq");
        !dumps && self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // one more than is allowed tells what has no end
    let read = match path == Path::new("-") {
        true => io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text)?,
        false => File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?,
    };
    if read as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds more than 16 MiB"));
    }
    Ok(text)
}

/// Longest text that is read.
const LONGEST: u64 = 16 << 20;

fn complain(error: &Error) -> ExitCode {
    let prefix = if io::stderr().is_terminal() { "\x1b[31merror\x1b[0m" } else { "error" };
    for line in error.to_string().lines() {
        let _ = writeln!(io::stderr(), "{prefix}: {}", one_line(line));
    }
    error.exit_code()
}
