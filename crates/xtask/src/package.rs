//! The programs that the lanes need, and the Debian packages that contain them.

use crate::failure::Failure;
use crate::program::find;
use crate::step::Step;

/// A program and the packages to install if it is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) program: &'static str,
    /// Names for `apt-get install`. Most other systems use similar names.
    pub(crate) packages: &'static [&'static str],
}

pub(crate) const REDIS: Need = Need { program: "redis-server", packages: &["redis-server"] };
pub(crate) const NFT: Need = Need { program: "nft", packages: &["nftables"] };
pub(crate) const IP: Need = Need { program: "ip", packages: &["iproute2"] };
pub(crate) const FAKETIME: Need = Need { program: "faketime", packages: &["faketime"] };
pub(crate) const HAPROXY: Need = Need { program: "haproxy", packages: &["haproxy"] };
pub(crate) const PYTHON: Need = Need { program: "python3", packages: &["python3", "python3-venv"] };
pub(crate) const NODE: Need = Need { program: "node", packages: &["nodejs"] };
pub(crate) const NPM: Need = Need { program: "npm", packages: &["npm"] };
pub(crate) const GO: Need = Need { program: "go", packages: &["golang-go"] };
pub(crate) const CHROMIUM: Need = Need { program: "chromium", packages: &["chromium"] };
/// It brings promtool too.
pub(crate) const PROMETHEUS: Need = Need { program: "prometheus", packages: &["prometheus"] };
/// It brings amtool too.
pub(crate) const ALERTMANAGER: Need =
    Need { program: "prometheus-alertmanager", packages: &["prometheus-alertmanager"] };
pub(crate) const REDIS_EXPORTER: Need =
    Need { program: "prometheus-redis-exporter", packages: &["prometheus-redis-exporter"] };
pub(crate) const COMPOSE: Need = Need { program: "docker-compose", packages: &["docker-compose"] };

/// Installs every missing program, or names the packages to install.
pub(crate) fn ensure(needs: &[Need]) -> Result<(), Failure> {
    let missing: Vec<&Need> = needs.iter().filter(|need| find(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    install(&packages)?;
    match needs.iter().find(|need| find(need.program).is_none()) {
        None => Ok(()),
        Some(need) => {
            Err(Failure::new(format!("{:?} is installed, and still there is no `{}`", need.packages, need.program)))
        }
    }
}

/// Installs Debian packages if this user may. Otherwise it fails and prints the command to type.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    let line = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        return Err(Failure::new(format!(
            "please install: {} (Debian's names; there is no apt-get here)",
            packages.join(" ")
        )));
    }
    if Step::new("id").args(["-u"]).answer()?.trim() != "0" {
        return Err(Failure::new(format!("please install what is missing, as root: {line}")));
    }
    // RUNLEVEL=1 prevents the packages from starting their daemons. The tests start their own servers on free ports.
    let apt = || Step::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    apt().args(["update", "--quiet"]).run()?;
    apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(packages).run()
}
