//! Lane `client`: the client library in `clients/typescript`. `npm test` checks its types and runs its tests, and
//! `npm run check-package` judges the package that would be published.

use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, workspace};

const LIBRARY: &str = "clients/typescript";

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::CHROMIUM, package::REDIS, package::HAPROXY])?;
    let library = workspace::root().join(LIBRARY);
    npm::install_and_link(&library, &workspace::target().join("client"))?;
    // The tests start the same release build as a user. It is built here, where the compiler's output is visible.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    for script in ["test", "check-package"] {
        Step::new("npm")
            .args(["run", script])
            .dir(&library)
            // The name does not begin with TIDEGATE_: a gateway that the tests start would refuse an unknown TIDEGATE_
            // variable.
            .env("BROWSER_TARGET", workspace::target())
            .run()?;
    }
    Ok(())
}
