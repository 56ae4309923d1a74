//! The command line: what to do, and the exit code it ends with.
//!
//! 0 fine; 1 the configuration or an address is unusable; 2 wrong usage.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::app::{self, Options, Origin};
use crate::{config, demo};

/// A reverse proxy that forwards each request to the primary backend and copies it to mirrors.
#[derive(Parser)]
#[command(name = "mirrorgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(Run),
    /// Check a configuration file: exit 0, or 1 with every error at once.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Show the job in half a minute: a primary and a mirror in this process, traffic, endpoint churn.
    Demo {
        /// How many seconds to run; 0 is until it is stopped.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Args)]
struct Run {
    /// A configuration file, reloaded when it changes and on SIGHUP.
    #[arg(long, value_name = "FILE", required_unless_present = "listen", conflicts_with_all = ["listen", "backend", "mirror"])]
    config: Option<PathBuf>,
    /// Where to listen, such as 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS", requires = "backend")]
    listen: Vec<String>,
    /// An endpoint of the primary backend, such as http://127.0.0.1:9001; may repeat.
    #[arg(long, value_name = "URL", requires = "listen")]
    backend: Vec<String>,
    /// A mirror, such as http://127.0.0.1:9002; may repeat, each is a mirror of its own.
    #[arg(long, value_name = "URL", requires = "backend")]
    mirror: Vec<String>,
    /// How many percent of the requests the mirrors get.
    #[arg(long, value_name = "PERCENT", requires = "mirror")]
    mirror_percent: Option<f64>,
    /// Where the admin API listens, or `off`.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
    /// Time to go on accepting after SIGTERM, so that load balancers notice.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    drain_delay: Duration,
    /// What to log: error, warn, info, debug, trace, or a filter such as mirrorgate=debug.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    // clap itself exits with 2 on wrong usage.
    match Arguments::parse().command {
        Command::Run(run) => start(run),
        Command::Check { file } => check(&file),
        Command::Demo { seconds } => ended(demo::run(Duration::from_secs(seconds))),
        Command::Schema => say(&format!("{:#}", config::schema())),
    }
}

fn start(run: Run) -> ExitCode {
    let origin = match run.config {
        Some(file) => Origin::File(file),
        None => {
            let flags = config::from_flags(
                &run.listen,
                &run.backend,
                &run.mirror,
                run.mirror_percent,
                run.admin.as_deref(),
            );
            match flags {
                Ok(loaded) => Origin::Flags(Box::new(loaded)),
                Err(errors) => return fail(&errors.to_string()),
            }
        }
    };
    ended(app::run(Options { origin, drain_delay: run.drain_delay, log: run.log }))
}

fn check(file: &std::path::Path) -> ExitCode {
    match config::load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            let unusable = app::unusable_files(&loaded.plan);
            if !unusable.is_empty() {
                let lines: Vec<_> =
                    unusable.iter().map(|line| format!("{}: {line}", file.display())).collect();
                return fail(&lines.join("\n"));
            }
            say(&format!("{}: ok, {}", file.display(), app::summary(&loaded.plan)))
        }
        Err(errors) => fail(&errors.to_string()),
    }
}

fn ended<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{}", text.trim_end());
    ExitCode::from(1)
}

fn say(text: &str) -> ExitCode {
    // A reader that has seen enough (`| head`) is no failure of ours.
    let _closed = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}
