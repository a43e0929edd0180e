//! The program from its words to its exit status.

use crate::arguments::Invocation;
use crate::commands::Command;
use crate::context::{Context, Streams};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::target::Wanted;

/// Runs one invocation. `words` do not include the program's own name.
pub async fn run<'a>(words: Vec<String>, environment: &'a Environment, streams: Streams<'a>) -> u8 {
    let invocation = match Invocation::parse(words) {
        Ok(invocation) => invocation,
        Err(answer) => {
            let _ = streams.out.write_all(answer.text.as_bytes());
            return answer.status;
        }
    };
    let wanted = Wanted {
        app: invocation.app.or_else(|| environment.app.clone()),
        cluster: invocation.cluster.or_else(|| environment.cluster.clone()),
    };
    let mut context = Context { environment, wanted, streams };
    match dispatch(&invocation.command, &invocation.rest, &mut context).await {
        Ok(()) => 0,
        Err(failure) => {
            if let Some(message) = failure.message() {
                let _ = context.tell(message);
            }
            failure.status()
        }
    }
}

async fn dispatch(name: &str, rest: &[String], context: &mut Context<'_>) -> Outcome {
    let Some(command) = Command::named(name) else {
        return Err(Failure::said(format!("{name} is not a flynn command. See 'flynn help'")));
    };
    command.run(rest, context).await
}
