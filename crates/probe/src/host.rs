//! The host: what tells this machine, and this boot of it, from all others.

use procflow_binding::BootId;

use crate::ProbeError;

/// Where Linux writes it (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The identity of the running boot.
///
/// # Errors
/// When the file cannot be read, which is so on every system but Linux.
pub fn boot_id() -> Result<BootId, ProbeError> {
    let text = std::fs::read_to_string(BOOT_ID).map_err(ProbeError::file(BOOT_ID))?;
    BootId::parse(&text).ok_or_else(|| ProbeError::Content {
        path: BOOT_ID.into(),
        text: text.chars().take(64).collect(),
    })
}

/// The host's own name for itself.
///
/// # Errors
/// When the system does not answer.
pub fn hostname() -> Result<String, ProbeError> {
    let name = nix::unistd::gethostname().map_err(ProbeError::call("gethostname"))?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_boot_stays_the_same() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(!hostname().unwrap().is_empty());
    }
}
