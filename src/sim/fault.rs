//! Faults that can be asked of the server: their names, how often each comes, and which request it hits. Pure.

use std::fmt;

use rand::Rng;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::random::{self, Purpose};

/// Something wrong, or right but odd, that the server does to one request for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Closes the connection instead of a reply.
    Close,
    /// Resets the connection instead of a reply.
    Reset,
    /// Reads the request and is silent until the client gives up.
    Stall,
    /// Answers with bytes that are no HTTP.
    NotHttp,
    /// Closes the connection in the middle of the reply's head.
    CutHead,
    /// Puts a header of 64 KiB before a good reply.
    HugeHead,
    /// Answers 302 and names a host that cannot be.
    Redirect,
    /// Answers 429 with `Retry-After: 1`.
    Http429,
    /// Answers 502 with a page of HTML, as a proxy does.
    Http502,
    /// Answers 503 with `Retry-After: 30`.
    Http503,

    /// Resets the connection in the middle of the body.
    ResetInBody,
    /// Is silent from the middle of the body on, until the client gives up.
    StallInBody,
    /// Closes the connection in the middle of a chunk.
    CutChunk,
    /// Announces a chunk in letters that are no number.
    BadChunk,
    /// Closes the connection before as many bytes have come as were announced.
    CutLength,
    /// Ends a stream properly after two events: neither a reason nor `[DONE]`.
    EarlyEnd,
    /// Cuts the JSON of an event, or of a whole reply, in half.
    BadJson,
    /// Puts a byte into the text that is no UTF-8.
    BadUtf8,
    /// Makes one event 17 MiB long.
    HugeEvent,
    /// Reports an error in an event, then `[DONE]`, as vLLM does when its engine dies.
    ErrorEvent,
    /// Gives `abort` as the reason for the end, as vLLM does when it shuts down.
    Abort,
    /// Answers without a single token.
    Empty,
    /// Compresses the body, asked or not.
    Gzip,

    /// Sends the head byte by byte.
    SlowHead,
    /// Sends the body byte by byte, one a millisecond.
    SlowBody,
    /// Cuts the body into small pieces anywhere, chunks and packets apart.
    Split,
    /// Sends all events in one chunk and one packet.
    Joined,
    /// Ends the lines of events with CR and LF.
    Crlf,
    /// Ends the lines of events with CR.
    Cr,
    /// Puts comments and fields without meaning among the events.
    Comments,
    /// Leaves out the blank after `data:`.
    NoSpace,
    /// Makes one event 10 MiB long.
    BigEvent,
    /// Puts four tokens into an event.
    SeveralTokens,
    /// Leaves out `[DONE]`.
    NoDone,
    /// Sends a stream whole, with `Content-Length`, as a proxy that buffers does.
    Sized,
    /// Sends the body without a length; the connection's end is its end.
    UntilClose,
    /// Says `Connection: close` and does so.
    ConnectionClose,
    /// Answers in HTTP/1.0.
    Http10,
    /// Sends 100 and 103 before the reply.
    Interim,
}

/// What becomes of a request that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is no good head to read.
    NoReply,
    /// The reply is wrong further in.
    BadReply,
    /// The reply is right, and a client must take it as such.
    OddReply,
}

use Effect::{BadReply, NoReply, OddReply};

/// Every fault, its name, what becomes of the request, in the order in which they are listed.
#[rustfmt::skip]
const FAULTS: [(Fault, &str, Effect); 39] = [
    (Fault::Close, "close", NoReply),
    (Fault::Reset, "reset", NoReply),
    (Fault::Stall, "stall", NoReply),
    (Fault::NotHttp, "not-http", NoReply),
    (Fault::CutHead, "cut-head", NoReply),
    (Fault::Redirect, "redirect", NoReply),
    (Fault::Http429, "http-429", NoReply),
    (Fault::Http502, "http-502", NoReply),
    (Fault::Http503, "http-503", NoReply),
    (Fault::HugeHead, "huge-head", BadReply),
    (Fault::ResetInBody, "reset-in-body", BadReply),
    (Fault::StallInBody, "stall-in-body", BadReply),
    (Fault::CutChunk, "cut-chunk", BadReply),
    (Fault::BadChunk, "bad-chunk", BadReply),
    (Fault::CutLength, "cut-length", BadReply),
    (Fault::EarlyEnd, "early-end", BadReply),
    (Fault::BadJson, "bad-json", BadReply),
    (Fault::BadUtf8, "bad-utf8", BadReply),
    (Fault::HugeEvent, "huge-event", BadReply),
    (Fault::ErrorEvent, "error-event", BadReply),
    (Fault::Abort, "abort", BadReply),
    (Fault::Empty, "empty", BadReply),
    (Fault::Gzip, "gzip", BadReply),
    (Fault::SlowHead, "slow-head", OddReply),
    (Fault::SlowBody, "slow-body", OddReply),
    (Fault::Split, "split", OddReply),
    (Fault::Joined, "joined", OddReply),
    (Fault::Crlf, "crlf", OddReply),
    (Fault::Cr, "cr", OddReply),
    (Fault::Comments, "comments", OddReply),
    (Fault::NoSpace, "no-space", OddReply),
    (Fault::BigEvent, "big-event", OddReply),
    (Fault::SeveralTokens, "several-tokens", OddReply),
    (Fault::NoDone, "no-done", OddReply),
    (Fault::Sized, "sized", OddReply),
    (Fault::UntilClose, "until-close", OddReply),
    (Fault::ConnectionClose, "connection-close", OddReply),
    (Fault::Http10, "http10", OddReply),
    (Fault::Interim, "interim", OddReply),
];

impl Fault {
    /// Every fault there is.
    pub fn all() -> impl Iterator<Item = Self> {
        FAULTS.iter().map(|(fault, ..)| *fault)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What becomes of a request that is hit.
    pub fn effect(self) -> Effect {
        self.row().2
    }

    /// Whether it needs events, so that a reply in one piece cannot be hit.
    pub fn needs_events(self) -> bool {
        use Fault::{Comments, Cr, Crlf, EarlyEnd, HugeEvent, Joined, NoDone, NoSpace, SeveralTokens};
        matches!(
            self,
            Crlf | Cr | Comments | NoSpace | Joined | SeveralTokens | NoDone | EarlyEnd | HugeEvent
        )
    }

    fn row(self) -> &'static (Self, &'static str, Effect) {
        FAULTS.iter().find(|(fault, ..)| *fault == self).expect("every fault has a row; a test looks at each")
    }

    fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|(_, known, _)| *known == name).map(|(fault, ..)| *fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A share in millionths of a percent: whole numbers, so that shares add up exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Percent(u64);

const ONE_PERCENT: u64 = 1_000_000;
const ALL_REQUESTS: u64 = 100 * ONE_PERCENT;

impl Percent {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_suffix('%').unwrap_or(text).trim_end();
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = text.parse().ok().filter(|_| is_plain)?;
        (number <= 100.0).then(|| Self((number * ONE_PERCENT as f64).round() as u64))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 as f64 / ONE_PERCENT as f64)
    }
}

/// Which faults come, and how often. No request is hit by two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    of_requests: Vec<(Fault, Percent)>,
    /// How much of the time the port is shut.
    refuse: Option<Percent>,
}

/// The fault that hits connections: whoever is refused has sent no request that could be drawn.
const REFUSE: &str = "refuse";

impl Faults {
    /// Adds a fault as typed: its name and a percentage of requests, such as `reset=5` or `stall=0.5%`; for `refuse`, of
    /// the time.
    ///
    /// ```
    /// use vllm_loadgen::sim::Faults;
    ///
    /// let mut faults = Faults::default();
    /// faults.add("reset=5")?;
    /// faults.add("stall=0.5%")?;
    /// assert_eq!(faults.to_string(), "reset 5%, stall 0.5%");
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, percent) = text.split_once('=').unwrap_or((text, ""));
        let name = name.trim();
        let fault = Fault::named(name);
        if fault.is_none() && name != REFUSE {
            return Err(unknown(name));
        }
        let percent = Percent::parse(percent).ok_or_else(|| {
            format!(
                "not a percentage; write {name}=5 for 5 of 100 requests, from 0 to 100, fractions allowed"
            )
        })?;
        let is_known = match fault {
            Some(fault) => self.of_requests.iter().any(|(known, _)| *known == fault),
            None => self.refuse.is_some(),
        };
        if is_known {
            return Err(format!("{name} is given twice; give it once"));
        }
        match fault {
            Some(fault) => self.of_requests.push((fault, percent)),
            None => self.refuse = Some(percent),
        }
        Ok(())
    }

    /// Whether there are as many requests as faults.
    ///
    /// # Errors
    /// When the shares add up to more than all requests.
    pub fn check(&self) -> Result<(), String> {
        let sum = self.of_requests.iter().map(|(_, percent)| percent.0).sum();
        if sum <= ALL_REQUESTS {
            return Ok(());
        }
        Err(format!("faults add up to {}, more than all requests; lower some to 100% in all", Percent(sum)))
    }

    /// Whether no fault is asked for.
    pub fn is_empty(&self) -> bool {
        self.of_requests.is_empty() && self.refuse.is_none()
    }

    /// Share of the time in which connections are refused, above 0 to 1. `None` where none ever is.
    pub fn refused_share(&self) -> Option<f64> {
        self.refuse.filter(|percent| percent.0 > 0).map(|percent| percent.0 as f64 / ALL_REQUESTS as f64)
    }

    /// Names and percentages, as given.
    fn rows(&self) -> impl Iterator<Item = (&'static str, Percent)> {
        let of_requests = self.of_requests.iter().map(|(fault, percent)| (fault.name(), *percent));
        of_requests.chain(self.refuse.map(|percent| (REFUSE, percent)))
    }

    /// The fault that hits the request of this number, if one does. Hangs on the seed and the number only.
    pub fn draw(&self, seed: u64, number: u64) -> Option<Fault> {
        if self.of_requests.is_empty() {
            return None;
        }
        let mut random = random::stream(seed, Purpose::Faults, number);
        // the first says whether the request fails with status 500
        let _ = random.next_u64();
        let drawn = (u128::from(random.next_u64()) * u128::from(ALL_REQUESTS)) >> 64;
        let mut below = 0;
        self.of_requests.iter().find_map(|(fault, percent)| {
            below += u128::from(percent.0);
            (drawn < below).then_some(*fault)
        })
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = FAULTS.iter().map(|(_, name, _)| *name).chain([REFUSE]).collect();
    format!("unknown fault '{name}'; expected one of {}", names.join(", "))
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, percent)) in self.rows().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {percent}")?;
        }
        Ok(())
    }
}

/// Names to percentages.
impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, percent) in self.rows() {
            map.serialize_entry(name, &(percent.0 as f64 / ONE_PERCENT as f64))?;
        }
        map.end()
    }
}

/// The number of a request: what stands at the end of its id, as in `run-7`, so that a client that numbers its requests
/// finds each hit alike in whatever order they come, and once more when it sends one again.
pub fn number_of(id: Option<&str>) -> Option<u64> {
    let id = id?;
    let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
    id.get(id.len() - digits..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn faults(typed: &[&str]) -> Result<Faults, String> {
        let mut faults = Faults::default();
        typed.iter().try_for_each(|text| faults.add(text))?;
        faults.check().map(|()| faults)
    }

    fn refused(typed: &[&str], want: &str) {
        let said = faults(typed).expect_err("a mistake");
        assert!(said.contains(want), "{typed:?}: {said}");
    }

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        for (fault, name, effect) in FAULTS {
            assert_eq!(Fault::named(name), Some(fault));
            assert_eq!((fault.name(), fault.effect()), (name, effect));
        }
        let mut rows: Vec<Fault> = Fault::all().collect();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), FAULTS.len());
        // the last of the enum: all before it have rows when none is missing
        assert_eq!(rows.len(), Fault::Interim as usize + 1);
    }

    #[test]
    fn shares_are_percentages_and_add_up_exactly() {
        assert_eq!(faults(&["reset=5", "stall = 0.5 %"]).expect("two").to_string(), "reset 5%, stall 0.5%");
        assert!(faults(&["reset=33.3", "stall=33.3", "close=33.4"]).is_ok());
        assert!(faults(&["reset=100", "stall=0"]).is_ok());
        refused(&["reset=60", "stall=40.000001"], "add up to 100.000001%");
        for text in ["reset", "reset=", "reset=-1", "reset=101", "reset=NaN", "reset=1e1", "reset=5=5"] {
            refused(&[text], "not a percentage");
        }
        refused(&["resett=5"], "unknown fault 'resett'; expected one of close, reset");
        refused(&["reset=5", "reset=1"], "twice");
        refused(&["refuse=5", "refuse=5"], "twice");
    }

    #[test]
    fn to_refuse_takes_time_and_no_requests() {
        let faults = faults(&["refuse=25", "close=100"]).expect("two");
        assert_eq!(faults.refused_share(), Some(0.25));
        assert_eq!(faults.to_string(), "close 100%, refuse 25%");
        assert_eq!(faults.draw(1, 1), Some(Fault::Close));
        let json = serde_json::to_value(&faults).expect("plain data");
        assert_eq!(json, serde_json::json!({"close": 100.0, "refuse": 25.0}));
        let never = super::tests::faults(&["refuse=0"]).expect("one");
        assert_eq!((never.refused_share(), never.draw(1, 1)), (None, None));
    }

    #[test]
    fn a_fault_hits_as_often_as_asked_and_always_the_same() {
        let faults = faults(&["reset=5", "stall=20"]).expect("two");
        let hits = |seed| (0..10_000).map(move |number| (seed, number));
        let drawn: Vec<_> = hits(1).map(|(seed, number)| faults.draw(seed, number)).collect();
        let mut counts: BTreeMap<Option<Fault>, u32> = BTreeMap::new();
        drawn.iter().for_each(|fault| *counts.entry(*fault).or_default() += 1);
        // more than five standard deviations
        assert!(counts[&Some(Fault::Reset)].abs_diff(500) < 110, "{counts:?}");
        assert!(counts[&Some(Fault::Stall)].abs_diff(2000) < 200, "{counts:?}");
        assert!(hits(1).map(|(seed, number)| faults.draw(seed, number)).eq(drawn.iter().copied()));
        assert!(!hits(2).map(|(seed, number)| faults.draw(seed, number)).eq(drawn.iter().copied()));
    }

    #[test]
    fn all_is_all_and_none_is_none() {
        let (all, none) = (faults(&["close=100"]).expect("one"), faults(&["close=0"]).expect("one"));
        for number in 0..1000 {
            assert_eq!(all.draw(7, number), Some(Fault::Close));
            assert_eq!(none.draw(7, number), None);
        }
    }

    #[test]
    fn a_request_is_numbered_by_the_end_of_its_id() {
        for (id, want) in [
            (Some("run-7"), Some(7)),
            (Some("12"), Some(12)),
            (Some("run-a"), None),
            (Some(""), None),
            (Some("x99999999999999999999999"), None),
            (Some("ü7"), Some(7)),
            (None, None),
        ] {
            assert_eq!(number_of(id), want, "{id:?}");
        }
    }
}
