//! Stops that come at awkward moments: before the first request, and while there is no connection yet.

use std::fs;

use vllm_loadgen::app;
use vllm_loadgen::cli::{self, Order, Surroundings};
use vllm_loadgen::clock::{Stop, stop_pair};

use crate::command::{folder, json};
use crate::failures::{answer, read_request, server};

/// Makes the run of these words; what it shows and what it says beside that.
fn run_in_process(words: &[&str], stop: &Stop) -> (String, String) {
    let around =
        Surroundings { variable: &|_| None, read: &|path| fs::read_to_string(path), default_config: None };
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let Ok(Order::Run(order)) = cli::parse(&words, &around) else { panic!("it is an order") };
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
