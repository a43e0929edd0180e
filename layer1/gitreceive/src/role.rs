//! What the program is, by the name it was started under: git starts the hook as `pre-receive`, people
//! start the receiver as `flynn-receiver`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::hook;
use crate::receiver::{self, Order};
use crate::settings::Settings;
use crate::source::Source;
use crate::terminal::Terminal;

/// What a process of this program does besides being a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// git's pre-receive hook.
    PreReceive,
    /// `flynn-receiver APP REV`: an archive on standard input becomes a release.
    Receiver,
}

/// The role of a program started under this name, if it is one of these.
pub fn role(program: &str) -> Option<Role> {
    match Path::new(program).file_name()?.to_str()? {
        "pre-receive" => Some(Role::PreReceive),
        "flynn-receiver" => Some(Role::Receiver),
        _ => None,
    }
}

/// Plays the role and gives the exit status, with which the caller should end the process at once: a
/// thread may be waiting for input that nobody sends any more.
pub async fn play(role: Role, args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut terminal = match role {
        Role::PreReceive => Terminal::of_hook(),
        Role::Receiver => Terminal::plain(),
    };
    let settings = match Settings::from_env(variables()) {
        Ok(settings) => settings,
        Err(error) => return fail(&mut terminal, &error.to_string()).await,
    };
    let outcome = match role {
        Role::PreReceive => hook::run(&settings, &mut terminal).await,
        Role::Receiver => {
            let args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
            by_hand(&settings, args.collect(), &mut terminal).await
        }
    };
    terminal.end_line().await;
    match outcome {
        Ok(()) => 0,
        Err(hook::Rejected::Told) => 1,
        Err(hook::Rejected::Because(text)) => fail(&mut terminal, &text).await,
    }
}

/// The environment, as far as it is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |value: OsString| value.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}

async fn fail(terminal: &mut Terminal, text: &str) -> u8 {
    terminal.complain(text).await;
    1
}

async fn by_hand(
    settings: &Settings,
    args: Vec<String>,
    terminal: &mut Terminal,
) -> Result<(), hook::Rejected> {
    let order = order(args).map_err(hook::Rejected::Because)?;
    let source = Source::Archive(Box::new(std::io::stdin()));
    receiver::receive(settings, order, source, terminal).await.map_err(hook::Rejected::from)
}

const USAGE: &str =
    "usage: flynn-receiver <app> <rev> [-e|--env VAR=VAL]... [-m|--meta KEY=VAL]...";

fn order(args: Vec<String>) -> Result<Order, String> {
    let (mut env, mut meta, mut words) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (flag, given) = match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => {
                (flag.to_owned(), Some(value.to_owned()))
            }
            _ => (arg, None),
        };
        let into = match flag.as_str() {
            "-e" | "--env" => &mut env,
            "-m" | "--meta" => &mut meta,
            other if other.starts_with('-') => return Err(USAGE.to_owned()),
            _ => {
                words.push(flag);
                continue;
            }
        };
        let pair = given.or_else(|| args.next()).ok_or(USAGE)?;
        let (name, value) = pair.split_once('=').ok_or(format!("invalid var format: {pair:?}"))?;
        into.insert(name.to_owned(), value.to_owned());
    }
    let [app, revision] = <[String; 2]>::try_from(words).map_err(|_| USAGE)?;
    Ok(Order { app, revision, env, meta })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        for (name, want) in [
            (".git/hooks/pre-receive", Some(Role::PreReceive)),
            ("/bin/flynn-receiver", Some(Role::Receiver)),
            ("flynn-component", None),
            ("", None),
        ] {
            assert_eq!(role(name), want, "{name}");
        }
    }

    fn read(args: &[&str]) -> Result<Order, String> {
        order(args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    #[test]
    fn arguments_of_the_receiver() {
        let order = read(&["app", "rev", "-e", "A=b=c", "--meta", "k=v", "--env=X=", "-m", "l="]);
        let order = order.unwrap();
        assert_eq!((order.app.as_str(), order.revision.as_str()), ("app", "rev"));
        assert_eq!(order.env, [("A", "b=c"), ("X", "")].map(|(n, v)| (n.into(), v.into())).into());
        assert_eq!(order.meta, [("k", "v"), ("l", "")].map(|(n, v)| (n.into(), v.into())).into());
        assert_eq!(read(&["a", "r", "-e", "x"]).unwrap_err(), "invalid var format: \"x\"");
        for odd in [&["a"][..], &["a", "b", "c"], &["a", "b", "-e"], &["a", "b", "-x"]] {
            assert_eq!(read(odd).unwrap_err(), USAGE, "{odd:?}");
        }
    }
}
