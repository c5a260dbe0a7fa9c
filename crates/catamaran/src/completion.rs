//! Completion for shells, and by what name the command was called.
//!
//! `kubectl` finds a plugin by the name of its file. The same executable answers as `kubectl-catamaran`, whose help then says
//! `kubectl catamaran`, and as `kubectl_complete-catamaran`, which kubectl asks what could be typed next.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, CompletionArguments};
use crate::output;

/// How kubectl's plugins are called.
const PLUGIN: &str = "kubectl-catamaran";
/// What kubectl calls for completion.
const COMPLETER: &str = "kubectl_complete-catamaran";
/// After the candidates: names of files are none (`ShellCompDirectiveNoFileComp`).
const NO_FILES: &str = ":4";

/// What the file is called that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// By its own name, or any other.
    Directly,
    /// As a plugin of kubectl.
    AsPlugin,
    /// By kubectl, for completion.
    ToComplete,
}

impl Called {
    /// By the first argument of the process.
    pub fn by(program: Option<&OsString>) -> Called {
        let name = program.and_then(|path| Path::new(path).file_stem()).unwrap_or_default();
        match name.to_str() {
            Some(PLUGIN) => Called::AsPlugin,
            Some(COMPLETER) => Called::ToComplete,
            _ => Called::Directly,
        }
    }
}

/// The command line, in the words of its caller. Help and mistakes end the process.
pub fn parse(called: Called, arguments: &[OsString]) -> Cli {
    let command = match called {
        Called::AsPlugin => Cli::command().bin_name("kubectl catamaran"),
        Called::Directly | Called::ToComplete => Cli::command(),
    };
    let matches = command.get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Prints the script for a shell.
pub fn script(arguments: &CompletionArguments) -> anyhow::Result<()> {
    let mut written = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "catamaran", &mut written);
    output::text(&String::from_utf8_lossy(&written))
}

/// Prints what could be typed in the place of the last of these words, as kubectl wants it: a candidate in each line, a tab and
/// what it means, then a directive.
pub fn candidates(words: &[OsString]) -> anyhow::Result<()> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let found = complete(&words);
    let lines = found.iter().flat_map(|line| [line.as_str(), "\n"]);
    output::text(&(lines.collect::<String>() + NO_FILES + "\n"))
}

fn complete(words: &[String]) -> Vec<String> {
    let (last, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    let mut flag = None;
    for word in before {
        if flag.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            flag = flag_of(at, word).filter(|flag| flag.get_action().takes_values());
        } else if let Some(below) = at.find_subcommand(word) {
            at = below;
        }
    }
    if let Some(flag) = flag {
        return values(flag, "", last);
    }
    if let Some((name, typed)) = last.split_once('=').filter(|_| last.starts_with("--")) {
        return flag_of(at, name).map_or_else(Vec::new, |flag| values(flag, &format!("{name}="), typed));
    }
    if last.starts_with('-') {
        return flags(at, last);
    }
    let visible = at.get_subcommands().filter(|command| !command.is_hide_set());
    let named = visible.filter(|command| command.get_name().starts_with(last));
    let named = named.map(|command| line(command.get_name(), command.get_about()));
    let positional = at.get_positionals().flat_map(|argument| values(argument, "", last));
    named.chain(positional).collect()
}

fn flag_of<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|argument| {
        let long = argument
            .get_long()
            .is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = argument.get_short();
        long || short.is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()))
    })
}

fn flags(command: &Command, typed: &str) -> Vec<String> {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let flags = visible.filter_map(|argument| Some((format!("--{}", argument.get_long()?), argument)));
    let flags = flags.filter(|(flag, _)| flag.starts_with(typed));
    flags.map(|(flag, argument)| line(&flag, argument.get_help())).collect()
}

fn values(argument: &Arg, before: &str, typed: &str) -> Vec<String> {
    let possible = argument.get_possible_values().into_iter();
    let visible = possible.filter(|value| !value.is_hide_set() && value.get_name().starts_with(typed));
    visible
        .map(|value| line(&format!("{before}{}", value.get_name()), value.get_help()))
        .collect()
}

/// A candidate with the first line of what it means.
fn line(candidate: &str, help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    match help.lines().next() {
        Some(first) if !first.is_empty() => format!("{candidate}\t{first}"),
        _ => candidate.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        super::complete(&words)
    }

    /// The candidates without what they mean.
    fn names(words: &[&str]) -> Vec<String> {
        let found = complete(words);
        found
            .iter()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn name_of_the_file_says_who_called() {
        let by = |name: &str| Called::by(Some(&OsString::from(name)));
        assert_eq!(by("/usr/local/bin/kubectl-catamaran"), Called::AsPlugin);
        assert_eq!(by("kubectl_complete-catamaran"), Called::ToComplete);
        assert_eq!(by("kubectl-catamaran.exe"), Called::AsPlugin);
        assert_eq!(
            (by("/catamaran"), Called::by(None)),
            (Called::Directly, Called::Directly)
        );
    }

    #[test]
    fn subcommands_flags_and_values_are_completed() {
        assert_eq!(names(&["fail"]), ["failover", "failback"]);
        assert_eq!(complete(&["vers"]), ["version\tPrint the version"]);
        assert!(complete(&["diff", "--in"])[0].starts_with("--include\tOnly tags that match"));
        assert_eq!(names(&["status", "-o", ""]), ["table", "json", "yaml"]);
        assert_eq!(names(&["status", "--output", "js"]), ["json"]);
        assert_eq!(names(&["status", "--output=y"]), ["--output=yaml"]);
        assert_eq!(names(&["completion", "z"]), ["zsh"]);
    }

    #[test]
    fn nothing_is_suggested_where_nothing_is_known() {
        assert!(
            names(&[]).contains(&"explain".to_owned()),
            "no word yet: every subcommand"
        );
        assert_eq!(names(&["failover", "apps", "--for", ""]), [""; 0]);
        assert_eq!(names(&["nonsense", "--x"]), [""; 0]);
        assert!(names(&["failover", "apps", "--"]).contains(&"--dry-run".to_owned()));
    }

    #[test]
    fn every_shell_gets_a_script_that_names_every_subcommand() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let mut written = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "catamaran", &mut written);
            let script = String::from_utf8(written).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
