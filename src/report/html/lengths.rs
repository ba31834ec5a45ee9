//! How long prompts and replies were, and how times hang on it: pictures of the sampled requests.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::dots::Dots;
use super::svg::{Axis, Chart, Series, Shape};
use super::words::{show_ms, show_number, show_time};
use crate::report::Report;
use crate::report::naming::is_open;
use crate::summary::{Distribution, SampledRequest};
use crate::units::{show_count, show_counted};

/// What a direction of a picture is of.
struct Quantity {
    /// Its name.
    name: &'static str,
    /// A request's; `None` where it is not known.
    of: fn(&SampledRequest) -> Option<f64>,
    /// The axis for values from the least to the most.
    axis: fn(f64, f64, &str) -> Axis,
    /// How values are worded.
    show: fn(f64) -> String,
}

const PROMPT: Quantity = Quantity {
    name: "prompt tokens",
    of: |request| request.input_tokens.map(|tokens| tokens as f64),
    axis: token_axis,
    show: show_tokens,
};
const OUTPUT: Quantity = Quantity {
    name: "output tokens",
    of: |request| request.output_tokens.map(|tokens| tokens as f64),
    axis: token_axis,
    show: show_tokens,
};
const TTFT: Quantity =
    Quantity { name: "TTFT", of: |request| request.ttft_ms, axis: time_axis, show: show_time };
const E2E: Quantity =
    Quantity { name: "E2E", of: |request| request.e2e_ms, axis: time_axis, show: show_time };

/// What one picture shows: its title, what it has from left to right, and what from bottom to top.
struct Sketch(&'static str, Quantity, Quantity);

const PICTURES: [Sketch; 3] = [
    Sketch("Output tokens against prompt tokens", PROMPT, OUTPUT),
    Sketch("Time to first token against prompt tokens", PROMPT, TTFT),
    Sketch("End-to-end latency against output tokens", OUTPUT, E2E),
];

/// Writes the pictures of a run, and in words what would be none: lengths that are all the same. Nothing where the server
/// counted no tokens, or the result has no sample.
///
/// # Errors
/// Those of the writer.
pub fn write_lengths(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let run = [(String::new(), report.summary.sample.as_slice())];
    let pictures: Vec<_> = PICTURES.iter().filter_map(|sketch| Picture::of(sketch, &run)).collect();
    let words = words(report, &pictures);
    if words.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>Lengths</h3>\n<p class=\"load\">{words}</p>")?;
    if pictures.is_empty() {
        return Ok(());
    }
    writeln!(out, "<div class=\"charts\">")?;
    pictures.into_iter().try_for_each(|picture| picture.chart().draw(out))?;
    writeln!(out, "</div>")
}

/// The pictures of several runs, one over another. None of more than four, whose dots nobody could tell apart.
pub fn lengths_over(names: &[String], reports: &[Report]) -> Vec<Chart> {
    const MOST: usize = 4;
    if reports.len() > MOST {
        return vec![];
    }
    let runs =
        names.iter().zip(reports).map(|(name, report)| (name.clone(), report.summary.sample.as_slice()));
    let runs: Vec<_> = runs.collect();
    let pictures = PICTURES.iter().filter_map(|sketch| Picture::of(sketch, &runs));
    pictures.map(Picture::chart).collect()
}

/// One picture of one or more runs.
struct Picture<'a> {
    sketch: &'a Sketch,
    clouds: Vec<Cloud>,
}

/// The points of one run.
struct Cloud {
    /// The run's name; empty where there is but one.
    name: String,
    /// Its place among the runs.
    number: usize,
    /// What is to the right, what is above, and the number of the request.
    points: Vec<(f64, f64, u64)>,
    dots: Dots,
}

impl<'a> Picture<'a> {
    /// `None` where one of the two is the same for all that have both: a picture would say nothing.
    fn of(sketch: &'a Sketch, runs: &[(String, &[SampledRequest])]) -> Option<Self> {
        let Sketch(_, x, y) = sketch;
        let clouds = runs.iter().enumerate().filter_map(|(number, (name, sample))| {
            let points = sample.iter().filter_map(|one| Some(((x.of)(one)?, (y.of)(one)?, one.id)));
            let points: Vec<_> = points.collect();
            let dots = Dots::of(&points);
            (!points.is_empty()).then(|| Cloud { name: name.clone(), number, points, dots })
        });
        let picture = Self { sketch, clouds: clouds.collect() };
        let [x, y] = picture.ranges();
        (x.0 < x.1 && y.0 < y.1).then_some(picture)
    }

    /// The least and the most in both directions.
    fn ranges(&self) -> [(f64, f64); 2] {
        let points = || self.clouds.iter().flat_map(|cloud| &cloud.points);
        [range(points().map(|(x, ..)| *x)), range(points().map(|(_, y, _)| *y))]
    }

    fn chart(self) -> Chart {
        let Sketch(title, x, y) = self.sketch;
        let [(least_x, most_x), (least_y, most_y)] = self.ranges();
        let told = self.clouds.iter().map(|cloud| cloud.told(x, y));
        Chart {
            title: (*title).to_owned(),
            label: format!("{title}. {}", told.collect::<Vec<_>>().join("; ")),
            x: (x.axis)(least_x, most_x, x.name),
            y: (y.axis)(least_y, most_y, ""),
            series: self
                .clouds
                .into_iter()
                .map(|cloud| Series { name: cloud.name, style: cloud.number, shape: Shape::Dots(cloud.dots) })
                .collect(),
            bands: vec![],
        }
    }
}

impl Cloud {
    /// The main figures for those who cannot see them; of the slope, the p50 of the one for low and for high values of
    /// the other.
    fn told(&self, x: &Quantity, y: &Quantity) -> String {
        let named = if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) };
        let ((least_x, most_x), (least_y, most_y)) =
            (range(self.points.iter().map(|(x, ..)| *x)), range(self.points.iter().map(|(_, y, _)| *y)));
        let span = |quantity: &Quantity, least, most| {
            let (name, show) = (quantity.name, quantity.show);
            if least < most {
                format!("{name} from {} to {}", show(least), show(most))
            } else {
                format!("{name} {}", show(least))
            }
        };
        format!(
            "{named}{}, {}, {}{}",
            show_counted(self.points.len() as u64, "request"),
            span(x, least_x, most_x),
            span(y, least_y, most_y),
            self.slope(x, y).unwrap_or_default()
        )
    }

    /// `None` where no half can be told from the other.
    fn slope(&self, x: &Quantity, y: &Quantity) -> Option<String> {
        let middle = median(self.points.iter().map(|(x, ..)| *x).collect())?;
        let side = |is_low: bool| {
            let there = self.points.iter().filter(|(x, ..)| (*x <= middle) == is_low);
            median(there.map(|(_, y, _)| *y).collect()).map(y.show)
        };
        let (low, high) = side(true).zip(side(false))?;
        let (x_name, y_name, middle) = (x.name, y.name, (x.show)(middle));
        Some(format!(", p50 of {y_name} {low} up to {middle} {x_name} and {high} beyond"))
    }
}

/// What the pictures are of, and what is the same for all. Empty where there is nothing to say.
fn words(report: &Report, pictures: &[Picture]) -> String {
    let clouds = || pictures.iter().flat_map(|picture| &picture.clouds);
    let drawn = (!pictures.is_empty()).then(|| drawn(report, clouds()));
    let most = clouds().map(|cloud| cloud.dots.most()).max().filter(|most| *most > 1);
    let most = most.map(|most| {
        format!("The larger a dot, the more requests lie there: up to {}.", show_count(most as u64))
    });
    let open = drawn.is_some() && is_open(report);
    let open = open.then(|| "Here, times are service times, from when a request was sent.".to_owned());
    [alike(report), drawn, most, open].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// How many requests of how many are in the pictures.
fn drawn<'a>(report: &Report, clouds: impl Iterator<Item = &'a Cloud>) -> String {
    let (sample, succeeded) = (&report.summary.sample, report.summary.requests.succeeded);
    let ids: BTreeSet<u64> = clouds.flat_map(|cloud| &cloud.points).map(|(.., id)| *id).collect();
    let (drawn, sampled) = (ids.len() as u64, sample.len() as u64);
    if drawn == succeeded {
        return format!("Each dot is one of the {} that succeeded.", show_counted(succeeded, "request"));
    }
    let chosen = if sampled < succeeded { ", chosen by their numbers alone" } else { "" };
    let unknown = if drawn < sampled { "; not all of the others' tokens and times are known" } else { "" };
    format!(
        "Each dot is a request: {} of the {} that succeeded{chosen}{unknown}.",
        show_count(drawn),
        show_count(succeeded)
    )
}

/// The lengths that all have, in a sentence; `None` where none is the same for all.
fn alike(report: &Report) -> Option<String> {
    let (sample, latency) = (&report.summary.sample, &report.summary.latency);
    let of = |quantity: &Quantity, all: Option<&Distribution>, noun: &str| {
        let (least, most) = range(sample.iter().filter_map(quantity.of));
        let is_all = all.is_some_and(|all| all.min == all.max);
        let who = if is_all { "Every" } else { "Every sampled" };
        (least == most).then(|| format!("{who} {noun} had {} {}.", (quantity.show)(least), quantity.name))
    };
    let prompt = of(&PROMPT, latency.input_tokens.as_ref(), "request");
    let reply = of(&OUTPUT, latency.output_tokens.as_ref(), "reply");
    let sentences: Vec<_> = [prompt, reply].into_iter().flatten().collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn show_tokens(tokens: f64) -> String {
    show_count(tokens as u64)
}

/// From 0, or around the values where they are so far from it that it would press them together; logarithmic where they
/// differ by a factor of ten or more. It is never so short that its ticks are fractions of a token.
fn token_axis(least: f64, most: f64, title: &str) -> Axis {
    const SHORTEST: f64 = 5.0;
    match most / least {
        ratio if ratio >= 10.0 && least > 0.0 => Axis::fitting(least, most, title, show_number),
        ratio if ratio <= 3.0 => {
            let room = ((most - least) * 0.05).max((SHORTEST - (most - least)) / 2.0);
            Axis::linear((least - room).max(0.0), most + room, title, show_number)
        }
        _ => Axis::linear(0.0, (most * 1.05).max(SHORTEST), title, show_number),
    }
}

fn time_axis(least: f64, most: f64, title: &str) -> Axis {
    Axis::fitting(least, most, title, show_ms)
}

/// The least and the most; infinity and its opposite without any.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// The lower of the two in the middle where there are two; `None` without any.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of so many prompt and output tokens, of which each token took 1 ms.
    fn sample(lengths: &[(u64, u64)]) -> Vec<SampledRequest> {
        let requests = lengths.iter().zip(0..).map(|((input, output), id)| SampledRequest {
            id,
            input_tokens: Some(*input),
            output_tokens: Some(*output),
            ttft_ms: Some(*input as f64),
            e2e_ms: Some((input + output) as f64),
        });
        requests.collect()
    }

    fn pictures<'a>(runs: &[(&str, &[SampledRequest])]) -> Vec<Picture<'a>> {
        let runs: Vec<_> = runs.iter().map(|(name, sample)| ((*name).to_owned(), *sample)).collect();
        PICTURES.iter().filter_map(|sketch| Picture::of(sketch, &runs)).collect()
    }

    fn titles(runs: &[(&str, &[SampledRequest])]) -> Vec<&'static str> {
        pictures(runs).iter().map(|picture| picture.sketch.0).collect()
    }

    #[test]
    fn a_length_that_all_have_is_in_no_picture() {
        let check = |lengths: &[(u64, u64)], want: &[&str]| {
            assert_eq!(titles(&[("", &sample(lengths))]), want, "{lengths:?}");
        };
        let [output, ttft, e2e] = PICTURES.each_ref().map(|sketch| sketch.0);
        check(&[(5, 1), (9, 2)], &[output, ttft, e2e]);
        check(&[(5, 1), (5, 2)], &[e2e]);
        check(&[(5, 2), (9, 2)], &[ttft]);
        check(&[(5, 2), (5, 2)], &[]);
        check(&[(5, 2)], &[]);
        check(&[], &[]);
    }

    #[test]
    fn runs_that_differ_from_each_other_make_a_picture() {
        let (short, long) = (sample(&[(5, 1), (5, 1)]), sample(&[(90, 8)]));
        let runs: [(&str, &[SampledRequest]); 3] = [("a", &short), ("none", &[]), ("b", &long)];
        let picture = pictures(&runs).swap_remove(1);
        let styles: Vec<_> = picture.clouds.iter().map(|cloud| (cloud.name.as_str(), cloud.number)).collect();
        assert_eq!(styles, [("a", 0), ("b", 2)]);
        assert_eq!(
            picture.chart().label,
            "Time to first token against prompt tokens. a: 2 requests, prompt tokens 5, TTFT 5.00 ms; b: 1 request, \
             prompt tokens 90, TTFT 90.0 ms"
        );
    }

    #[test]
    fn unknown_values_are_no_points() {
        let mut requests = sample(&[(1, 4), (2, 5), (3, 6), (4, 7)]);
        requests[0].ttft_ms = None;
        requests[1].input_tokens = None;
        requests[2].output_tokens = None;
        let counts: Vec<_> =
            pictures(&[("", &requests)]).iter().map(|one| one.clouds[0].points.len()).collect();
        assert_eq!(counts, [2, 2, 3]);
    }

    #[test]
    fn the_slope_is_told() {
        let requests = sample(&[(100, 1), (200, 1), (1_000, 1), (4_000, 2)]);
        let label = pictures(&[("", &requests)]).swap_remove(1).chart().label;
        assert!(
            label.ends_with(", p50 of TTFT 100 ms up to 200 prompt tokens and 1000 ms beyond"),
            "{label}"
        );
        // none is above the middle
        let label = pictures(&[("", &sample(&[(1, 1), (2, 1), (2, 2)]))]).swap_remove(1).chart().label;
        assert!(label.ends_with("TTFT from 1.00 ms to 2.00 ms"), "{label}");
    }

    #[test]
    fn no_axis_shows_a_part_of_a_token() {
        for lengths in [[(1, 1), (2, 2)], [(0, 1), (1, 3)], [(7, 100), (8, 101)], [(1, 4), (3, 30)]] {
            let mut out = Vec::new();
            let picture = pictures(&[("", &sample(&lengths))]).swap_remove(0);
            picture.chart().draw(&mut out).expect("a vector takes all");
            let text = String::from_utf8(out).expect("text");
            let ticks = text.split("</text>").filter_map(|part| part.rsplit('>').next());
            let ticks: Vec<f64> = ticks.filter_map(|tick| tick.trim().parse().ok()).collect();
            assert!(
                ticks.len() > 4 && ticks.iter().all(|tick| tick.fract() == 0.0),
                "{lengths:?}: {ticks:?}"
            );
        }
    }
}
