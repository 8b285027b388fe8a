//! What a cluster exports, and the resources that say so.

use std::path::PathBuf;

use clap::Args;
use portolan_zones::name::check_label;

/// Where exports are written.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The Service
    #[arg(value_name = "NAMESPACE/SERVICE", value_parser = service)]
    pub service: (String, String),
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the service account of this Pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// `portolan export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub target: Target,
    /// Label that the imports in all clusters shall have; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// `portolan unexport`
#[derive(Debug, Args)]
pub(crate) struct Unexport {
    #[command(flatten)]
    pub target: Target,
}

/// Two DNS labels, as the names of namespaces and Services are.
fn service(text: &str) -> Result<(String, String), String> {
    let (namespace, name) = text.split_once('/').ok_or("expected NAMESPACE/SERVICE, such as shop/cart")?;
    for label in [namespace, name] {
        check_label(label).map_err(|error| error.to_string())?;
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  portolan export shop/cart
  portolan export shop/cart --context fra1 --label team=checkout
  kubectl portolan export shop/cart   # the same, where the binary is in the PATH as kubectl-portolan";

pub(super) const UNEXPORT_EXAMPLES: &str = "\
Examples:
  portolan unexport shop/cart
  portolan unexport shop/cart --kubeconfig fra1.yaml";

pub(super) const CRDS_EXAMPLES: &str = "\
Examples:
  portolan crds | kubectl apply -f -";
