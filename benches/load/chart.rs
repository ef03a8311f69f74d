//! A chart for each group of figures: bars, with a mark where midge is to be.
//!
//! Rows have different units, so each has a scale of its own: the longest bar of a row is as wide
//! as the chart, and every bar says its value. Colours hold on light and on dark ground.

use std::fmt::Write;

use super::report::{Figure, short};
use super::scenarios::Goal;

const WIDTH: f64 = 760.0;
const NAMES_WIDTH: f64 = 330.0;
const VALUES_WIDTH: f64 = 90.0;
const BAR: f64 = 12.0;
const GAP: f64 = 12.0;
const TOP: f64 = 56.0;

const MIDGE: &str = "#2a9d8f";
const OTHER: &str = "#8d99ae";
const RELAY: &str = "#c9a227";
const GOAL: &str = "#e05252";
const STYLE: &str = "text { font: 12px sans-serif; fill: #6e7781; } .title { font-size: 14px; \
                     font-weight: bold; } @media (prefers-color-scheme: dark) { text { \
                     fill: #b1bac4; } }";

pub fn svg(title: &str, figures: &[&Figure], other: &str) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for figure in figures {
        y = row(&mut body, figure, y) + GAP;
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n"
    );
    let keys = [
        ("midge", MIDGE),
        (other, OTHER),
        ("null relay", RELAY),
        ("to be reached", GOAL),
    ];
    let mut x = 8.0;
    for (name, colour) in keys {
        if colour == RELAY && figures.iter().all(|figure| figure.relay.is_none()) {
            continue;
        }
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"41\">{name}</text>",
            x + 15.0
        );
        x += 40.0 + 7.0 * name.len() as f64;
    }
    text + &body + "</svg>\n"
}

/// Draws a row from `y` on; returns where it ends.
fn row(body: &mut String, figure: &Figure, y: f64) -> f64 {
    let other = figure.other.as_ref().map(|spread| (spread.median, OTHER));
    let relay = figure.relay.as_ref().map(|spread| (spread.median, RELAY));
    let bars: Vec<(f64, &str)> = [Some((figure.midge.median, MIDGE)), other, relay]
        .into_iter()
        .flatten()
        .collect();
    let goal = goal(figure);
    let longest = bars
        .iter()
        .map(|bar| bar.0)
        .chain(goal)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAMES_WIDTH - VALUES_WIDTH) / longest;
    let mark = goal.map(|goal| NAMES_WIDTH + goal * scale);
    let end = y + BAR * bars.len() as f64;
    let middle = (y + end) / 2.0 + 4.0;
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
        NAMES_WIDTH - 8.0,
        figure.row.name
    );
    for (index, (value, colour)) in bars.iter().enumerate() {
        let (top, width) = (y + BAR * index as f64, (value * scale).max(1.0));
        let _ = writeln!(
            body,
            "<rect x=\"{NAMES_WIDTH}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" \
             fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\" style=\"font-size:10px\">{} {}</text>",
            BAR - 2.0,
            beside_goal(NAMES_WIDTH + width, index, mark) + 6.0,
            top + 9.0,
            short(*value),
            figure.row.unit
        );
    }
    if let Some(x) = mark {
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"{GOAL}\" \
             stroke-width=\"2\"/>",
            y - 2.0,
            y + BAR
        );
    }
    end
}

/// Where a bar's value may begin: midge's, the first, has the mark in its way if that is near.
fn beside_goal(end: f64, bar: usize, mark: Option<f64>) -> f64 {
    match mark {
        Some(mark) if bar == 0 && (end..end + VALUES_WIDTH).contains(&mark) => mark,
        _ => end,
    }
}

/// Where midge's bar is to end.
fn goal(figure: &Figure) -> Option<f64> {
    match figure.row.goal {
        Goal::Ratio(theirs, must, _) => Some(figure.other.as_ref()?.median * must / theirs),
        Goal::AtMost(goal) | Goal::AtLeast(goal) => Some(goal),
        Goal::None => None,
    }
}
