//! From an [`Access`] to a client.
//!
//! A kubeconfig may come out of a Secret that somebody else wrote: what would read our files or run a program is
//! refused. No error tells any of a kubeconfig's content but names of its entries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use kube::Client;
use kube::config::{AuthInfo, Cluster, Config, ExecConfig, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::sync::watch;

use super::bounds::bounded;
use super::{Access, program};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch may be silent for longer than a minute, and is asked for anew before this.
const READ: Duration = Duration::from_secs(170);
/// Characters of a text that a server wrote.
const LONGEST_TEXT: usize = 300;

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not in a pod, or its service account is not mounted.
    #[error("no service account of a pod: {0}; give a kubeconfig when this runs outside of the cluster")]
    InCluster(String),
    /// There are no credentials.
    #[error("{0}")]
    Missing(String),
    /// A file is missing, or may not be read.
    #[error("{} can't be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// No YAML, or not of this form.
    #[error("{what} is no kubeconfig{}: see kubectl config view", line.map(|l| format!(" (line {l})")).unwrap_or_default())]
    Malformed {
        /// Where it comes from.
        what: String,
        /// The line that can't be read.
        line: Option<u64>,
    },
    /// There is no such context, or it has no cluster.
    #[error("{what} has no context {}: it has {known}", context.as_ref().map_or("that is current".to_owned(), |c| format!("`{c}`")))]
    NoContext {
        /// Where it comes from.
        what: String,
        /// What was asked for.
        context: Option<String>,
        /// All that there are.
        known: String,
    },
    /// A program would have to be run.
    #[error(
        "user `{user}` of {what} runs a program for its credentials (exec), which is not allowed: \
         allow it (allowExec, allow-exec), or use a token or a client certificate"
    )]
    Exec {
        /// Where it comes from.
        what: String,
        /// The entry of `users`.
        user: String,
    },
    /// The program failed, or took too long.
    #[error("the program for the credentials of {what} gives none: {error}")]
    Program {
        /// Where it comes from.
        what: String,
        /// What happened, without anything that the program printed for us.
        error: String,
    },
    /// A kubeconfig out of a Secret names files.
    #[error("{what} names a file ({field}), which would be ours: put its content into {field}-data or token")]
    NamesFile {
        /// Where it comes from.
        what: String,
        /// The field.
        field: &'static str,
    },
    /// Something that is not supported.
    #[error("{what} has {field}, which is not supported: {instead}")]
    Unsupported {
        /// Where it comes from.
        what: String,
        /// The field.
        field: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// An address, a certificate or a key that makes no sense.
    #[error("{what} is of no use: {error}")]
    Unusable {
        /// Where it comes from.
        what: String,
        /// What is wrong.
        error: String,
    },
}

impl Access {
    /// A client with limits of time that suit watches, and of what it takes in.
    pub(crate) async fn client(&self) -> Result<Client, AccessError> {
        Ok(self.clients().await?.0)
    }

    /// Two such clients, which have connections of their own and the same credentials.
    pub(crate) async fn clients(&self) -> Result<(Client, Client), AccessError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(READ);
        config.reset_reader_on_write = true;
        // Who asks knows when to ask again.
        config.default_retry = false;
        let bearer = match config.auth_info.exec.take() {
            Some(exec) => self.run(exec, &mut config.auth_info).await?,
            None => None,
        };
        let unusable = |error: kube::Error| AccessError::Unusable { what: self.what(), error: tell(&error) };
        let client = || {
            let client = Client::try_from(config.clone()).map_err(unusable)?;
            Ok::<_, AccessError>(bounded(client, bearer.clone()))
        };
        Ok((client()?, client()?))
    }

    /// Gets credentials from a program: a certificate goes into `auth`, a token into the header that is returned.
    async fn run(
        &self,
        exec: ExecConfig,
        auth: &mut AuthInfo,
    ) -> Result<Option<watch::Receiver<HeaderValue>>, AccessError> {
        let credential = program::run(&exec, program::DEADLINE).await;
        let credential = credential.map_err(|error| AccessError::Program { what: self.what(), error })?;
        if let (Some(certificate), Some(key)) = credential.certificate() {
            auth.client_certificate_data = Some(certificate);
            auth.client_key_data = Some(key.into());
        }
        Ok(credential.bearer(exec))
    }

    /// Whether it can be read and is to be trusted, as far as that can be told without asking anybody.
    pub(crate) fn verify(&self) -> Result<(), AccessError> {
        self.kubeconfig().map(|_| ())
    }

    /// Says what is wrong with it before anybody is asked: files are read, and nothing is contacted or run.
    pub async fn check_config(&self) -> Result<(), AccessError> {
        self.config().await.map(drop)
    }

    async fn config(&self) -> Result<Config, AccessError> {
        if *self == Self::InCluster {
            return Config::incluster().map_err(|error| AccessError::InCluster(chain(&error)));
        }
        let (kubeconfig, context) = self.kubeconfig()?;
        let options = KubeConfigOptions { context: context.cloned(), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let mut config = config.map_err(|error| refused(self.what(), &error))?;
        // Only the environment can have set one: it is meant for traffic that leaves the site.
        config.proxy_url = None;
        Ok(config)
    }

    /// The kubeconfig, checked, and the context that is wanted.
    fn kubeconfig(&self) -> Result<(Kubeconfig, Option<&String>), AccessError> {
        let (kubeconfig, context, allow_exec) = match self {
            // The service account says it all.
            Self::InCluster => return Ok((Kubeconfig::default(), None)),
            Self::Unknown { problem } => return Err(AccessError::Missing(problem.to_string())),
            Self::File { path, context, allow_exec } => (read(path)?, context, *allow_exec),
            Self::Kubeconfig { yaml, context, allow_exec } => {
                let kubeconfig = Kubeconfig::from_yaml(yaml).map_err(|error| refused(self.what(), &error))?;
                (kubeconfig, context, *allow_exec)
            }
        };
        self.check(&kubeconfig, context.as_deref(), allow_exec)?;
        Ok((kubeconfig, context.as_ref()))
    }

    /// Refuses what is not to be trusted or can't be done.
    fn check(&self, all: &Kubeconfig, context: Option<&str>, allow_exec: bool) -> Result<(), AccessError> {
        let none = || AccessError::NoContext {
            what: self.what(),
            context: context.map(str::to_owned),
            known: list(all.contexts.iter().map(|named| &*named.name)),
        };
        let wanted = context.or(all.current_context.as_deref()).ok_or_else(none)?;
        let context = all.contexts.iter().find(|named| named.name == wanted).ok_or_else(none)?;
        let context = context.context.as_ref().ok_or_else(none)?;
        let cluster = all.clusters.iter().find(|named| named.name == context.cluster);
        let cluster = cluster.and_then(|named| named.cluster.as_ref()).ok_or_else(none)?;
        let user = all.auth_infos.iter().find(|named| Some(&named.name) == context.user.as_ref());
        let unsupported = |field, instead| AccessError::Unsupported { what: self.what(), field, instead };
        if cluster.proxy_url.is_some() {
            return Err(unsupported("proxy-url", "let the API server be reached directly"));
        }
        let Some((user, auth)) = user.and_then(|named| Some((&named.name, named.auth_info.as_ref()?))) else {
            return self.check_files(cluster, &AuthInfo::default());
        };
        if auth.exec.is_some() && !allow_exec {
            return Err(AccessError::Exec { what: self.what(), user: user.clone() });
        }
        if auth.auth_provider.is_some() {
            return Err(unsupported("auth-provider", "use exec, a token or a client certificate"));
        }
        self.check_files(cluster, auth)
    }

    /// The author of a Secret must not have our files sent to a server of their choice.
    fn check_files(&self, cluster: &Cluster, auth: &AuthInfo) -> Result<(), AccessError> {
        if !matches!(self, Self::Kubeconfig { .. }) {
            return Ok(());
        }
        let fields = [
            ("certificate-authority", cluster.certificate_authority.is_some()),
            ("client-certificate", auth.client_certificate.is_some()),
            ("client-key", auth.client_key.is_some()),
            ("tokenFile", auth.token_file.is_some()),
        ];
        match fields.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(AccessError::NamesFile { what: self.what(), field }),
            None => Ok(()),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::InCluster => "the service account".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
            Self::Kubeconfig { .. } | Self::Unknown { .. } => "the kubeconfig".to_owned(),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Kubeconfig, AccessError> {
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, path) => {
            AccessError::Unreadable { path, error: error.to_string() }
        }
        other => refused(path.display().to_string(), &other),
    })
}

/// Parsers quote the text in their errors, and there are credentials in it.
fn refused(what: String, error: &KubeconfigError) -> AccessError {
    match error {
        KubeconfigError::Parse(error) => {
            let line =
                error.locations().and_then(serde_saphyr::Locations::primary_location).map(|at| at.line());
            AccessError::Malformed { what, line }
        }
        KubeconfigError::ParseClusterUrl(_) => {
            AccessError::Unusable { what, error: "its server is no URL".to_owned() }
        }
        other => AccessError::Unusable { what, error: chain(other) },
    }
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What went wrong with a request, for people: the server's own words if there are some.
///
/// Whoever names a server can have us ask anything that answers HTTP: of what is no Kubernetes answer only the code is
/// told.
pub(crate) fn tell(error: &kube::Error) -> String {
    match error {
        // kube puts the body of such an answer into the message; an answer in another JSON has no code.
        kube::Error::Api(status) if status.code == 0 || status.reason == "Failed to parse error data" => {
            let code = if status.code == 0 { String::new() } else { format!(" {}", status.code) };
            format!("the answer{code} is none that Kubernetes gives: is this its API server?")
        }
        kube::Error::Api(status) if status.message.trim().is_empty() => {
            plain(format!("the server answers {} {}", status.code, status.reason).trim_end())
        }
        kube::Error::Api(status) => plain(status.message.trim_end()),
        // A body that failed is that of a client around another.
        kube::Error::Service(error) => match error.downcast_ref::<kube::Error>() {
            Some(inner) => tell(inner),
            None => plain(&chain(&**error)),
        },
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            "the answer is none that Kubernetes gives: is this its API server?".to_owned()
        }
        other => plain(&chain(other)),
    }
}

/// A text of somebody else's: one line of bounded length, without control characters.
pub(crate) fn plain(text: &str) -> String {
    let mut plain: String = text.chars().take(LONGEST_TEXT).flat_map(printable).collect();
    if text.chars().nth(LONGEST_TEXT).is_some() {
        plain.push('…');
    }
    plain
}

fn printable(c: char) -> impl Iterator<Item = char> {
    // Also what turns the direction of writing, so that a line reads other than it is.
    let hidden = c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = hidden.then(|| c.escape_default());
    escaped.into_iter().flatten().chain((!hidden).then_some(c))
}

/// An error with what caused it; libraries often tell only that something failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const CONFIG: &str = "
apiVersion: v1
kind: Config
current-context: west
contexts:
- {name: west, context: {cluster: west, user: west}}
clusters:
- {name: west, cluster: {server: 'https://127.0.0.1:1', CLUSTER}}
users:
- {name: west, user: {token: s3cr3t, USER}}
";

    fn inline(cluster: &str, user: &str, context: Option<&str>) -> Access {
        let yaml = CONFIG.replace("CLUSTER", cluster).replace("USER", user);
        Access::Kubeconfig { yaml: yaml.into(), context: context.map(str::to_owned), allow_exec: false }
    }

    /// What a kubeconfig says is only trusted as far as it goes to its own server with its own credentials.
    #[tokio::test]
    async fn refuses_what_is_not_to_be_trusted_and_says_why() {
        let exec =
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}";
        let cases = [
            (inline("", "", None), ""),
            (inline("", "", Some("east")), "no context `east`: it has west"),
            (inline("", exec, None), "user `west` of the kubeconfig runs a program"),
            (inline("", "tokenFile: /etc/token", None), "names a file (tokenFile)"),
            (inline("certificate-authority: ca.pem", "", None), "names a file (certificate-authority)"),
            (inline("proxy-url: 'http://127.0.0.1:2'", "", None), "proxy-url, which is not supported"),
            (
                Access::File { path: "/nowhere".into(), context: None, allow_exec: false },
                "/nowhere can't be read",
            ),
        ];
        for (access, expected) in cases {
            let text = access.client().await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(expected) && text.is_empty() == expected.is_empty(), "{access:?}: {text}");
        }
    }

    /// Whoever names a server can make us ask anything that speaks HTTP, and read here what it says.
    #[test]
    fn what_a_server_says_is_told_in_one_line_and_only_if_it_is_kubernetes() {
        let api = |code, reason: &str, message: &str| {
            let status = kube::core::Status::failure(message, reason).with_code(code);
            tell(&kube::Error::Api(Box::new(status)))
        };
        let strange =
            |code| format!("the answer{code} is none that Kubernetes gives: is this its API server?");
        assert_eq!(api(403, "Forbidden", "pods is forbidden"), "pods is forbidden");
        assert_eq!(api(503, "Unavailable", " "), "the server answers 503 Unavailable");
        assert_eq!(api(404, "Failed to parse error data", "<html>s3cr3t"), strange(" 404"));
        assert_eq!(api(0, "", "s3cr3t"), strange(""), "JSON of another kind");
        let wrong = serde_json::from_str::<u8>("\"s3cr3t\"").unwrap_err();
        assert_eq!(tell(&kube::Error::SerdeError(wrong)), strange(""));
        assert_eq!(api(500, "", "a\nb\u{1b}[2J\u{202e}c"), "a\\nb\\u{1b}[2J\\u{202e}c");
        let long = api(500, "", &"x".repeat(10_000));
        assert!(long.ends_with('…') && long.chars().count() == LONGEST_TEXT + 1, "{long}");
    }

    #[tokio::test]
    async fn no_error_and_no_debug_text_tells_credentials() {
        let broken = ["users: [{name: a, user: {token: s3cr3t", "s3cr3t", "users: {token: s3cr3t}"];
        for yaml in broken {
            let access = Access::Kubeconfig { yaml: Arc::from(yaml), context: None, allow_exec: false };
            let error =
                access.client().await.err().map(|error| format!("{error} {error:?}")).unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("s3cr3t"), "{error}");
            assert!(!format!("{access:?}").contains("s3cr3t"));
        }
    }
}
