//! `deploy/aws`: what AWS Batch asks of a container, and the templates, as far as they can be tried without an account: by
//! cfn-lint, by an evaluation of their policies, and in an account that moto makes up.

mod account;
mod contract;
mod ends;
mod page;
mod policies;
mod policy;
mod production;
mod scaling;
mod stack;
mod template;
mod vhost;

use std::path::PathBuf;

/// Options of a plan whose inputs are in the bucket `results`.
const ON_S3: [&str; 10] = [
    "--config",
    "s3://results/config.yaml",
    "--source",
    "s3://results/run",
    "--grid",
    "s3://results/grid",
    "--mapping-factors",
    "s3://results/factors/",
    "--metadata",
    "s3://results/metadata",
];

/// Returns the directory of the programs python3, aws, cfn-lint and moto_server, beside the Python that `EDP_AWS` names.
fn tools() -> Option<PathBuf> {
    let python = std::env::var_os("EDP_AWS").map(PathBuf::from);
    if python.is_none() {
        edp_tests::not_run("EDP_AWS names no Python with cfn-lint, moto and the AWS command line; `make test` sets it");
    }
    Some(python?.parent()?.to_owned())
}
