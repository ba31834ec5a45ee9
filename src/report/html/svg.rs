//! Charts as inline SVG: axes, and what is drawn on them. Colours come from the page's style sheet, so that charts follow
//! light, dark and print.

use std::io::{self, Write};

use super::dots::Dots;
use super::escape::Text;

/// One picture with its legend.
pub struct Chart {
    /// What it shows; stands above it.
    pub title: String,
    /// The same with its main figures, for those who cannot see it.
    pub label: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn, the first at the bottom.
    pub series: Vec<Series>,
    /// Spans of x that are shaded, each with what it is.
    pub bands: Vec<(f64, f64, &'static str)>,
}

/// Values of one kind.
pub struct Series {
    /// Its name in the legend; empty leaves it out.
    pub name: String,
    /// Number of its colour and dash.
    pub style: usize,
    /// How it is drawn.
    pub shape: Shape,
}

/// How values are drawn.
pub enum Shape {
    /// Lines from point to point; a lone point is a dot.
    Lines(Vec<Vec<(f64, f64)>>),
    /// Boxes of two values of x and two of y.
    Bars(Vec<[f64; 4]>),
    /// Marks with a word beside them.
    Marks(Vec<(f64, f64, String)>),
    /// Words without a mark.
    Words(Vec<(f64, f64, String)>),
    /// Values with an interval, each with what it is for those who point at it.
    Spots(Vec<Spot>),
    /// Places where requests lie.
    Dots(Dots),
}

/// A value with its interval.
pub struct Spot {
    /// Where it stands.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// The interval's lower end; the value itself where it is not known.
    pub low: f64,
    /// The interval's upper end, likewise.
    pub high: f64,
    /// Whether it is drawn hollow: it is shown, but counts for nothing.
    pub is_faint: bool,
    /// What it is.
    pub title: String,
}

/// One direction of a chart.
pub struct Axis {
    scale: Scale,
    from: f64,
    until: f64,
    show: fn(f64) -> String,
    ticks: Option<Vec<(f64, String)>>,
    title: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Colours and dashes in the style sheet.
const STYLES: usize = 8;

impl Axis {
    /// Equal distances are equal differences. `show` words the ticks.
    pub fn linear(from: f64, until: f64, title: &str, show: fn(f64) -> String) -> Self {
        let until = if until > from { until } else { from + 1.0 };
        Self { scale: Scale::Linear, from, until, show, ticks: None, title: title.to_owned() }
    }

    /// Equal distances are equal ratios. Both ends are made larger than 0.
    pub fn log(from: f64, until: f64, title: &str, show: fn(f64) -> String) -> Self {
        let from = if from > 0.0 { from } else { f64::MIN_POSITIVE.max(until * 1e-6) };
        let until = if until > from { until } else { from * 10.0 };
        Self { scale: Scale::Log, from, until, show, ticks: None, title: title.to_owned() }
    }

    /// For values of such a range: logarithmic where they differ by a factor of ten or more, else from 0.
    pub fn fitting(least: f64, most: f64, title: &str, show: fn(f64) -> String) -> Self {
        if least > 0.0 && most / least >= 10.0 {
            Self::log(least / 1.2, most * 1.2, title, show)
        } else {
            Self::linear(0.0, most * 1.1, title, show)
        }
    }

    /// The same with ticks of its own.
    pub fn with_ticks(self, ticks: Vec<(f64, String)>) -> Self {
        Self { ticks: Some(ticks), ..self }
    }

    /// The least value that it shows.
    pub fn least(&self) -> f64 {
        self.from
    }

    /// The most value that it shows.
    pub fn most(&self) -> f64 {
        self.until
    }

    /// Where a value is: 0 at the beginning, 1 at the end; what is outside is put on the edge. `None` for no number.
    fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.until - self.from),
            Scale::Log if value <= 0.0 => 0.0,
            Scale::Log => (value / self.from).ln() / (self.until / self.from).ln(),
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        if let Some(ticks) = &self.ticks {
            return ticks.clone();
        }
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.from, self.until),
            Scale::Log => log_ticks(self.from, self.until),
        };
        values.into_iter().map(|value| (value, (self.show)(value))).collect()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about five of them.
fn linear_ticks(from: f64, until: f64) -> Vec<f64> {
    let raw = (until - from) / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= raw * 0.999);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else { return vec![] };
    let first = (from / step).ceil();
    let ticks = (0..12).map(|n| (first + f64::from(n)) * step);
    ticks.take_while(|tick| tick.is_finite() && *tick <= until + step * 1e-3).collect()
}

/// Powers of ten, and 2 and 5 times them where there are few.
fn log_ticks(from: f64, until: f64) -> Vec<f64> {
    let decades = until.log10() - from.log10();
    let (parts, every): (&[f64], i32) = match decades {
        ..2.2 => (&[1.0, 2.0, 5.0], 1),
        ..6.0 => (&[1.0], 1),
        _ => (&[1.0], (decades / 5.0).ceil() as i32),
    };
    let powers = (from.log10().floor() as i32..=until.log10().ceil() as i32).step_by(every.max(1) as usize);
    let ticks = powers.flat_map(|power| parts.iter().map(move |part| part * 10_f64.powi(power)));
    ticks.filter(|tick| (from * 0.999..=until * 1.001).contains(tick)).collect()
}

impl Chart {
    /// Writes the figure.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "<figure><figcaption>{}</figcaption>", Text(&self.title))?;
        self.legend(out)?;
        writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            Text(&self.label)
        )?;
        self.bands(out)?;
        self.axes(out)?;
        for series in &self.series {
            self.series(series, out)?;
        }
        // over the lines, whichever they belong to
        for series in &self.series {
            if let Shape::Marks(marks) | Shape::Words(marks) = &series.shape {
                marks.iter().try_for_each(|(x, y, word)| self.word(*x, *y, word, out))?;
            }
        }
        writeln!(out, "</svg></figure>")
    }

    fn x(&self, value: f64) -> Option<f64> {
        Some(LEFT + self.x.place(value)? * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        Some(HEIGHT - BOTTOM - self.y.place(value)? * (HEIGHT - TOP - BOTTOM))
    }

    fn legend(&self, out: &mut dyn Write) -> io::Result<()> {
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        let mut entries = named.peekable();
        if entries.peek().is_none() && self.bands.is_empty() {
            return Ok(());
        }
        write!(out, "<ul class=\"legend\" aria-hidden=\"true\">")?;
        for series in entries {
            let style = series.style % STYLES;
            let swatch = match series.shape {
                Shape::Lines(_) => format!("<path class=\"line s{style}\" d=\"M1 5H25\"/>"),
                Shape::Bars(_) => {
                    format!("<rect class=\"bar s{style}\" x=\"7\" width=\"11\" height=\"10\"/>")
                }
                Shape::Marks(_) | Shape::Words(_) | Shape::Spots(_) | Shape::Dots(_) => {
                    format!("<circle class=\"mark s{style}\" cx=\"13\" cy=\"5\" r=\"4\"/>")
                }
            };
            write!(out, "<li><svg viewBox=\"0 0 26 10\">{swatch}</svg>{}</li>", Text(&series.name))?;
        }
        for (.., what) in &self.bands {
            write!(
                out,
                "<li><svg viewBox=\"0 0 26 10\"><rect class=\"band\" width=\"26\" height=\"10\"/></svg>{}</li>",
                Text(what)
            )?;
        }
        writeln!(out, "</ul>")
    }

    fn bands(&self, out: &mut dyn Write) -> io::Result<()> {
        for (from, until, _) in &self.bands {
            let Some((from, until)) = self.x(*from).zip(self.x(*until)) else { continue };
            let height = HEIGHT - TOP - BOTTOM;
            writeln!(
                out,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{height}\"/>",
                (until - from).max(0.0)
            )?;
        }
        Ok(())
    }

    fn axes(&self, out: &mut dyn Write) -> io::Result<()> {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, text) in self.y.ticks() {
            let Some(y) = self.y(value) else { continue };
            let (at, text_y) = (LEFT - 6.0, y + 4.0);
            writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{at}\" y=\"{text_y:.1}\" class=\"end\">{}</text>",
                Text(&text)
            )?;
        }
        for (value, text) in self.x.ticks() {
            let Some(x) = self.x(value) else { continue };
            let (end, at) = (bottom + 4.0, bottom + 17.0);
            writeln!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {bottom}V{end}\"/><text x=\"{x:.1}\" y=\"{at}\" class=\"middle\">{}</text>",
                Text(&text)
            )?;
        }
        let middle = (LEFT + right) / 2.0;
        writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/><text x=\"{middle}\" y=\"{}\" class=\"middle title\">{}</text>",
            HEIGHT - 5.0,
            Text(&self.x.title)
        )
    }

    fn series(&self, series: &Series, out: &mut dyn Write) -> io::Result<()> {
        let style = series.style % STYLES;
        match &series.shape {
            Shape::Lines(lines) => lines.iter().try_for_each(|line| self.line(line, style, out)),
            Shape::Bars(bars) => bars.iter().try_for_each(|bar| self.bar(*bar, style, out)),
            Shape::Marks(marks) => marks.iter().try_for_each(|(x, y, _)| self.mark(*x, *y, style, out)),
            Shape::Words(_) => Ok(()),
            Shape::Spots(spots) => spots.iter().try_for_each(|spot| self.spot(spot, style, out)),
            Shape::Dots(dots) => dots.draw(style, |x, y| self.x(x).zip(self.y(y)), out),
        }
    }

    fn line(&self, points: &[(f64, f64)], style: usize, out: &mut dyn Write) -> io::Result<()> {
        let places: Vec<_> = points.iter().filter_map(|(x, y)| self.x(*x).zip(self.y(*y))).collect();
        let Some(((x, y), rest)) = places.split_first() else { return Ok(()) };
        // a line of no length has round ends, which make it a dot
        let class = if rest.is_empty() { "line dot" } else { "line" };
        write!(out, "<path class=\"{class} s{style}\" d=\"M{x:.1} {y:.1}")?;
        match rest {
            [] => write!(out, "h.01")?,
            rest => rest.iter().try_for_each(|(x, y)| write!(out, "L{x:.1} {y:.1}"))?,
        }
        writeln!(out, "\"/>")
    }

    fn bar(&self, [left, right, low, high]: [f64; 4], style: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some((x, right)) = self.x(left).zip(self.x(right)) else { return Ok(()) };
        let Some((bottom, y)) = self.y(low).zip(self.y(high)) else { return Ok(()) };
        // a hair of room between bars, and never so thin or low as not to be seen
        let (width, height) = ((right - x - 0.5).max(1.0), (bottom - y).max(1.0));
        writeln!(
            out,
            "<rect class=\"bar s{style}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            y = bottom - height
        )
    }

    fn mark(&self, x: f64, y: f64, style: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some((x, y)) = self.x(x).zip(self.y(y)) else { return Ok(()) };
        writeln!(out, "<circle class=\"mark s{style}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")
    }

    fn spot(&self, spot: &Spot, style: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some((x, y)) = self.x(spot.x).zip(self.y(spot.y)) else { return Ok(()) };
        let Some((low, high)) = self.y(spot.low).zip(self.y(spot.high)) else { return Ok(()) };
        let faint = if spot.is_faint { " faint" } else { "" };
        writeln!(
            out,
            "<g class=\"spot s{style}{faint}\"><title>{}</title><path d=\"M{x:.1} {low:.1}V{high:.1}\"/>\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/></g>",
            Text(&spot.title)
        )
    }

    /// A word beside its mark; an empty one is not written.
    fn word(&self, x: f64, y: f64, word: &str, out: &mut dyn Write) -> io::Result<()> {
        let Some((x, y)) = self.x(x).zip(self.y(y)).filter(|_| !word.is_empty()) else { return Ok(()) };
        let (at, side) = if x > WIDTH * 0.6 { (x - 8.0, "end") } else { (x + 8.0, "start") };
        let above = if y < TOP + 16.0 { y + 18.0 } else { y - 8.0 };
        writeln!(out, "<text x=\"{at:.1}\" y=\"{above:.1}\" class=\"{side} word\">{}</text>", Text(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn linear_ticks_are_round_and_few() {
        assert_eq!(linear_ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(0.0, 1.0).len(), 6);
        assert_eq!(linear_ticks(3.0, 100.0), [20.0, 40.0, 60.0, 80.0, 100.0]);
        for until in [1e-300, 1e-9, 1e9, 1e300, f64::MAX] {
            assert!(linear_ticks(0.0, until).len() <= 7, "{until}");
        }
    }

    #[test]
    fn log_ticks_are_few_whatever_the_range() {
        assert_eq!(log_ticks(1.0, 20.0), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(log_ticks(0.5, 2_000.0), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(log_ticks(30.0, 3_000.0), [50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0]);
        for (from, until) in [(1e-300, 1e300), (1e-9, 1e9), (1.0, 1e4)] {
            assert!((1..=8).contains(&log_ticks(from, until).len()), "{from} {until}");
        }
    }

    #[test]
    fn places_are_on_the_chart_or_nowhere() {
        let axes = [
            Axis::linear(0.0, 10.0, "", plain),
            Axis::linear(5.0, 5.0, "", plain),
            Axis::log(0.0, 0.0, "", plain),
            Axis::log(1.0, 1e3, "", plain),
            Axis::fitting(0.0, f64::MAX, "", plain),
        ];
        for axis in &axes {
            for value in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, 1.0, 1e3, f64::MAX, f64::INFINITY] {
                let place = axis.place(value);
                assert!(place.is_none_or(|place| (0.0..=1.0).contains(&place)), "{value} {place:?}");
            }
            assert!(axis.ticks().len() < 13);
        }
        assert_eq!(axes[0].place(2.5), Some(0.25));
        assert_eq!(axes[3].place(10.0).map(|place| (place * 3.0).round()), Some(1.0));
    }

    #[test]
    fn a_chart_is_named_for_those_who_cannot_see_it_and_escapes_every_word() {
        let chart = Chart {
            title: "<b>".to_owned(),
            label: "\"<i>".to_owned(),
            x: Axis::linear(0.0, 1.0, "<u>", plain),
            y: Axis::linear(0.0, 1.0, "", plain),
            series: vec![
                Series {
                    name: "<s>".to_owned(),
                    style: 9,
                    shape: Shape::Lines(vec![vec![(0.5, 0.5)], vec![]]),
                },
                Series { name: String::new(), style: 0, shape: Shape::Bars(vec![[0.0, f64::NAN, 0.0, 1.0]]) },
                Series {
                    name: String::new(),
                    style: 0,
                    shape: Shape::Marks(vec![(1.0, 1.0, "<p>".to_owned())]),
                },
            ],
            bands: vec![(0.0, 0.5, "warm-up")],
        };
        let mut out = Vec::new();
        chart.draw(&mut out).expect("a vector takes all");
        let text = String::from_utf8(out).expect("text");
        for tag in ["<b>", "<i>", "<u>", "<s>", "<p>", "NaN"] {
            assert!(!text.contains(tag), "{tag}: {text}");
        }
        assert!(
            text.contains("role=\"img\" aria-label=\"&quot;&lt;i&gt;\"") && text.contains("line dot s1"),
            "{text}"
        );
    }
}
