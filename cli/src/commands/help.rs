//! The list of commands, for `flynn help` and `flynn --help`.

use crate::commands::Command;

/// Usage, options and all listed commands.
pub(crate) fn overview() -> String {
    let mut text = String::from(
        "usage: flynn [-a <app>] [-c <cluster>] <command> [<args>...]\n\n\
         Options:\n    -a, --app <app>          the app, or the git remote that names it\n    \
         -c, --cluster <cluster>  the cluster, as named in ~/.flynnrc\n    \
         -h, --help               show this\n        --version            show the version\n\n\
         Commands:\n",
    );
    for command in Command::ALL.iter().filter(|command| command.is_listed()) {
        text.push_str(&format!("    {:<11} {}\n", command.name(), command.summary()));
    }
    text.push_str("\nSee 'flynn help <command>' for more information on a specific command.\n");
    text
}
