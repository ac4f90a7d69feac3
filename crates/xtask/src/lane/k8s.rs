//! Lane `k8s`: deploy/k8s, without a cluster. The manifests by schemas and by rules of ours, the autoscaler by a model, and
//! the scripts of Redis and HAProxy's file with real servers.

use std::fs;

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, python, workspace};

/// The directory of the tests and their requirements.txt.
const TESTS: &str = "deploy/k8s/tests";

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::GO, package::REDIS, package::HAPROXY])?;
    let tests = workspace::root().join(TESTS);
    let text =
        fs::read_to_string(tests.join("requirements.txt")).map_err(Failure::during("reading requirements.txt"))?;
    let requirements: Vec<&str> = text.lines().collect();
    let python = python::with(&requirements, &workspace::target().join("k8s/venv"))?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls"]).run()?;
    Step::new(python)
        .args(["-B".as_ref(), tests.join("run.py").as_os_str()])
        // The name does not begin with TIDEGATE_: a gateway that the tests start would refuse an unknown TIDEGATE_
        // variable.
        .env("GATEWAY_BINARY", workspace::target().join("debug/tidegate"))
        .run()
}
