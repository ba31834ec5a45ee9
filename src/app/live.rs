//! The metrics that are served while runs are made.

use std::net::SocketAddr;
use std::time::Duration;

use super::Streams;
use crate::clock::Stop;
use crate::error::Error;
use crate::report::prometheus::{LiveMetrics, TEXT_TYPE};
use crate::report::{Report, write_prometheus};
use crate::scrape::ScrapeServer;

/// Metrics and the server that hands them out.
pub(super) struct Live {
    pub(super) metrics: LiveMetrics,
    server: ScrapeServer,
}

/// How long the metrics are there after the last run, for one more scrape: the usual interval of Prometheus.
const LINGER: Duration = Duration::from_secs(15);

impl Live {
    /// Listens at the address, and says where the metrics are.
    pub(super) fn start(address: SocketAddr, streams: &mut Streams<'_>) -> Result<Self, Error> {
        let metrics = LiveMetrics::default();
        let own = metrics.clone();
        let server = ScrapeServer::start(address, TEXT_TYPE, Box::new(move || own.text()));
        let refused =
            |e| Error::Server(format!("cannot listen on {address}: {e}; choose another --metrics-listen"));
        let server = server.map_err(refused)?;
        streams.remark(format_args!("metrics of the runs on {}", server.url()));
        Ok(Self { metrics, server })
    }

    /// Adds the results, and stays for one more scrape. A stop ends that at once.
    pub(super) fn end(self, reports: &[Report], stop: &Stop, streams: &mut Streams<'_>) {
        let mut text = Vec::new();
        match write_prometheus(reports, &mut text) {
            Ok(()) => self.metrics.set_results(text),
            Err(error) => log::warn!("the results are not among the metrics: {error}"),
        }
        if !stop.requested() {
            let (url, most) = (self.server.url(), LINGER.as_secs());
            streams.remark(format_args!("metrics stay on {url} for one scrape, at most {most} s"));
            self.server.linger(LINGER, stop);
        }
    }
}
