//! A filter says which frames are wanted, in libpcap's language (pcap-filter(7)), for files as the
//! kernel does it for interfaces.
//!
//! A frame that was captured in part is filtered by that part, and as if it had been that long.

use pcap::{BpfProgram, Capture, Linktype};

use procflow_core::packet::LinkType;

use crate::live::LiveError;

/// A filter of frames of any link type.
pub struct Filter {
    expression: String,
    /// One program for each link type seen so far.
    programs: Vec<(LinkType, BpfProgram)>,
}

impl Filter {
    /// A filter by an expression. What it means for a link type, the first frame of that says.
    ///
    /// # Errors
    /// When it means nothing, neither for Ethernet nor for IP alone.
    pub fn new(expression: &str) -> Result<Self, LiveError> {
        let filter = Self { expression: expression.to_owned(), programs: Vec::new() };
        filter.compile(LinkType::ETHERNET).or_else(|error| {
            filter.compile(LinkType::RAW).map_err(|_| {
                let expression = expression.to_owned();
                LiveError::Filter { expression, source: error }
            })
        })?;
        Ok(filter)
    }

    /// Whether a frame is wanted.
    ///
    /// # Errors
    /// When the expression means nothing for its link type.
    pub fn wants(&mut self, link_type: LinkType, frame: &[u8]) -> Result<bool, LiveError> {
        let known = self.programs.iter().position(|(of, _)| *of == link_type);
        let index = match known {
            Some(index) => index,
            None => {
                let compiled = self.compile(link_type).map_err(|source| {
                    let expression = self.expression.clone();
                    LiveError::Filter { expression, source }
                })?;
                self.programs.push((link_type, compiled));
                self.programs.len() - 1
            }
        };
        Ok(self.programs[index].1.filter(frame))
    }

    fn compile(&self, link_type: LinkType) -> Result<BpfProgram, pcap::Error> {
        // Where files have other numbers than libpcap has inside.
        let dlt = match link_type {
            LinkType::RAW => 12,
            LinkType(other) => i32::try_from(other).unwrap_or(i32::MAX),
        };
        Capture::dead(Linktype(dlt))?.compile(&self.expression, true)
    }
}
