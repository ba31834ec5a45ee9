//! The floor: a client on blocking sockets that sends the same bytes, finds the end of each reply and parses nothing.
//! What it costs is what threads and sockets cost; all above that is ours.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::frame::Connection;
use crate::weigh::Used;

/// Sends the request on standard input `completions` times on `threads` connections, and says what that took.
pub fn run(address: SocketAddr, threads: u64, completions: u64) -> io::Result<()> {
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request)?;
    let (begun, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> io::Result<()> {
        let mut connection = Connection::to(address)?;
        while begun.fetch_add(1, Ordering::Relaxed) < completions {
            bytes.fetch_add(connection.ask(&request)?, Ordering::Relaxed);
        }
        Ok(())
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, work);
        let workers = (0..threads).map(spawn).collect::<io::Result<Vec<_>>>()?;
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), Used::by_this_process());
    println!(
        "{:.0} replies/s, {:.1} MB/s, CPU {:.3} µs a reply, peak {:.1} MB",
        completions as f64 / seconds,
        bytes.into_inner() as f64 / seconds / 1e6,
        used.cpu.as_secs_f64() * 1e6 / completions as f64,
        used.peak_rss_bytes as f64 / 1e6
    );
    Ok(())
}
