//! Clusters of the configuration, and their kubeconfig files: read again and again, for credentials are renewed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Said;
use crate::kubernetes::access::read;
use crate::kubernetes::{Access, PeerConfig};

/// How often files are looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(2);
/// Fields of a cluster or user that name a file, and those that hold what would be in it.
const FIELDS: [(&str, &str); 4] = [
    ("certificate-authority", "certificate-authority-data"),
    ("client-certificate", "client-certificate-data"),
    ("client-key", "client-key-data"),
    ("tokenFile", "token"),
];

/// A configured cluster with what its file holds now, or why that can't be read.
#[derive(Clone, PartialEq)]
pub(super) struct File {
    pub(super) config: PeerConfig,
    pub(super) access: Result<Access, String>,
}

/// Tells what the files hold: at once, and when that has changed.
pub(super) async fn follow(configured: Vec<PeerConfig>, say: mpsc::Sender<Said>) {
    let fixed = configured.iter().all(|config| !matches!(config.access, Access::File { .. }));
    let mut last = None;
    loop {
        let configs = configured.clone();
        let files = tokio::task::spawn_blocking(|| configs.into_iter().map(look).collect::<Vec<_>>());
        if let Ok(files) = files.await
            && last.as_ref() != Some(&files)
        {
            last = Some(files.clone());
            if say.send(Said::Files(files)).await.is_err() {
                return;
            }
        }
        if fixed {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub(super) fn look(config: PeerConfig) -> File {
    let access = match &config.access {
        Access::File { path, context, allow_exec } => {
            let (context, allow_exec) = (context.clone(), *allow_exec);
            whole(path, context.as_deref()).map(|yaml| Access::Kubeconfig { yaml, context, allow_exec })
        }
        other => Ok(other.clone()),
    };
    File { config, access }
}

/// The kubeconfig with one context only, and the content of the files that it names in the place of their names: it
/// differs whenever any of them does. As `kubectl config view --minify --flatten --raw` prints it.
fn whole(path: &Path, context: Option<&str>) -> Result<Arc<str>, String> {
    let kubeconfig = read(path).map_err(|error| error.to_string())?;
    let mut all =
        serde_json::to_value(&kubeconfig).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = context.or(kubeconfig.current_context.as_deref()).unwrap_or_default().to_owned();
    keep(&mut all, "contexts", &name);
    let chosen = all.pointer("/contexts/0/context").cloned().unwrap_or_default();
    for (list, entry) in [("clusters", "cluster"), ("users", "user")] {
        keep(&mut all, list, chosen.get(entry).and_then(Value::as_str).unwrap_or_default());
        if let Some(fields) = all.pointer_mut(&format!("/{list}/0/{entry}")).and_then(Value::as_object_mut) {
            inline(fields)?;
        }
    }
    Ok(all.to_string().into())
}

/// Leaves only the entry of this name. When there is none, all stay, for the error that tells what there is.
fn keep(all: &mut Value, list: &str, name: &str) {
    if let Some(entries) = all.get_mut(list).and_then(Value::as_array_mut)
        && let Some(found) = entries.iter().position(|entry| entry["name"] == name)
    {
        let entry = entries.swap_remove(found);
        *entries = vec![entry];
    }
}

fn inline(fields: &mut Map<String, Value>) -> Result<(), String> {
    for (name, content) in FIELDS {
        let Some(Value::String(path)) = fields.remove(name) else { continue };
        // What is given itself counts more than a file.
        if fields.contains_key(content) {
            continue;
        }
        let bytes =
            std::fs::read(&path).map_err(|error| format!("{path} ({name}) can't be read: {error}"))?;
        let value = if name == "tokenFile" {
            String::from_utf8(bytes)
                .map(|token| token.trim().into())
                .map_err(|_| format!("{path} is no text"))?
        } else {
            serde_json::to_value(ByteString(bytes)).map_err(|error| format!("{path} ({name}): {error}"))?
        };
        fields.insert(content.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::{Origin, Pinned};

    const CONFIG: &str = "
current-context: west
contexts:
- {name: west, context: {cluster: w, user: w}}
- {name: east, context: {cluster: e, user: e}}
clusters:
- {name: e, cluster: {server: 'https://127.0.0.1:2'}}
- {name: w, cluster: {server: 'https://127.0.0.1:1', certificate-authority: ca.pem}}
users:
- {name: e, user: {tokenFile: nowhere}}
- {name: w, user: {tokenFile: token}}
";

    fn config(path: &Path, context: &str) -> PeerConfig {
        PeerConfig {
            name: context.to_owned(),
            origin: Origin::Kubeconfig,
            access: Access::File { path: path.into(), context: Some(context.to_owned()), allow_exec: false },
            id: None,
            pinned: Pinned::default(),
            network: Arc::default(),
            labels: Box::default(),
            namespaces: None,
            stale_after: EVERY,
            withdraw_after: None,
        }
    }

    /// A token or certificate that is renewed in a file of its own is a change, as is one of the kubeconfig; what is
    /// wrong with another context of the file is not.
    #[test]
    fn a_kubeconfig_is_all_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let path = folder.path().join("config");
        for (name, text) in [("config", CONFIG), ("ca.pem", "CA"), ("token", "t1\n")] {
            write(name, text);
        }
        let west = || look(config(&path, "west")).access;
        let first = west().unwrap();
        assert_eq!(first.verify(), Ok(()), "it needs no files any more");
        let Access::Kubeconfig { yaml, .. } = &first else { panic!("{first:?}") };
        assert!(yaml.contains(r#""token":"t1""#) && yaml.contains(r#""certificate-authority-data":"Q0E=""#));
        assert!(!yaml.contains("127.0.0.1:2"), "{yaml}");
        assert_eq!(west(), Ok(first.clone()), "nothing has changed");

        write("token", "t2");
        let second = west().unwrap();
        assert_ne!(second, first);
        write("ca.pem", "CB");
        assert_ne!(west().unwrap(), second);

        let east = look(config(&path, "east")).access.unwrap_err();
        assert!(east.contains("nowhere (tokenFile) can't be read"), "{east}");
        let north = look(config(&path, "north")).access.unwrap().verify().unwrap_err().to_string();
        assert!(north.contains("no context `north`: it has west, east"), "{north}");
        write("config", "users: [");
        assert!(west().unwrap_err().contains("is no kubeconfig"));
    }
}
