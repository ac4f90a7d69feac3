//! The `tidegate` program: reads the command line and the configuration, runs a command, and returns an exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use cli::{Cli, Command, Exit, ServeArgs};
use tidegate_gateway::Gateway;
use tidegate_gateway::config::{Config, Problem, RawConfig};

/// mimalloc returns freed memory to the thread that allocated it. Messages are freed by other threads than the one that
/// allocates them, and thousands of connections open and close.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_clap_error(&error).into(),
    };
    match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(args)) => serve(args),
        Some(Command::Publish(args)) => cli::publish(args),
        Some(Command::Who(args)) => cli::who(args),
        Some(Command::Presence(args)) => cli::presence(args),
        Some(Command::Kick(args)) => cli::kick(args),
        Some(Command::Send(args)) => cli::send(args),
        Some(Command::Revoke(args)) => cli::revoke(args),
        Some(Command::Dlq(args)) => cli::dlq(args),
        Some(Command::Receipts(args)) => cli::receipts(args),
        Some(Command::Token(args)) => cli::token(args),
        Some(Command::Health(args)) => cli::health(args),
        Some(Command::Drain(args)) => cli::drain(args),
    }
    .into()
}

/// Prints a message of the parser. Help and version are requested output; every other message is a usage error.
fn print_clap_error(error: &clap::Error) -> Exit {
    // A closed pipe does not change the exit code.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
        _ => Exit::Usage,
    }
}

fn serve(args: ServeArgs) -> Exit {
    let (is_print, is_check) = (args.print_config, args.check_config);
    let mut raw = RawConfig::gather(args.clone().sources());
    let config = match Config::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    if is_print {
        return Exit::Ok.telling(raw.to_toml());
    }
    let foreign = raw.foreign_variables().join(", ");
    if is_check {
        let ignored = if foreign.is_empty() { String::new() } else { format!("; ignored variables: {foreign}") };
        return Exit::Ok.telling(format_args!("the configuration is ok{ignored}\n"));
    }
    let log = cli::install_log(&config.log);
    if !foreign.is_empty() {
        tracing::info!(names = foreign, "variables ignored: they resemble no key");
    }
    let reload = |gateway: &Gateway| {
        let mut changed = RawConfig::gather(args.clone().sources());
        let config = match Config::check(&mut changed) {
            Ok(config) => config,
            Err(problems) => {
                for Problem { key, source, expected, .. } in problems.0 {
                    tracing::error!(key, %source, expected, "configuration not reloaded: the previous one stays");
                }
                return;
            }
        };
        if let Err(error) = gateway.reload(&config) {
            tracing::error!(%error, "configuration not reloaded: the previous one stays");
            return;
        }
        log.set_filter(&config.log);
        let names = changed.needs_restart(&raw).join(", ");
        if !names.is_empty() {
            tracing::warn!(names, "these keys have changed and take effect at the next start");
        }
        tracing::info!("configuration reloaded");
    };
    match tidegate_gateway::run(config, reload) {
        Ok(()) => Exit::Ok,
        Err(error) => Exit::Failure.because(error),
    }
}
