//! Samples into figures: medians, ratios, whether goals are reached; and a table on the terminal.

use super::scenarios::{Goal, Row, Sample};
use super::tally::Faults;

/// One row, measured.
pub struct Figure {
    pub row: &'static Row,
    pub midge: Spread,
    /// Mosquitto, or who else it is.
    pub other: Option<Spread>,
    pub relay: Option<Spread>,
}

/// One figure in all rounds.
pub struct Spread {
    pub median: f64,
    pub values: Vec<f64>,
    /// Medians, percent of one core: with much less than 100 the generator is what limits the rate.
    pub busy: f64,
    pub generator_busy: f64,
    pub faults: Faults,
}

impl Spread {
    /// Of the value with this index in each sample.
    pub fn of(samples: &[Sample], index: usize) -> Option<Spread> {
        let values: Vec<f64> = samples.iter().map(|sample| sample.values[index]).collect();
        let share = |part: f64, wall: f64| if wall > 0.0 { 100.0 * part / wall } else { 0.0 };
        let busy = samples.iter().map(|s| share(s.cost.broker, s.cost.wall));
        let generator_busy = samples.iter().map(|s| share(s.cost.own, s.cost.wall));
        let mut faults = Faults::default();
        for sample in samples {
            faults += sample.faults;
        }
        Some(Spread {
            median: median(values.iter().copied())?,
            values,
            busy: median(busy)?,
            generator_busy: median(generator_busy)?,
            faults,
        })
    }

    pub fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Figure {
    /// How many times midge's figure goes into the other's.
    pub fn ratio(&self) -> Option<f64> {
        let other = self.other.as_ref()?;
        let is_cost = matches!(self.row.goal, Goal::Ratio(..)) || self.row.unit == "µs";
        is_cost.then_some(other.median / self.midge.median)
    }

    /// `None` where there is no goal, or nobody to compare with.
    pub fn is_reached(&self) -> Option<bool> {
        match self.row.goal {
            Goal::Ratio(theirs, must, _) => Some(self.ratio()? >= theirs / must),
            Goal::AtMost(most) => Some(self.midge.median <= most),
            Goal::AtLeast(least) => Some(self.midge.median >= least),
            Goal::None => None,
        }
    }

    pub fn verdict(&self) -> &'static str {
        match (self.is_reached(), self.row.goal, self.ratio()) {
            (Some(true), Goal::Ratio(theirs, _, then), Some(ratio)) if ratio >= theirs / then => {
                "yes, and more"
            }
            (Some(true), ..) => "yes",
            (Some(false), ..) => "**no**",
            (None, ..) => "",
        }
    }

    pub fn goal(&self) -> String {
        match self.row.goal {
            Goal::Ratio(theirs, must, _) => format!("{theirs}/{must} = {:.1}", theirs / must),
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::None => String::new(),
        }
    }
}

// ---- the terminal ---------------------------------------------------------------------------

pub fn print_header(other: &str) {
    println!(
        "{:<54} {:>5} {:>9} {:>15} {:>16} {:>9} {:>7}  {:<18} {:<14} {:>9}",
        "", "", "midge", "from to", other, "relay", "ratio", "must reach", "reached", "busy/own"
    );
}

pub fn print(figure: &Figure) {
    let of = |spread: &Option<Spread>| spread.as_ref().map_or(String::new(), |s| short(s.median));
    let midge = &figure.midge;
    let spread = format!("{} {}", short(midge.least()), short(midge.most()));
    println!(
        "{:<54} {:>5} {:>9} {spread:>15} {:>16} {:>9} {:>7}  {:<18} {:<14} {:>4.0}/{:.0} %",
        figure.row.name,
        figure.row.unit,
        short(midge.median),
        of(&figure.other),
        of(&figure.relay),
        figure
            .ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.2}")),
        figure.goal(),
        figure.verdict(),
        midge.busy,
        midge.generator_busy,
    );
    let all = [
        Some(&figure.midge),
        figure.other.as_ref(),
        figure.relay.as_ref(),
    ];
    for (name, spread) in ["midge", "other", "relay"].iter().zip(all) {
        let faults = spread.map_or(Faults::default(), |spread| spread.faults);
        if faults != Faults::default() {
            let Faults {
                lost,
                duplicates,
                disorder,
            } = faults;
            println!("    {name}: {lost} lost, {duplicates} twice, {disorder} out of order");
        }
    }
}

/// With three digits that matter.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len() - index;
        if index > 0 && left % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
