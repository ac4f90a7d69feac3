//! Finds the gateway that runs on this machine, by the process table of Linux: `tidegate health` in a container knows
//! neither the flags nor the file of the gateway beside it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::Parser as _;
use tidegate_gateway::config::{HealthConfig, RawConfig};

use super::{Cli, Command};

/// The admin address of the gateway that runs from this program file with the same `TIDEGATE_` variables, as a container
/// gives them to both. With `is_any`, one with other variables will do. `None` if there is no such gateway or more than
/// one.
pub(crate) fn admin_address(is_any: bool) -> Option<SocketAddr> {
    let program = identity(Path::new("/proc/self/exe"))?;
    let own_variables = variables(Path::new("/proc/self"));
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let gateways: Vec<_> = processes
        .filter(|process| identity(&process.join("exe")) == Some(program))
        .filter_map(|process| Some((gateway_address(&process)?, variables(&process) == own_variables)))
        .collect();
    let only = |addresses: &[SocketAddr]| if let [address] = addresses { Some(*address) } else { None };
    let alike: Vec<_> = gateways.iter().filter(|(_, is_alike)| *is_alike).map(|(address, _)| *address).collect();
    let all: Vec<_> = gateways.iter().map(|(address, _)| *address).collect();
    only(&alike).or_else(|| if is_any { only(&all) } else { None })
}

/// Device and number of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The admin address that a process was told, if it is a gateway. A port that the system has chosen is not known.
fn gateway_address(process: &Path) -> Option<SocketAddr> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let words =
        line.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let cli = Cli::try_parse_from(words).ok()?;
    let args = match cli.command {
        None => cli.serve,
        Some(Command::Serve(args)) => args,
        Some(_) => return None,
    };
    if args.print_config || args.check_config {
        return None;
    }
    let mut sources = args.sources();
    sources.environment = variables(process);
    let folder = fs::read_link(process.join("cwd")).unwrap_or_default();
    sources.file = sources.file.map(|file| folder.join(file));
    if let Some((_, file)) = sources.environment.iter_mut().find(|(name, _)| name == "TIDEGATE_CONFIG") {
        *file = folder.join(&*file).to_string_lossy().into_owned();
    }
    let config = HealthConfig::check(&RawConfig::gather(sources)).ok()?;
    (config.admin_listen.port() != 0).then_some(config.admin_listen)
}

/// The `TIDEGATE_` variables of a process, sorted. None where they may not be read.
fn variables(process: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(process.join("environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    let own = pairs.filter(|(name, value)| name.starts_with("TIDEGATE_") && !value.is_empty());
    let mut variables: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.sort();
    variables
}
