//! From the command line to a configuration: the file, or a folder of manifests, or both.

use std::path::PathBuf;

use portolan_config::Problem;

use crate::cli::{DEFAULT_CONFIG, Own, Source};
use crate::config::Config;

impl Source {
    /// The configuration file, if one is read: a folder of manifests alone needs none.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.file_for(&Own::default())
    }

    /// The same for a process that is told its cluster: that needs no file either.
    pub(crate) fn file_for(&self, own: &Own) -> Option<PathBuf> {
        let default = || (self.manifests.is_none() && !own.is_given()).then(|| DEFAULT_CONFIG.into());
        self.config.clone().or_else(default)
    }

    /// Reads what is asked for.
    pub(crate) fn load(&self) -> Result<Config, Vec<Problem>> {
        self.load_for(&Own::default())
    }

    /// The same for a process that is told its cluster.
    pub(crate) fn load_for(&self, own: &Own) -> Result<Config, Vec<Problem>> {
        let file = self.file_for(own);
        let mut config = match &file {
            Some(file) => Config::load(file, self.state_directory.as_deref())?,
            None => trial(),
        };
        if let Some(folder) = &self.manifests {
            config.clusterset.clusters =
                portolan_config::manifests_in(folder).map_err(|problem| vec![problem])?;
            config.clusterset.peers.clear();
        }
        if own.is_given() {
            config.clusterset.run_for(own.kubeconfig.clone(), own.context.clone());
        }
        let of = &config.clusterset;
        if of.clusters.is_empty() && of.peers.is_empty() && of.own.is_none() {
            let message = "there is no cluster: list them as `clusters`, name the one that this process runs for as \
                           `kubernetes`, or give --manifests DIR";
            return Err(vec![Problem::of_file(&file.unwrap_or_default(), message)]);
        }
        Ok(config)
    }

    /// What the configuration file had better say. A trial without a file gets no advice about it.
    pub(crate) fn warnings(&self, config: &Config) -> Vec<String> {
        self.warnings_for(&Own::default(), config)
    }

    /// The same for a process that is told its cluster.
    pub(crate) fn warnings_for(&self, own: &Own, config: &Config) -> Vec<String> {
        self.file_for(own).map(|_| config.warnings()).unwrap_or_default()
    }

    /// [`Source::load`] for commands that read manifests once, and can only go on or end.
    pub(crate) fn load_manifests(&self) -> anyhow::Result<Config> {
        let config = self.load().map_err(|problems| failure(&problems))?;
        if config.clusterset.clusters.is_empty() {
            anyhow::bail!(
                "all clusters of the configuration are behind API servers, which only a running server follows: ask it \
                 by dig, or give --manifests DIR"
            );
        }
        Ok(config)
    }
}

/// Everything that is wrong, as one error.
pub(crate) fn failure(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration is wrong:\n{}", lines.join("\n"))
}

/// Without a file nothing is written either: VIPs are not remembered.
fn trial() -> Config {
    let mut config = Config::default();
    config.clusterset.vips.state_file = None;
    config
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn source(config: Option<&Path>, manifests: Option<&Path>) -> Source {
        Source {
            config: config.map(Path::to_owned),
            manifests: manifests.map(Path::to_owned),
            state_directory: None,
        }
    }

    #[test]
    fn a_folder_of_folders_is_a_clusterset_that_remembers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokyo", "paris", ".git"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("README.md"), "").unwrap();
        let config = source(None, Some(folder.path())).load().unwrap();
        let manifests: Vec<_> =
            config.clusterset.clusters.iter().map(|cluster| cluster.path.clone()).collect();
        assert_eq!(manifests, ["paris", "tokyo"].map(|name| folder.path().join(name)));
        assert_eq!(config.clusterset.vips.state_file, None);
    }

    #[test]
    fn a_folder_takes_the_place_of_the_files_clusters() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("clusters/paris")).unwrap();
        let file = folder.path().join("portolan.yaml");
        std::fs::write(&file, "version: v1\nmax-endpoints: 3\nclusters: [{manifests: other}]").unwrap();
        let config = source(Some(&file), Some(&folder.path().join("clusters"))).load().unwrap();
        assert_eq!((config.clusterset.max_endpoints, config.clusterset.clusters.len()), (3, 1));
        assert!(config.clusterset.clusters[0].path.ends_with("clusters/paris"));
        assert_eq!(config.clusterset.vips.state_file, Some(folder.path().join("vips.json")));
        let state = Some("/var/lib/portolan".into());
        let config = Source { config: Some(file), manifests: None, state_directory: state }.load().unwrap();
        assert_eq!(
            config.clusterset.vips.state_file,
            Some("/var/lib/portolan/vips.json".into()),
            "systemd.exec(5)"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portolan.yaml");
        std::fs::write(&file, "version: v1").unwrap();
        for (source, expected) in [
            (source(None, Some(folder.path())), "has no subfolder"),
            (source(None, Some(&folder.path().join("none"))), "cannot be read"),
            (source(Some(&file), None), "there is no cluster"),
            (source(Some(folder.path()), None), "cannot be read"),
        ] {
            let problems = source.load().unwrap_err();
            assert!(problems[0].to_string().contains(expected), "{problems:?}");
        }
    }

    /// The samples are what newcomers copy.
    #[test]
    fn the_samples_are_valid() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zones/samples");
        let files: Vec<_> = std::fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 5);
        for folder in files {
            let config = source(Some(&folder.join("portolan.yaml")), None).load();
            assert!(config.is_ok(), "{config:?}");
        }
    }
}
