//! The hook and the receiver as a program of their own, for the tests: in the platform they are
//! `flynn-component` under another name.

#[tokio::main]
async fn main() {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let role = gitreceive::role(&name.to_string_lossy());
    let status = match role {
        Some(role) => gitreceive::play(role, args).await,
        None => 2,
    };
    std::process::exit(status.into());
}
