//! The settings of a training among the flags of a command line: which were given, and over what
//! they go.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::Ui;
use crate::data::Prepared;
use crate::error::{Error, Result};
use crate::run::config::{LEAST_STEPS, RunConfig};

/// The flags of [`RunConfig`] that were given.
pub struct Given(ArgMatches);

impl Given {
    /// These over `config`.
    ///
    /// # Errors
    /// None in practice: the command line was parsed already.
    pub fn over(&self, mut config: RunConfig) -> Result<RunConfig> {
        // A seed on the command line is one run, whatever the file says.
        if self.0.contains_id("seed") {
            config.seeds = None;
        }
        if self.0.contains_id("threshold_quantile") {
            config.fpr = None;
        }
        config.update_from_arg_matches(&self.0).map_err(|e| Error::Usage(e.to_string()))?;
        Ok(config)
    }

    /// Raises the epochs of few images to as many as make enough steps, unless somebody chose them,
    /// and says so.
    ///
    /// # Errors
    /// As [`RunConfig::take_steps_enough`].
    pub fn take_steps_enough(
        &self,
        config: &mut RunConfig,
        chosen: bool,
        prepared: &Prepared,
        ui: &Ui,
    ) -> Result<()> {
        if !chosen && !self.0.contains_id("epochs") && config.take_steps_enough(prepared)? {
            ui.progress(&format!(
                "{} epochs, to have {LEAST_STEPS} steps with so few images (--epochs N: others)",
                config.epochs
            ));
        }
        Ok(())
    }

    /// The flags as they are written, such as `--batch-size`.
    pub fn flags(&self) -> Vec<String> {
        let settings = RunConfig::augment_args(Command::new("settings"));
        let given =
            settings.get_arguments().filter(|arg| self.0.contains_id(arg.get_id().as_str()));
        given.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect()
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        // The texts name the defaults, of which a configuration file may have others.
        RunConfig::augment_args(command).mut_args(|arg| {
            let valued = arg.get_action().takes_values();
            arg.hide_default_value(valued)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Given, clap::Error> {
        let mut given = matches.clone();
        for id in matches.ids() {
            if matches.value_source(id.as_str()) != Some(ValueSource::CommandLine) {
                // It is there, so it has a name that is known.
                let _ = given.try_clear_id(id.as_str());
            }
        }
        Ok(Given(given))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What the flags go over, where there is no configuration file.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PaperArgs {
    /// Start from the paper's settings: PyTorch's initial parameters, 1000 epochs, and its score with
    /// beta 0.12. Other flags win over it.
    #[arg(long)]
    pub paper: bool,
}

impl PaperArgs {
    /// The settings to begin with.
    pub fn base(self) -> RunConfig {
        if self.paper { RunConfig::paper() } else { RunConfig::default() }
    }
}

/// The flags of [`RunConfig`] that were given, where others are as in the paper.
pub struct Papers(pub Given);

impl Args for Papers {
    fn augment_args(command: Command) -> Command {
        let paper = RunConfig::paper().entries().unwrap_or_default();
        Given::augment_args(command).mut_args(|arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            match (help.rsplit_once("[default:"), paper.get(arg.get_id().as_str())) {
                (Some((help, _)), Some(value)) => {
                    let value = value.as_str().map_or(value.to_string(), String::from);
                    arg.help(format!("{help}[default: {value}]"))
                }
                _ => arg,
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Papers::augment_args(command)
    }
}

impl FromArgMatches for Papers {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Papers, clap::Error> {
        Given::from_arg_matches(matches).map(Papers)
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Papers::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Settings that `gradcon sweep` takes lists of.
const SWEPT: [&str; 4] = ["alpha", "lr", "seed", "seeds"];

/// The flags of [`RunConfig`] that were given, without those that are swept.
pub struct Others(pub Given);

impl Args for Others {
    fn augment_args(command: Command) -> Command {
        let all = Given::augment_args(Command::new("settings"));
        let others = all.get_arguments().filter(|arg| !SWEPT.contains(&arg.get_id().as_str()));
        others.fold(command, |command, arg| command.arg(arg.clone()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Others::augment_args(command)
    }
}

impl FromArgMatches for Others {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Others, clap::Error> {
        // As a command line that has nothing but settings.
        let all = Given::augment_args(Command::new("settings"));
        let mut line: Vec<OsString> = vec!["settings".into()];
        for arg in all.get_arguments() {
            let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
            if SWEPT.contains(&id) || matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let mut flag = OsString::from(format!("--{long}"));
            if arg.get_action().takes_values() {
                let values: Vec<&OsStr> = matches.get_raw(id).into_iter().flatten().collect();
                flag.push("=");
                flag.push(values.join(OsStr::new(",")));
            }
            line.push(flag);
        }
        Given::from_arg_matches(&all.try_get_matches_from(line)?).map(Others)
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Others::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run::config::InitName;

    fn given(line: &str) -> Given {
        let command = Given::augment_args(Command::new("train"));
        Given::from_arg_matches(&command.try_get_matches_from(line.split(' ')).unwrap()).unwrap()
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_defaults() {
        let text =
            "data = '/d'\nepochs = 7\nlr = 0.5\ninit = 'kaiming'\nshuffle = false\nseeds = [1]";
        let file = || RunConfig::parse_settings(text, Path::new("c.toml")).unwrap();
        let config = given("train --epochs 9 --inlier a,b").over(file()).unwrap();
        assert_eq!((config.epochs, config.lr, config.init), (9, 0.5, InitName::Kaiming));
        assert_eq!((config.batch_size, config.shuffle, config.alpha), (64, false, 0.03));
        assert_eq!((config.inliers, config.seeds), (vec!["a".into(), "b".into()], Some(vec![1])));
        let config = given("train --seed 3 --no-shuffle --init torch").over(file()).unwrap();
        assert_eq!((config.seed, config.seeds, config.shuffle), (3, None, false));
        assert_eq!((config.init, config.inliers), (InitName::Torch, vec!["all".into()]));
        let rate = || RunConfig::parse_settings("fpr = 0.01", Path::new("c.toml")).unwrap();
        assert_eq!(given("train").over(rate()).unwrap().fpr, Some(0.01));
        let config = given("train --threshold-quantile 0.9").over(rate()).unwrap();
        assert_eq!((config.fpr, config.threshold_quantile), (None, 0.9));
        // Also where a flag says what the default is.
        assert_eq!(given("train --lr 0.001").over(file()).unwrap().lr, 0.001);
        assert_eq!(given("train").over(RunConfig::default()).unwrap(), RunConfig::default());
    }

    #[test]
    fn what_is_swept_is_no_setting_and_the_others_are() {
        let command = Others::augment_args(Command::new("sweep"));
        assert!(command.clone().try_get_matches_from(["sweep", "--lr", "1"]).is_err());
        let line = "sweep --epochs 9 --inlier a,b --no-shuffle --init torch";
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        let others = Others::from_arg_matches(&matches).unwrap().0;
        assert_eq!(others.flags(), ["--inlier", "--epochs", "--init", "--no-shuffle"]);
        let config = others.over(RunConfig::default()).unwrap();
        assert_eq!((config.epochs, config.shuffle), (9, false));
        assert_eq!(config.inliers, ["a", "b"]);
    }

    #[test]
    fn where_the_papers_settings_hold_the_texts_name_them() {
        let command = Papers::augment_args(Command::new("reproduce"));
        let help = |id: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == id).unwrap();
            arg.get_help().unwrap().to_string()
        };
        for (id, value) in
            [("epochs", "1000"), ("score", "paper"), ("init", "torch"), ("lr", "0.001")]
        {
            assert!(help(id).ends_with(&format!("[default: {value}]")), "{}", help(id));
        }
    }

    #[test]
    fn flags_that_were_given_are_known_by_their_names() {
        assert!(given("train").flags().is_empty());
        let flags = given("train --no-shuffle --batch-size 64 --inlier all").flags();
        assert_eq!(flags, ["--inlier", "--batch-size", "--no-shuffle"]);
    }

    #[test]
    fn the_text_of_a_configuration_file_names_every_setting() {
        let command = crate::cli::train::TrainArgs::augment_args(Command::new("train"));
        let config = command.get_arguments().find(|arg| arg.get_id() == "config").unwrap();
        let text = config.get_help().unwrap().to_string();
        let named = text.split(['(', ')']).nth(1).unwrap();
        let named: Vec<&str> = named.split(',').map(str::trim).collect();
        let settings = RunConfig::augment_args(Command::new("settings"));
        let keys = settings.get_arguments().map(|arg| arg.get_id().as_str());
        let keys: Vec<&str> = std::iter::once("data").chain(keys).collect();
        assert_eq!(named, keys);
    }

    #[test]
    fn the_texts_name_the_defaults() {
        let mut named = 0;
        for arg in Given::augment_args(Command::new("train")).get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            for default in arg.get_default_values() {
                named += 1;
                assert!(help.ends_with(&format!("[default: {}]", default.display())), "{help}");
            }
        }
        assert_eq!(named, 13);
    }
}
