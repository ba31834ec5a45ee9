//! Reads the server's `/metrics` before, while and after a run is made. A reading that fails is a warning at most.

use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::Client;
use crate::clock::{Clock, Moment, Stop, SystemClock, stop_pair};
use crate::observe::{GaugeTrack, Reading, ServerSide, ServerWindow, metrics_url};

/// Watches one server.
pub struct Watch<'a> {
    client: &'a Client,
    url: String,
    before: Option<Reading>,
    /// What the times of the gauges are counted from.
    began: Moment,
    gauges: Mutex<GaugeTrack>,
}

/// Longest time for a reading before or after the run, and for one while it goes on.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two readings while the run goes on.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A server may count a request a little after its reply has ended.
const SETTLE: Duration = Duration::from_millis(250);
const SETTLE_TRIES: usize = 4;

impl<'a> Watch<'a> {
    /// Takes the first reading. `endpoint` is the URL that requests go to.
    pub fn begin(client: &'a Client, endpoint: &str) -> Self {
        let url = metrics_url(endpoint);
        let before = read(client, &url, READ_TIMEOUT)
            .inspect_err(|why| log::info!("no server metrics: {url}: {why}"))
            .ok();
        Self { client, url, before, began: SystemClock.now(), gauges: Mutex::default() }
    }

    /// Does `work` while gauges are read once a second.
    pub fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.before.is_none() {
            return work();
        }
        thread::scope(|scope| {
            let (stopper, stop) = stop_pair();
            let poll = move || self.poll(&stop);
            if let Err(error) = thread::Builder::new().name("watch".to_owned()).spawn_scoped(scope, poll) {
                log::warn!("the server's metrics are not read while the run goes on: {error}");
            }
            let result = work();
            stopper.stop();
            result
        })
    }

    fn poll(&self, stop: &Stop) {
        while stop.sleep(POLL_EVERY) {
            let at_s = SystemClock.now().since(self.began).as_secs_f64();
            match read(self.client, &self.url, POLL_TIMEOUT) {
                Ok(reading) => self.gauges.lock().push(at_s, &reading),
                Err(why) => log::debug!("{}: {why}", self.url),
            }
        }
    }

    /// Takes the last reading, once the server has counted as many requests as `succeeded` here or does not come to
    /// it; it may have counted some that `failed` here, too. The gauges' times are counted from `origin`. `None` where the server has no metrics that we know; the
    /// warnings say what is doubtful.
    pub fn end(
        self,
        succeeded: u64,
        failed: u64,
        origin: Moment,
        stop: &Stop,
    ) -> (Option<ServerSide>, Vec<String>) {
        let Some(before) = &self.before else { return (None, vec![]) };
        let mut window = self.window(before);
        for _ in 0..SETTLE_TRIES {
            let counted = window.as_ref().ok().and_then(|window| window.requests_finished);
            if counted.is_none_or(|counted| counted >= succeeded) || !stop.sleep(SETTLE) {
                break;
            }
            window = self.window(before);
        }
        match window {
            Err(why) => (None, vec![format!("server metrics: {why}")]),
            Ok(window) => {
                let mut warnings: Vec<String> =
                    window.warnings.iter().map(|warning| format!("server metrics: {warning}")).collect();
                let finished = window.requests_finished;
                warnings.extend(finished.and_then(|theirs| disagreement(theirs, succeeded, failed)));
                let start_s = origin.since(self.began).as_secs_f64();
                let gauges = self.gauges.into_inner().summary(start_s);
                (Some(ServerSide { window, gauges }), warnings)
            }
        }
    }

    fn window(&self, before: &Reading) -> Result<ServerWindow, String> {
        ServerWindow::between(before, &read(self.client, &self.url, READ_TIMEOUT)?)
    }
}

/// The server's count of finished requests against ours.
fn disagreement(theirs: u64, succeeded: u64, failed: u64) -> Option<String> {
    let reason = if theirs > succeeded + failed {
        match theirs.checked_rem(succeeded) {
            Some(0) => "it counts each choice (n, several prompts) for itself, or had other traffic too",
            _ => "it had other traffic, which is in its figures",
        }
    } else if theirs < succeeded {
        "it lost count of some"
    } else {
        return None;
    };
    Some(format!(
        "server metrics: the server finished {theirs} requests where this run saw {succeeded} succeed: {reason}"
    ))
}

fn read(client: &Client, url: &str, timeout: Duration) -> Result<Reading, String> {
    let (status, body) = client.get(url, timeout).map_err(|failure| failure.to_string())?;
    if status != 200 {
        return Err(format!("status {status}"));
    }
    Reading::parse(&String::from_utf8_lossy(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_count_than_ours_is_told_with_what_it_may_be() {
        let check = |theirs, succeeded, failed, part: Option<&str>| {
            let told = disagreement(theirs, succeeded, failed);
            assert_eq!(told.is_some(), part.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(part.unwrap_or_default()), "{theirs} {succeeded}");
        };
        check(64, 64, 0, None);
        check(66, 64, 2, None);
        check(65, 64, 0, Some("it had other traffic, which"));
        check(3, 0, 0, Some("it had other traffic, which"));
        check(63, 64, 0, Some("it lost count"));
        check(128, 64, 0, Some("it counts each choice (n, several prompts) for itself"));
    }
}
