//! Becoming a process of a slug: its defaults, its profile, its command. The shell is the contract here:
//! profiles are shell scripts and a Procfile's commands are the shell's; all data reaches it as arguments
//! and variables.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use slug::{Procfile, Release, SlugInfo};

/// Sources the slug's profiles, then becomes `bash -c "$1"`.
const SCRIPT: &str = r#"
for flynn_profile in .profile.d/* .profile; do
  if [ -f "$flynn_profile" ]; then . "./$flynn_profile"; fi
done
unset flynn_profile
exec bash -c "$1"
"#;

/// Replaces this program by what `words` ask for: `start TYPE`, or a command. The slug is in the current
/// folder.
pub(crate) fn become_process(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let info = read_slug(Path::new("."))?;
    let command = command(&info, words)?;
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(SCRIPT).arg("bash").arg(command);
    for (name, value) in info.defaults() {
        let is_set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !is_set && !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') {
            shell.env(name, value);
        }
    }
    Err(shell.exec()).context("cannot start bash")
}

fn read_slug(folder: &Path) -> anyhow::Result<SlugInfo> {
    let procfile = read(&folder.join("Procfile"))?.map(|text| Procfile::parse(&text));
    let release = read(&folder.join(".release"))?.unwrap_or_default();
    let release = Release::parse(&release).context(".release")?;
    Ok(SlugInfo::new(procfile, release))
}

fn read(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// What bash is to run.
fn command(info: &SlugInfo, words: &[OsString]) -> anyhow::Result<OsString> {
    let is_start = words.first().is_some_and(|word| word == "start");
    match words {
        [] => bail!("nothing to start: name a process type (`start TYPE`) or a command"),
        [_, name] if is_start => {
            let name = name.to_string_lossy();
            match info.command(&name) {
                Some(command) => Ok(OsString::from(command)),
                None => {
                    bail!("no process type {name:?}: there are {}", info.process_types().join(", "))
                }
            }
        }
        _ => Ok(quoted(words)),
    }
}

/// Words as one text that a shell reads as these words.
fn quoted(words: &[OsString]) -> OsString {
    let mut text = OsString::new();
    for word in words {
        if !text.is_empty() {
            text.push(" ");
        }
        text.push(quoted_word(word));
    }
    text
}

fn quoted_word(word: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(byte);
    if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
        return word.to_owned();
    }
    let mut text = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            other => text.push(*other),
        }
    }
    text.push(b'\'');
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SlugInfo {
        let release = Release::parse("config_vars: {A: release}").unwrap();
        SlugInfo::new(Some(Procfile::parse("web: node server.js --port $PORT\n")), release)
    }

    fn of(words: &[&str]) -> Result<String, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let command = command(&info(), &words).map_err(|error| error.to_string())?;
        Ok(command.into_string().unwrap())
    }

    #[test]
    fn types_and_commands_become_one_text_for_the_shell() {
        assert_eq!(of(&["start", "web"]), Ok("node server.js --port $PORT".to_owned()));
        let missing = Err("no process type \"x\": there are web".to_owned());
        assert_eq!(of(&["start", "x"]), missing);
        assert_eq!(
            of(&["bash", "-c", "echo \"it's\" $HOME"]),
            Ok("bash -c 'echo \"it'\\''s\" $HOME'".to_owned())
        );
        assert_eq!(of(&["echo", ""]), Ok("echo ''".to_owned()));
        assert!(of(&[]).is_err());
    }

    #[test]
    fn the_shell_reads_quoted_words_back() {
        let words: Vec<OsString> =
            ["a b", "'", "\\'\"", "$(id)", "`x`", "~", "*", "new\nline", "ü"]
                .map(Into::into)
                .into();
        let text = format!("printf '%s\\0' {}", quoted(&words).into_string().unwrap());
        let output = Command::new("bash").args(["-c", &text]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let found: Vec<_> = printed.split_terminator('\0').map(OsString::from).collect();
        assert_eq!(found, words);
    }
}
