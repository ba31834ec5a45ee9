//! Dots of a chart: one for each place where requests lie, the larger the more of them.

use std::io::{self, Write};

use super::escape::Text;

/// Places on a chart and what lies there.
#[derive(Debug)]
pub struct Dots(Vec<Dot>);

/// One place.
#[derive(Debug, PartialEq)]
struct Dot {
    x: f64,
    y: f64,
    /// How many lie here, 1 or more.
    count: usize,
    /// What it is for those who point at it.
    title: String,
}

/// The least and the most radius of a dot, in the units of a chart.
const LEAST: f64 = 2.2;
const MOST: f64 = 11.0;

impl Dots {
    /// One dot for all requests, each with its number, that are at the same place.
    pub fn of(points: &[(f64, f64, u64)]) -> Self {
        let mut points = points.to_vec();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let places = points.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).filter_map(|here| {
            let (x, y, id) = *here.first()?;
            let title = match here.len() {
                1 => format!("request {id}"),
                several => format!("{several} requests"),
            };
            Some(Dot { x, y, count: here.len(), title })
        });
        Self(places.collect())
    }

    /// How many requests the largest dot stands for; 0 without any.
    pub fn most(&self) -> usize {
        self.0.iter().map(|dot| dot.count).max().unwrap_or(0)
    }

    /// Writes them where `place` puts them; what it puts nowhere is left out. `style` is the number of their colour.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn draw(
        &self,
        style: usize,
        place: impl Fn(f64, f64) -> Option<(f64, f64)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let most = self.most();
        writeln!(out, "<g class=\"point s{style}\">")?;
        for dot in &self.0 {
            let Some((x, y)) = place(dot.x, dot.y) else { continue };
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"><title>{}</title></circle>",
                radius(dot.count, most),
                Text(&dot.title)
            )?;
        }
        writeln!(out, "</g>")
    }
}

/// The radius of a dot of `count` where the largest is one of `most`: areas are as the counts, as long as they can be seen.
fn radius(count: usize, most: usize) -> f64 {
    let largest = (LEAST * (most as f64).sqrt()).min(MOST);
    (largest * (count as f64 / most as f64).sqrt()).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_places_are_one_dot_that_tells_how_many() {
        let dots = Dots::of(&[(2.0, 1.0, 7), (1.0, 1.0, 4), (1.0, 3.0, 5), (1.0, 1.0, 9)]);
        let dot = |x, y, count, title: &str| Dot { x, y, count, title: title.to_owned() };
        let want =
            [dot(1.0, 1.0, 2, "2 requests"), dot(1.0, 3.0, 1, "request 5"), dot(2.0, 1.0, 1, "request 7")];
        assert_eq!((dots.most(), dots.0), (2, want.into()));
        assert_eq!(Dots::of(&[]).most(), 0);
    }

    #[test]
    fn areas_are_as_counts_within_what_can_be_seen() {
        let check =
            |count, most, want: f64| assert!((radius(count, most) - want).abs() < 1e-9, "{count}/{most}");
        check(1, 1, LEAST);
        check(4, 4, 2.0 * LEAST);
        check(1, 4, LEAST);
        check(400, 400, MOST);
        check(100, 400, MOST / 2.0);
        check(1, 400, LEAST);
    }

    #[test]
    fn what_has_no_place_is_not_drawn() {
        let mut out = Vec::new();
        let dots = Dots::of(&[(1.0, 2.0, 3), (f64::NAN, 2.0, 4)]);
        let place = |x: f64, y: f64| x.is_finite().then_some((x, y));
        dots.draw(1, place, &mut out).expect("a vector takes all");
        let want = "<g class=\"point s1\">\n\
                    <circle cx=\"1.0\" cy=\"2.0\" r=\"2.2\"><title>request 3</title></circle>\n</g>\n";
        assert_eq!(String::from_utf8(out).expect("text"), want);
    }
}
