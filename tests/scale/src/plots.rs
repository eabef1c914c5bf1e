//! Plots in SVG. Colours are those that can be read on white and on black.

use std::fmt::Write as _;

/// A line of a plot.
pub(crate) struct PlotLine {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// True for limits, which are drawn as dashes.
    pub(crate) is_limit: bool,
}

/// An axis: its text, its range, and the values that are written beside it.
pub(crate) struct PlotAxis {
    pub(crate) title: &'static str,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) is_log: bool,
    pub(crate) ticks: Vec<f64>,
}

impl PlotAxis {
    /// Place of a value between the ends, from 0 to 1. The logarithm is rounded, since its last bits differ from one
    /// platform to another.
    fn place(&self, value: f64) -> f64 {
        let at = |value: f64| if self.is_log { libm::log10(value.max(1e-9)) } else { value };
        ((at(value) - at(self.from)) / (at(self.to) - at(self.from))).clamp(0.0, 1.0)
    }
}

/// A plot.
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: PlotAxis,
    pub(crate) y: PlotAxis,
    pub(crate) lines: Vec<PlotLine>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;

/// Grey that has enough contrast on white and on black, and colours of lines.
const GREY: &str = "#7a7a7a";
const COLOURS: [&str; 4] = ["#2f7fd6", "#d2691e", "#2e9e5b", "#b0509e"];

impl Plot {
    /// Writes it as SVG.
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"{GREY}\">\n<title>{}</title>\n",
            self.title
        );
        let x = |value: f64| LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut line = |text: String| {
            svg.push_str(&text);
            svg.push('\n');
        };
        line(format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>", self.title));
        for tick in &self.x.ticks {
            let at = x(*tick);
            line(format!(
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/><text x=\"{at:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{tick}</text>",
                bottom + 18.0
            ));
        }
        for tick in &self.y.ticks {
            let at = y(*tick);
            line(format!(
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{tick}</text>",
                LEFT - 8.0,
                at + 4.0
            ));
        }
        line(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 12.0,
            self.x.title
        ));
        line(format!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (TOP + bottom) / 2.0,
            self.y.title
        ));
        let mut colours = COLOURS.iter().cycle();
        for (at, one) in self.lines.iter().enumerate() {
            let (colour, width, dash) = match one.is_limit {
                true => (GREY, 1.0, " stroke-dasharray=\"5 4\""),
                false => (*colours.next().unwrap_or(&GREY), 2.2, ""),
            };
            let mut path = String::new();
            for (number, (px, py)) in one.points.iter().enumerate() {
                // Writing to a text does not fail.
                let _ = write!(path, "{}{:.1} {:.1}", if number == 0 { "M" } else { "L" }, x(*px), y(*py));
            }
            line(format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>"));
            match one.points.last().filter(|_| one.is_limit) {
                Some(last) => {
                    line(format!("<text x=\"{}\" y=\"{:.1}\">{}</text>", right + 8.0, y(last.1) + 4.0, one.name))
                }
                None => {
                    // Names of lines stand one below the other, in the upper corner that the first lines leave free.
                    let top = TOP + 16.0 + 17.0 * at as f64;
                    line(format!(
                        "<path d=\"M{} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"{width}\"/><text x=\"{}\" y=\"{top:.1}\">{}</text>",
                        LEFT + 8.0,
                        top - 4.0,
                        LEFT + 32.0,
                        one.name
                    ));
                }
            }
        }
        line("</svg>".into());
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_between_the_ends_of_their_axis() {
        let axis = |is_log| PlotAxis { title: "", from: 10.0, to: 1000.0, is_log, ticks: Vec::new() };
        assert_eq!([10.0, 100.0, 1000.0, 5000.0, 1.0].map(|value| axis(true).place(value)), [0.0, 0.5, 1.0, 1.0, 0.0]);
        assert_eq!(axis(false).place(505.0), 0.5);
    }
}
