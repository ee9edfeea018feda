//! The vocabulary is nfdump's own names for the numbers in its files.
//!
//! They are those of nfdump 1.7's headers (`id.h`, `nfxV3.h`, `nffile.h`) and, for layout 1, of
//! nfdump 1.6's `nffile.h`, without their `Type` or `ID` at the end. A number without a name is
//! no error: later versions have more. Nothing is decided by these names.

use crate::{file::Layout, record::RecordType};

/// Record types 1 to 15.
const RECORDS: [&str; 15] = [
    "CommonRecordV0",
    "ExtensionMap",
    "PortHistogram",
    "BppHistogram",
    "LegacyRecord1",
    "LegacyRecord2",
    "ExporterInfoRecord",
    "ExporterStatRecord",
    "SamplerLegacyRecord",
    "CommonRecord",
    "V3Record",
    "NbarRecord",
    "IfNameRecord",
    "VrfNameRecord",
    "SamplerRecord",
];

/// Elements of layout 2 from 0 on. 34 and 35 are those of nfdump 1.7.3 and later; earlier ones use
/// them for names of interfaces and VRFs, and not in flow records.
const ELEMENTS: [&str; 43] = [
    "EXnull",
    "EXgenericFlow",
    "EXipv4Flow",
    "EXipv6Flow",
    "EXflowMisc",
    "EXcntFlow",
    "EXvLan",
    "EXasRouting",
    "EXbgpNextHopV4",
    "EXbgpNextHopV6",
    "EXipNextHopV4",
    "EXipNextHopV6",
    "EXipReceivedV4",
    "EXipReceivedV6",
    "EXmplsLabel",
    "EXmacAddr",
    "EXasAdjacent",
    "EXlatency",
    "EXsamplerInfo",
    "EXnselCommon",
    "EXnatXlateIPv4",
    "EXnatXlateIPv6",
    "EXnatXlatePort",
    "EXnselAcl",
    "EXnselUser",
    "EXnatCommon",
    "EXnatPortBlock",
    "EXnbarApp",
    "EXlabel",
    "EXinPayload",
    "EXoutPayload",
    "EXtunIPv4",
    "EXtunIPv6",
    "EXobservation",
    "EXinmonMeta",
    "EXinmonFrame",
    "EXvrf",
    "EXpfinfo",
    "EXlayer2",
    "EXflowId",
    "EXnokiaNat",
    "EXnokiaNatString",
    "EXipInfo",
];

/// The extensions that a map of layout 1 can list, from 4 on.
const EXTENSIONS: [&str; 46] = [
    "EX_IO_SNMP_2",
    "EX_IO_SNMP_4",
    "EX_AS_2",
    "EX_AS_4",
    "EX_MULIPLE",
    "EX_NEXT_HOP_v4",
    "EX_NEXT_HOP_v6",
    "EX_NEXT_HOP_BGP_v4",
    "EX_NEXT_HOP_BGP_v6",
    "EX_VLAN",
    "EX_OUT_PKG_4",
    "EX_OUT_PKG_8",
    "EX_OUT_BYTES_4",
    "EX_OUT_BYTES_8",
    "EX_AGGR_FLOWS_4",
    "EX_AGGR_FLOWS_8",
    "EX_MAC_1",
    "EX_MAC_2",
    "EX_MPLS",
    "EX_ROUTER_IP_v4",
    "EX_ROUTER_IP_v6",
    "EX_ROUTER_ID",
    "EX_BGPADJ",
    "EX_RECEIVED",
    "EX_RESERVED_1",
    "EX_RESERVED_2",
    "EX_RESERVED_3",
    "EX_RESERVED_4",
    "EX_RESERVED_5",
    "EX_RESERVED_6",
    "EX_RESERVED_7",
    "EX_RESERVED_8",
    "EX_RESERVED_9",
    "EX_NSEL_COMMON",
    "EX_NSEL_XLATE_PORTS",
    "EX_NSEL_XLATE_IP_v4",
    "EX_NSEL_XLATE_IP_v6",
    "EX_NSEL_ACL",
    "EX_NSEL_USER",
    "EX_NSEL_USER_MAX",
    "EX_NSEL_RESERVED",
    "EX_LATENCY",
    "EX_NEL_COMMON",
    "EX_NEL_GLOBAL_IP_v4",
    "EX_PORT_BLOCK_ALLOC",
    "EX_NEL_RESERVED_1",
];

/// The programs that say that they created a file, from 1 on.
const CREATORS: [&str; 9] = [
    "nfcapd",
    "nfpcapd",
    "sfcapd",
    "nfdump",
    "nfanon",
    "nfprofile",
    "geolookup",
    "ft2nfdump",
    "torlookup",
];

impl RecordType {
    /// nfdump's name for it, if it has one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::IDENT => Some("TYPE_IDENT"),
            Self::STAT => Some("TYPE_STAT"),
            Self(number) => RECORDS.get(usize::from(number).checked_sub(1)?).copied(),
        }
    }
}

/// nfdump's name for an extension of a flow record: an element of layout 2, or what an extension
/// map of layout 1 lists.
pub fn extension_name(layout: Layout, id: u16) -> Option<&'static str> {
    let id = usize::from(id);
    match layout {
        Layout::One => EXTENSIONS.get(id.checked_sub(4)?),
        Layout::Two => ELEMENTS.get(id),
    }
    .copied()
}

/// The program that [`Header::creator`](crate::Header::creator) means; `None` for 0, which says
/// nothing, and for those of a later nfdump.
pub fn creator_name(creator: u32) -> Option<&'static str> {
    CREATORS.get(usize::try_from(creator).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_nfdumps_names_or_none() {
        assert_eq!(RecordType::FLOW_V3.name(), Some("V3Record"));
        assert_eq!(RecordType::EXPORTER_INFO.name(), Some("ExporterInfoRecord"));
        assert_eq!(RecordType(15).name(), Some("SamplerRecord"));
        assert_eq!((RecordType(0).name(), RecordType(16).name()), (None, None));
        let [one, two] =
            [Layout::One, Layout::Two].map(|layout| move |id| extension_name(layout, id));
        assert_eq!(
            (two(0), two(24), two(42)),
            (Some("EXnull"), Some("EXnselUser"), Some("EXipInfo"))
        );
        assert_eq!(
            (one(4), one(43), one(49)),
            (Some("EX_IO_SNMP_2"), Some("EX_NSEL_USER_MAX"), Some("EX_NEL_RESERVED_1"))
        );
        assert_eq!((one(3), one(50), two(43)), (None, None, None));
        assert_eq!((creator_name(1), creator_name(9)), (Some("nfcapd"), Some("torlookup")));
        assert_eq!((creator_name(0), creator_name(10)), (None, None));
    }
}
