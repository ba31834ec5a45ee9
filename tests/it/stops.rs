//! Stops that come at awkward moments: before the first request, while there is no connection yet, from a sink that panics.

use std::fs;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use vllm_loadgen::app;
use vllm_loadgen::benchmark::{self, BenchmarkConfig, Benchmarker, Run};
use vllm_loadgen::cli::{self, Order, RunOrder, Surroundings};
use vllm_loadgen::clock::{Stop, stop_pair};
use vllm_loadgen::{Record, Sink};

use crate::command::{folder, json};
use crate::failures::{answer, read_request, server};

fn order(words: &[&str]) -> Box<RunOrder> {
    let around =
        Surroundings { variable: &|_| None, read: &|path| fs::read_to_string(path), default_config: None };
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let Ok(Order::Run(order)) = cli::parse(&words, &around) else { panic!("it is an order") };
    order
}

/// Makes the run of these words; what it shows and what it says beside that.
fn run_in_process(words: &[&str], stop: &Stop) -> (String, String) {
    let order = order(words);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = app::Streams { out: &mut out, err: &mut err, color: false };
    app::run(*order, stop, &mut streams).expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(out), text(err))
}

#[test]
fn a_stop_that_comes_while_the_server_is_asked_for_its_metrics_lets_nothing_be_sent() {
    let folder = folder();
    let file = folder.path().join("run.json").display().to_string();
    for load in [&["-t", "2"][..], &["--request-rate", "1000"]] {
        let (mut stopper, stop) = stop_pair();
        // the first that is asked of it is /metrics
        let url = server(move |_, mut stream| {
            stopper.begin();
            answer(&mut stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        });
        let words = ["-q", "--url", &url, "--model", "m", "-n", "50", "--overwrite", "-o", &file];
        let (shown, _) = run_in_process(&[&words[..], load].concat(), &stop);
        assert!(shown.contains("ended before its planned end"), "{shown}");
        assert_eq!(json(file.as_ref())["summary"]["requests"]["sent"], 0, "{load:?}");
    }
}

#[test]
fn a_stop_while_the_server_is_asked_for_its_model_is_no_failure_of_the_command() {
    let (mut stopper, stop) = stop_pair();
    let url = server(move |_, mut stream| {
        read_request(&mut stream);
        stopper.begin();
    });
    let (shown, said) = run_in_process(&["--url", &url, "--alert-webhook", &url], &stop);
    assert!(shown.is_empty() && said.contains(&format!("error: cannot reach {url}")), "{shown}{said}");
    assert!(!said.contains("alert"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_being_made_is_cut_short() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
    };
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use vllm_loadgen::backend::{Backend, Client, Settings};
    use vllm_loadgen::failure::FailureKind;

    use crate::failures::{exchange_on, settings};

    let queue = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
    bind(queue.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("bound");
    listen(&queue, Backlog::new(0).expect("none")).expect("it listens");
    let port = getsockname::<SockaddrIn>(queue.as_raw_fd()).expect("bound").port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // there is room for one; whoever comes then waits
    let _waits = TcpStream::connect(address).expect("there is room for one");
    let settings =
        Settings { connect_timeout: Duration::from_secs(40), ..settings(&format!("http://{address}")) };
    let mut backend = Client::new(settings).expect("valid settings").backend();
    let cancel = backend.canceller();
    let exchange = std::thread::scope(|scope| {
        let under_way = scope.spawn(move || exchange_on(&mut backend).0);
        std::thread::sleep(Duration::from_millis(100));
        cancel();
        under_way.join().expect("no panic")
    });
    let failure = exchange.result.expect_err("there is no connection");
    assert_ne!(failure.kind, FailureKind::ConnectTimeout, "{failure}");
}

/// Panics at the first record.
struct Fragile;

impl Sink for Fragile {
    fn record(&mut self, record: &Record) {
        panic!("it cannot take {}", record.id);
    }
}

/// Waits for `work` to panic; a hang fails here and nowhere else.
fn panics_soon(work: impl FnOnce() + Send + 'static) {
    let (gone, is_gone) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        let _gone = gone;
        work();
    });
    let waited = is_gone.recv_timeout(Duration::from_secs(60));
    assert_eq!(waited, Err(mpsc::RecvTimeoutError::Disconnected), "it hangs");
    worker.join().expect_err("the panic comes out");
}

#[test]
fn a_sink_that_panics_ends_a_run_whatever_is_under_way() {
    let run = |url: &str| {
        let config = BenchmarkConfig {
            url: url.to_owned(),
            model: Some("m".to_owned()),
            max_tokens: 2,
            ..BenchmarkConfig::default()
        };
        move || {
            let mut sink = Fragile;
            let _ = Benchmarker::new(config).run_with_sinks("p", u64::MAX, 3, vec![&mut sink]);
        }
    };
    let busy = crate::command::simulator();
    panics_soon(run(&busy.url()));

    // one reply, and silence for all the others
    let mut held: Vec<TcpStream> = Vec::new();
    let silent = server(move |number, mut stream| match number {
        0 | 1 => answer(&mut stream, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        _ => held.push(stream),
    });
    panics_soon(run(&silent));
}

#[test]
fn a_sink_that_panics_ends_a_run_that_waits_for_its_next_arrival() {
    let url = server(|_, mut stream| {
        answer(&mut stream, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    panics_soon(move || {
        let words = ["-q", "--url", &url, "--model", "m", "--request-rate", "0.001", "-n", "9"];
        let (_stopper, stop) = stop_pair();
        let order = order(&[&words[..], &["--arrival", "constant"]].concat());
        let suite = order.draft.check(&mut |_| panic!("the model is given")).expect("valid");
        let mut sink = Fragile;
        let run = Run {
            sinks: vec![&mut sink],
            record_log: None,
            server_metrics: false,
            calibration: None,
            stop: &stop,
        };
        let _ = benchmark::run(&suite.plans[0], run);
    });
}

#[test]
fn an_interrupted_calibration_makes_no_empty_run() {
    let folder = folder();
    let file = folder.path().join("run.json");
    let (mut stopper, stop) = stop_pair();
    let url = server(move |_, mut stream| {
        stopper.begin();
        answer(&mut stream, "HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    let words = ["--url", &url, "--model", "m", "-n", "50", "--calibrate", "-o", &file.display().to_string()];
    let (shown, said) = run_in_process(&words, &stop);
    assert!(said.contains("interrupted: 0 of 1 runs were made"), "{said}");
    assert_eq!((shown.as_str(), file.exists()), ("", false));
}
