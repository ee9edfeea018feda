//! What this process may do: its capabilities (capabilities(7)), and which of them are missing for what.

/// The effective capabilities that matter here (capabilities(7)). In a user namespace they may be
/// there and still not be enough; that is found out by trying.
#[derive(Clone, Copy)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    const DAC_OVERRIDE: u32 = 1;
    const DAC_READ_SEARCH: u32 = 2;
    pub(crate) const NET_BROADCAST: u32 = 11;
    const NET_ADMIN: u32 = 12;
    const SYS_PTRACE: u32 = 19;
    pub(crate) const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;

    /// Those of this process; none where they are not told.
    pub(crate) fn own() -> Self {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        Self(status.map_or(0, |status| status.capeff))
    }

    pub(crate) fn has(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }

    /// What is missing to read the descriptors of every process.
    pub(crate) fn missing_for_descriptors(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.has(Self::SYS_PTRACE) {
            missing.push("CAP_SYS_PTRACE");
        }
        if !self.has(Self::DAC_READ_SEARCH) && !self.has(Self::DAC_OVERRIDE) {
            missing.push("CAP_DAC_READ_SEARCH");
        }
        missing
    }

    /// What is missing to load and attach programs.
    pub(crate) fn missing_for_ebpf(self) -> Vec<&'static str> {
        // CAP_SYS_ADMIN includes the first two (capabilities(7)).
        let bpf = self.has(Self::BPF) || self.has(Self::SYS_ADMIN);
        let perfmon = self.has(Self::PERFMON) || self.has(Self::SYS_ADMIN);
        let all = [
            (bpf, "CAP_BPF"),
            (perfmon, "CAP_PERFMON"),
            (self.has(Self::NET_ADMIN), "CAP_NET_ADMIN"),
        ];
        all.into_iter().filter(|&(has, _)| !has).map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(
            Capabilities(0).missing_for_descriptors(),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        );
        assert_eq!(Capabilities(1 << 19).missing_for_descriptors(), ["CAP_DAC_READ_SEARCH"]);
        assert!(Capabilities(0x8_0004).missing_for_descriptors().is_empty());
        assert!(!Capabilities(0).has(Capabilities::SYS_ADMIN));
        assert_eq!(Capabilities(1 << 12 | 1 << 39).missing_for_ebpf(), ["CAP_PERFMON"]);
        assert!(Capabilities(1 << 12 | 1 << 21).missing_for_ebpf().is_empty());
    }
}
