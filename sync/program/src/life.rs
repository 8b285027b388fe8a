//! From start to end of a process that stays: its runtime, the signals that it obeys, its last words.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::output::Outcome;

/// Lives until `run` is done. Its error is logged: the log is where a process that stays speaks, and a reader of JSON
/// lines finds the reason of its end there.
pub fn live<F>(run: impl FnOnce(Signals) -> F) -> anyhow::Result<Outcome>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let lived = runtime.block_on(async {
        // Before anything else, so that no signal finds the default action, which ends without a word.
        run(Signals::new()?).await
    });
    // Whatever is still at work was given its time.
    runtime.shutdown_background();
    let status = lived.map_or_else(
        |failed| {
            error!("{failed:#}");
            1
        },
        |()| 0,
    );
    Ok(Outcome { text: String::new(), status })
}

/// Tells the log how a reload went: what only a restart brings into force, or every reason why nothing has changed.
pub fn tell_reload(changed: &Result<Vec<&'static str>, Vec<String>>) {
    match changed {
        Ok(needs_restart) => {
            info!("the configuration is in force");
            if !needs_restart.is_empty() {
                let sections = needs_restart.join(" ");
                warn!(sections, "changed, but only a restart brings them into force");
            }
        }
        Err(errors) => {
            for problem in errors {
                error!("{problem}");
            }
            warn!("the configuration stays as it was before");
        }
    }
}

/// What tells the process what to do.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// SIGTERM and SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Returns at the next SIGTERM or SIGINT.
    pub async fn end(&mut self) {
        while self.next().await != Told::End {}
    }
}
