//! What was found, for people.

use super::Found;
use super::gain::Gain;
use super::race::{Race, Runner};
use super::step::Trial;
use crate::bench::Sizes;
use crate::bench::text::{columns, digits};

impl Race {
    /// The kernel and how it ended, in a line.
    pub fn line(&self) -> String {
        let default = &self.variants[0];
        let failed = self.variants.iter().filter(|runner| runner.failure.is_some());
        let failed: String = failed.map(|runner| format!(", {} failed", runner.variant)).collect();
        let end = match self.winner.as_ref().and_then(|winner| self.gain(winner)) {
            Some((winner, gain)) => {
                format!("{winner} takes {:.0} % less than {}", gain.percent(), default.variant)
            }
            None => format!("{} stays", default.variant),
        };
        format!("{} {}: {end}{failed}", self.kernel, self.shape)
    }

    /// A variant's name and gain, where it was timed.
    fn gain(&self, variant: &str) -> Option<(&str, Gain)> {
        let runner = self.variants.iter().find(|runner| runner.variant == variant)?;
        let (default, other) = (self.variants[0].us.as_ref()?, runner.us.as_ref()?);
        Some((&runner.variant, Gain::of(&default.samples, &other.samples)))
    }
}

impl Trial {
    /// The step and how it ended, in a line.
    pub fn line(&self) -> String {
        let what = if self.program == "train" { "a training step" } else { "scoring" };
        let times = [&self.default_us, &self.tuned_us].map(|us| us.as_ref().map(|us| us.median));
        let (Some(gain), [Some(default), Some(tuned)]) = (self.gain(), times) else {
            return format!("{what}: {}", self.note.as_deref().unwrap_or("not timed"));
        };
        let verdict = match self.faster {
            true => format!("{:.1} % less", gain.percent()),
            false => "not clearly less, so nothing is chosen for it".to_string(),
        };
        format!(
            "{what}: {} us by default, {} us with the chosen variants: {verdict}",
            digits(default),
            digits(tuned)
        )
    }
}

/// The kernels of one size, a line each, then the steps.
pub fn found(found: &Found) -> String {
    let (sizes, Sizes { model, precision, .. }) = (found.sizes, found.sizes);
    let titles = ["kernel", "for", "sizes", "chosen", "microseconds by variant"];
    let mut lines = vec![titles.map(String::from).to_vec()];
    for race in &found.races {
        let time = |runner: &Runner| {
            let time = match (&runner.us, runner.times_default) {
                (Some(us), _) => digits(us.median),
                (None, Some(times)) => format!("{times:.0} x"),
                (None, None) if runner.failure.is_some() => "failed".to_string(),
                (None, None) => "-".to_string(),
            };
            format!("{} {time}", runner.variant)
        };
        let times: Vec<String> = race.variants.iter().map(time).collect();
        let kept = found.choices.0.iter().find(|choice| choice.id == race.id);
        let chosen = match (kept, &race.winner) {
            (Some(choice), _) => choice.variant.clone(),
            (None, Some(winner)) => format!("default, not {winner}"),
            (None, None) => "default".to_string(),
        };
        let (kernel, label, shape) = (race.kernel.clone(), race.label.clone(), race.shape.clone());
        lines.push(vec![kernel, label, shape, chosen, times.join(", ")]);
    }
    let mut text = format!("{model}, {sizes}, {precision}\n");
    text += &columns(&lines, 5);
    for race in &found.races {
        for runner in &race.variants {
            if let Some(why) = &runner.failure {
                let Race { kernel, shape, .. } = race;
                text += &format!("{} of {kernel} {shape} failed: {why}\n", runner.variant);
            }
        }
    }
    for trial in &found.trials {
        text += &trial.line();
        text.push('\n');
    }
    text
}
