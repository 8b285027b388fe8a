//! The one place that writes to standard output. Everything else that a program says goes to the log.

use std::io::{self, ErrorKind, Write};

/// What a command says, and its exit status.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Text for standard output.
    pub text: String,
    /// 0 as asked, 1 something is wrong.
    pub status: u8,
}

impl Outcome {
    /// All is well.
    pub fn good(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 0 }
    }
}

/// Writes to standard output. A reader that has gone away (`portolan zone | head`) is no error.
pub fn print(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Says on standard error why a command of `program` failed.
pub fn complain(program: &str, error: &anyhow::Error) {
    // Where standard error is closed, nobody is left to tell.
    drop(writeln!(io::stderr(), "{program}: {error:#}"));
}
