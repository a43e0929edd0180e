//! From words to a command: global options come before the command's name, each command parses the
//! rest itself. Bad usage prints the usage on stdout and ends with 1 (spec/cli.md A0).

use clap::{Command as ClapCommand, Parser};

/// Usage of the program.
const USAGE: &str = "usage: flynn [-a <app>] [-c <cluster>] <command> [<args>...]";

/// What stands before the command's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// `-a`.
    pub(crate) app: Option<String>,
    /// `-c`.
    pub(crate) cluster: Option<String>,
    /// The command's name.
    pub(crate) command: String,
    /// Everything after it.
    pub(crate) rest: Vec<String>,
}

/// Why there is nothing to run: a text for stdout and the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) status: u8,
}

impl Answer {
    fn bad_usage(usage: &str) -> Self {
        Self { text: format!("{usage}\n"), status: 1 }
    }

    fn help(text: String) -> Self {
        Self { text, status: 0 }
    }
}

impl Invocation {
    /// Reads the words after the program's name.
    pub(crate) fn parse(words: Vec<String>) -> Result<Self, Answer> {
        let mut invocation = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let slot = match option_of(&word) {
                Global::App => &mut invocation.app,
                Global::Cluster => &mut invocation.cluster,
                Global::Help => return Err(Answer::help(crate::commands::help::overview())),
                Global::Version => return Err(Answer::help(format!("{}\n", crate::VERSION))),
                Global::Unknown => return Err(Answer::bad_usage(USAGE)),
                Global::Command => {
                    invocation.command = word;
                    invocation.rest = words.collect();
                    return Ok(invocation);
                }
            };
            let value = glued_value(&word).map(str::to_owned).or_else(|| words.next());
            *slot = Some(value.ok_or_else(|| Answer::bad_usage(USAGE))?);
        }
        Err(Answer::bad_usage(USAGE))
    }
}

enum Global {
    App,
    Cluster,
    Help,
    Version,
    Unknown,
    Command,
}

fn option_of(word: &str) -> Global {
    let long = word.split_once('=').map_or(word, |(name, _)| name);
    let is_prefix_of =
        |name: &str| long.len() > 2 && long.starts_with("--") && name.starts_with(long);
    match word {
        _ if word.starts_with("-a") || is_prefix_of("--app") => Global::App,
        _ if word.starts_with("-c") || is_prefix_of("--cluster") => Global::Cluster,
        "-h" => Global::Help,
        _ if is_prefix_of("--help") => Global::Help,
        _ if is_prefix_of("--version") => Global::Version,
        _ if word.starts_with('-') => Global::Unknown,
        _ => Global::Command,
    }
}

/// `-ax` and `--app=x` carry their value.
fn glued_value(word: &str) -> Option<&str> {
    if word.starts_with("--") {
        return word.split_once('=').map(|(_, value)| value);
    }
    word.get(2..)
        .filter(|value| !value.is_empty())
        .map(|value| value.strip_prefix('=').unwrap_or(value))
}

/// Parses a command's own words.
pub(crate) fn parse<T: Parser>(name: &str, rest: &[String]) -> Result<T, Answer> {
    let mut command = clap_command::<T>(name);
    let parsed =
        command.try_get_matches_from_mut(rest).and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.kind() == clap::error::ErrorKind::DisplayHelp {
            Answer::help(error.to_string())
        } else {
            Answer::bad_usage(&usage_of(&mut command))
        }
    })
}

/// The full help of a command.
pub(crate) fn help_of<T: Parser>(name: &str) -> String {
    clap_command::<T>(name).render_help().to_string()
}

fn clap_command<T: Parser>(name: &str) -> ClapCommand {
    let prefixes = |command: ClapCommand| {
        command.infer_long_args(true).args_override_self(true).disable_help_subcommand(true)
    };
    let full_name = format!("flynn {name}");
    prefixes(T::command())
        .bin_name(full_name)
        .no_binary_name(true)
        .color(clap::ColorChoice::Never)
        .disable_version_flag(true)
        .mut_subcommands(prefixes)
}

/// `usage: flynn ps …`, further lines below each other.
fn usage_of(command: &mut ClapCommand) -> String {
    let usage = command.render_usage().to_string();
    let lines: Vec<&str> = usage.trim_start_matches("Usage:").lines().map(str::trim).collect();
    format!("usage: {}", lines.join("\n       "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Invocation, Answer> {
        Invocation::parse(words.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn global_options_come_before_the_command() {
        for words in [
            "-a demo -c x ps -a",
            "-ademo -cx ps -a",
            "--app demo --cluster=x ps -a",
            "--ap=demo --clus x ps -a",
        ] {
            let invocation = parse_words(words).unwrap();
            assert_eq!(invocation.app.as_deref(), Some("demo"), "{words}");
            assert_eq!(invocation.cluster.as_deref(), Some("x"), "{words}");
            assert_eq!(
                (invocation.command.as_str(), invocation.rest.join(" ").as_str()),
                ("ps", "-a")
            );
        }
    }

    #[test]
    fn bad_usage_shows_the_usage_and_fails() {
        for words in ["", "--bogus ps", "-x", "-a"] {
            assert_eq!(parse_words(words), Err(Answer::bad_usage(USAGE)), "{words:?}");
        }
        assert_eq!(parse_words("--version").unwrap_err().status, 0);
        assert_eq!(parse_words("-h").unwrap_err().status, 0);
    }
}
