//! Credentials from a program (a kubeconfig's `exec`): run by us, for kube would let one that hangs keep a thread for ever.
//!
//! A program that is due again is run beside the requests, which go on with what they have.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use k8s_openapi::ByteString;
use kube::config::ExecConfig;
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::access::plain;

/// How long a program may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// A token is replaced so long before it expires.
const AHEAD: Duration = Duration::from_secs(60);
/// Between two runs, at least.
const PAUSE: Duration = Duration::from_secs(10);

/// What a program printed (client.authentication.k8s.io, `ExecCredentialStatus`). Never printed by us.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credential {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct Printed {
    status: Credential,
}

impl Credential {
    /// The certificate and its key, in base64 as kubeconfigs have them.
    pub(crate) fn certificate(&self) -> (Option<String>, Option<String>) {
        let encode = |pem: &Option<String>| {
            let encoded = serde_json::to_value(ByteString(pem.as_ref()?.clone().into_bytes())).ok()?;
            Some(encoded.as_str()?.to_owned())
        };
        (encode(&self.client_certificate_data), encode(&self.client_key_data))
    }

    fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::try_from(format!("Bearer {}", self.token.as_ref()?)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// When it has to be replaced, from now; `None`: never.
    fn due(&self) -> Option<Duration> {
        let end = SystemTime::from(self.expiration_timestamp?);
        let rest = end.duration_since(SystemTime::now()).unwrap_or_default();
        Some(rest.saturating_sub(AHEAD).max(PAUSE))
    }

    /// The header of each request, as it is at the time, if it has a token; renewed until nobody looks at it any more.
    pub(crate) fn bearer(self, exec: ExecConfig) -> Option<watch::Receiver<HeaderValue>> {
        let (sender, header) = watch::channel(self.header()?);
        if let Some(due) = self.due() {
            tokio::spawn(renew(exec, due, sender));
        }
        Some(header)
    }
}

/// Runs the program whenever its token is due. Where it fails, requests go on with the old one until they are refused.
async fn renew(exec: ExecConfig, mut due: Duration, header: watch::Sender<HeaderValue>) {
    loop {
        tokio::select! {
            () = sleep(due) => {}
            () = header.closed() => return,
        }
        due = PAUSE;
        if let Ok(credential) = run(&exec, DEADLINE).await
            && let Some(new) = credential.header()
        {
            header.send_replace(new);
            let Some(next) = credential.due() else { return };
            due = next;
        }
    }
}

/// Runs a program once; one that takes too long is ended.
pub(crate) async fn run(exec: &ExecConfig, deadline: Duration) -> Result<Credential, String> {
    let name = exec.command.as_deref().ok_or("exec has no command")?;
    let mut spec = serde_json::json!({ "interactive": false });
    if exec.provide_cluster_info {
        spec["cluster"] = serde_json::to_value(&exec.cluster).map_err(|error| error.to_string())?;
    }
    let asked = serde_json::json!({
        "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec,
    });
    let variables = exec.env.iter().flatten().filter_map(|one| Some((one.get("name")?, one.get("value")?)));
    let mut command = Command::new(name);
    command
        .args(exec.args.iter().flatten())
        .envs(variables)
        .env("KUBERNETES_EXEC_INFO", asked.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout(deadline, command.output()).await {
        Err(_) => return Err(format!("`{name}` has not ended after {} s", deadline.as_secs_f32())),
        Ok(output) => output.map_err(|error| format!("`{name}` can't be run: {error}"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name}` failed ({}): {}", output.status, plain(said.trim())));
    }
    // What it printed has credentials in it, and is not quoted.
    let printed = serde_json::from_slice::<Printed>(&output.stdout);
    Ok(printed.map_err(|_| format!("`{name}` prints no ExecCredential with a status"))?.status)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> ExecConfig {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", script],
            "env": [{ "name": "TOKEN", "value": "s3cr3t" }],
        }))
        .unwrap()
    }

    /// On one thread: a program that hangs keeps nobody else from working, and is ended.
    #[tokio::test]
    async fn a_program_that_hangs_is_ended_and_stops_nobody() {
        let began = Instant::now();
        let exec = shell("sleep 60");
        let running = run(&exec, Duration::from_millis(500));
        let mut beats = 0;
        let beat = async {
            loop {
                sleep(Duration::from_millis(20)).await;
                beats += 1;
            }
        };
        let error = tokio::select! { result = running => result.err(), () = beat => None };
        assert_eq!(error.unwrap(), "`sh` has not ended after 0.5 s");
        assert!(began.elapsed() < Duration::from_secs(30) && beats > 2, "{beats} in {:?}", began.elapsed());
    }

    /// client.authentication.k8s.io/v1: the program is told what is asked for, and prints a credential.
    #[tokio::test]
    async fn a_program_prints_a_token_that_is_sent() {
        let script = r#"case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) echo "{\"status\": {\"token\": \"$TOKEN\"}}";; esac"#;
        let credential = run(&shell(script), DEADLINE).await.ok().unwrap();
        assert_eq!(credential.due(), None, "it does not say that it expires");
        let header = credential.bearer(shell(script)).unwrap();
        assert_eq!(header.borrow().to_str().unwrap(), "Bearer s3cr3t");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said_without_credentials() {
        let cases = [
            ("echo s3cr3t", "`sh` prints no ExecCredential with a status"),
            ("echo s3cr3t; echo expired >&2; exit 3", "`sh` failed (exit status: 3): expired"),
        ];
        for (script, expected) in cases {
            assert_eq!(run(&shell(script), DEADLINE).await.err().unwrap(), expected);
        }
    }
}
