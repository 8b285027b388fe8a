//! How a reload went: for the log, and for whoever asks for the status.

use crate::status::Status;

/// Tells what only a restart brings into force, or every reason why nothing has changed.
pub(crate) fn tell(status: &Status, changed: Result<Vec<&'static str>, Vec<String>>) {
    portolan_program::tell_reload(&changed);
    match changed {
        Ok(needs_restart) => status.reloaded(needs_restart),
        Err(errors) => status.refused(errors),
    }
}
