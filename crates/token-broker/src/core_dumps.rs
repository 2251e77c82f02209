//! Keeps the memory of this process out of core dumps, and out of reach of other processes.

pub(crate) use self::system::disable;

#[cfg(target_os = "linux")]
mod system {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    /// The process could not be protected.
    #[derive(Debug, thiserror::Error)]
    #[error(
        "core dumps, which would contain secrets, cannot be turned off ({0}): allow the system \
         call prctl(PR_SET_DUMPABLE) in the sandbox or seccomp profile"
    )]
    pub(crate) struct StillDumpable(std::io::Error);

    /// Turns core dumps off. Then no other process of the same user can read memory or environment
    /// of this one, or attach to it as a debugger; only a process with `CAP_SYS_PTRACE` can.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn disable() -> Result<(), StillDumpable> {
        // R317: secrets are in memory, and may be in variables.
        let done = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        done.map_err(|error| StillDumpable(error.into()))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// Changes nothing: limits of core dumps are those of the system.
    pub(crate) const fn disable() -> Result<(), std::convert::Infallible> {
        Ok(())
    }
}
