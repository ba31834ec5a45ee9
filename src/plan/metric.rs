//! The figures of a run that can be held to a limit or compared, by name: `ttft.p99`, `error_rate`.

use std::fmt;
use std::str::FromStr;

use crate::text::nearest;

/// One figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// A statistic of many values.
    Of(Quantity, Stat),
    /// Completions per second.
    RequestsPerS,
    /// Output tokens per second.
    OutputTokensPerS,
    /// Input and output tokens per second.
    TotalTokensPerS,
    /// Completions per second while the load was steady.
    SteadyRequestsPerS,
    /// Output tokens per second while the load was steady.
    SteadyOutputTokensPerS,
    /// `failed ÷ (succeeded + failed)`.
    ErrorRate,
    /// `succeeded ÷ (succeeded + failed)`.
    SuccessRate,
    /// Requests that met every objective ÷ (succeeded + failed).
    Goodput,
    /// Requests that met every objective, per second.
    GoodputRequestsPerS,
    /// Prompt tokens that the server had in its prefix cache ÷ all.
    PrefixCacheHitShare,
}

/// What there are many values of in a run. Each is the distribution of its name in the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the field of its name in `Latency`
pub enum Quantity {
    E2e,
    Ttft,
    Tpot,
    Itl,
    InterEvent,
    Ttfb,
    ResponseTtft,
    ResponseE2e,
    Lag,
    Connect,
    InputTokens,
    OutputTokens,
}

/// A statistic of many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the field of its name in `Distribution`
pub enum Stat {
    Mean,
    Min,
    Max,
    Std,
    P50,
    P75,
    P90,
    P95,
    P99,
    P999,
}

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// Completions per second.
    RequestsPerS,
    /// Tokens per second.
    TokensPerS,
    /// Tokens.
    Tokens,
    /// A share, 0 to 1, shown as a percentage.
    Share,
}

impl Unit {
    /// As results tell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::RequestsPerS => "requests/s",
            Self::TokensPerS => "tokens/s",
            Self::Tokens => "tokens",
            Self::Share => "share",
        }
    }
}

/// The names of the quantities, as the JSON has them less their unit.
const QUANTITIES: [(&str, Quantity); 12] = [
    ("e2e", Quantity::E2e),
    ("ttft", Quantity::Ttft),
    ("tpot", Quantity::Tpot),
    ("itl", Quantity::Itl),
    ("inter_event", Quantity::InterEvent),
    ("ttfb", Quantity::Ttfb),
    ("response_ttft", Quantity::ResponseTtft),
    ("response_e2e", Quantity::ResponseE2e),
    ("lag", Quantity::Lag),
    ("connect", Quantity::Connect),
    ("input_tokens", Quantity::InputTokens),
    ("output_tokens", Quantity::OutputTokens),
];

const STATS: [(&str, Stat); 11] = [
    ("mean", Stat::Mean),
    ("min", Stat::Min),
    ("max", Stat::Max),
    ("std", Stat::Std),
    ("p50", Stat::P50),
    ("median", Stat::P50),
    ("p75", Stat::P75),
    ("p90", Stat::P90),
    ("p95", Stat::P95),
    ("p99", Stat::P99),
    ("p99.9", Stat::P999),
];

/// Figures that are one number.
const SINGLE: [(&str, Metric); 10] = [
    ("requests_per_s", Metric::RequestsPerS),
    ("output_tokens_per_s", Metric::OutputTokensPerS),
    ("total_tokens_per_s", Metric::TotalTokensPerS),
    ("steady_requests_per_s", Metric::SteadyRequestsPerS),
    ("steady_output_tokens_per_s", Metric::SteadyOutputTokensPerS),
    ("error_rate", Metric::ErrorRate),
    ("success_rate", Metric::SuccessRate),
    ("goodput", Metric::Goodput),
    ("goodput_requests_per_s", Metric::GoodputRequestsPerS),
    ("prefix_cache_hit_share", Metric::PrefixCacheHitShare),
];

impl Metric {
    /// What a comparison looks at where nothing is named.
    pub const DEFAULTS: [Self; 6] = [
        Self::Of(Quantity::Ttft, Stat::P50),
        Self::Of(Quantity::Ttft, Stat::P95),
        Self::Of(Quantity::Itl, Stat::P95),
        Self::Of(Quantity::E2e, Stat::P95),
        Self::OutputTokensPerS,
        Self::ErrorRate,
    ];

    /// What it is measured in.
    pub fn unit(self) -> Unit {
        match self {
            Self::Of(Quantity::InputTokens | Quantity::OutputTokens, _) => Unit::Tokens,
            Self::Of(..) => Unit::Ms,
            Self::RequestsPerS | Self::SteadyRequestsPerS | Self::GoodputRequestsPerS => Unit::RequestsPerS,
            Self::OutputTokensPerS | Self::TotalTokensPerS | Self::SteadyOutputTokensPerS => Unit::TokensPerS,
            Self::ErrorRate | Self::SuccessRate | Self::Goodput | Self::PrefixCacheHitShare => Unit::Share,
        }
    }

    /// Whether less of it is better: times and errors.
    pub fn smaller_is_better(self) -> bool {
        match self.unit() {
            Unit::Ms => true,
            Unit::Share => self == Self::ErrorRate,
            Unit::RequestsPerS | Unit::TokensPerS | Unit::Tokens => false,
        }
    }

    /// Whether only runs with objectives (`--goodput`) have it.
    pub fn needs_objectives(self) -> bool {
        matches!(self, Self::Goodput | Self::GoodputRequestsPerS)
    }

    /// Whether only replies that are streamed have it.
    pub fn needs_stream(self) -> bool {
        use Quantity::{InterEvent, Itl, ResponseTtft, Tpot, Ttft};
        matches!(self, Self::Of(Ttft | Tpot | Itl | InterEvent | ResponseTtft, _))
    }
}

impl Stat {
    /// The quantile (0 to 1) that it is; `None` for what is no percentile.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P75 => Some(0.75),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::Mean | Self::Min | Self::Max | Self::Std => None,
        }
    }
}

/// The first name in a table that stands for a value.
fn name_in<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_in(&STATS, self))
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(quantity, stat) => write!(f, "{}.{stat}", name_in(&QUANTITIES, quantity)),
            single => f.write_str(name_in(&SINGLE, single)),
        }
    }
}

/// Reads names such as `ttft.p99` and `error_rate`; what is wrong completes "--metric 'name': …".
impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const AFTER: &str = "write mean, min, max, std, p50, p75, p90, p95, p99 or p99.9 after the dot";
        let text = text.trim().to_lowercase().replace('-', "_");
        let (name, stat) = match text.split_once('.') {
            Some((name, stat)) => (name, Some(stat)),
            None => (text.as_str(), None),
        };
        if let Some((_, single)) = SINGLE.iter().find(|(known, _)| *known == name) {
            return match stat {
                None => Ok(*single),
                Some(_) => {
                    Err(format!("{name} is one number of a run; write it without what follows the dot"))
                }
            };
        }
        if name == "health" {
            return Err(
                "the client's verdict is no figure; it can be a threshold only: health=VALID".to_owned()
            );
        }
        let Some((_, quantity)) = QUANTITIES.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(name));
        };
        let stat =
            stat.ok_or_else(|| format!("{name} is many values; say which of them, such as {name}.p99"))?;
        let stat = STATS.iter().find(|(known, _)| *known == stat).map(|(_, stat)| *stat);
        stat.map(|stat| Self::Of(*quantity, stat)).ok_or_else(|| format!("no such statistic; {AFTER}"))
    }
}

/// What to write instead of a name that is none.
fn unknown(name: &str) -> String {
    let names: Vec<&str> = QUANTITIES
        .iter()
        .map(|(name, _)| *name)
        .chain(SINGLE.iter().map(|(name, _)| *name))
        .chain(["health"])
        .collect();
    match nearest(name, &names) {
        Some(meant) => format!("no such metric; did you mean '{meant}'?"),
        None => format!("no such metric; write one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_read_by_the_name_it_is_shown_by() {
        let many = QUANTITIES.iter().flat_map(|(_, q)| STATS.iter().map(|(_, s)| Metric::Of(*q, *s)));
        for metric in many.chain(SINGLE.iter().map(|(_, single)| *single)) {
            assert_eq!(metric.to_string().parse(), Ok(metric), "{metric}");
        }
        assert_eq!("Response-TTFT.median".parse(), Ok(Metric::Of(Quantity::ResponseTtft, Stat::P50)));
    }

    #[test]
    fn wrong_names_come_with_advice() {
        let wrong = |text: &str| text.parse::<Metric>().expect_err(text);
        assert_eq!(wrong("ttfft.p99"), "no such metric; did you mean 'ttft'?");
        assert_eq!(wrong("eror_rate"), "no such metric; did you mean 'error_rate'?");
        assert_eq!(wrong("ttft"), "ttft is many values; say which of them, such as ttft.p99");
        assert_eq!(
            wrong("error_rate.p99"),
            "error_rate is one number of a run; write it without what follows the dot"
        );
        assert_eq!(
            wrong("health"),
            "the client's verdict is no figure; it can be a threshold only: health=VALID"
        );
        assert!(wrong("ttft.p98").starts_with("no such statistic; write mean, min"));
        assert!(wrong("").starts_with("no such metric; write one of e2e, ttft"));
    }
}
