//! Dissection: what a flow speaks, by the first messages in it.
//!
//! Octets in, facts out: [`Dissected`] (`dissected.rs`) is what was found. `recognise` tells which protocol it is;
//! `tls`, `quic`, `dtls.rs`, `dns.rs`, `http.rs` and `ssh.rs` read those that say more than their name;
//! `speech.rs` hands what is said from the one to the others, `listening.rs` puts the octets of a flow in order for
//! it, and `dissections.rs` does that for all flows of a cache; `conversation.rs` is the same without flows. What a
//! flow is called in the end - [`Application`] (`application.rs`) - follows from the facts and from rules
//! (`rules.rs`), which are data.
//!
//! Bounded is all of it, because strangers choose what is sent: so many packets of a flow are looked at, so
//! many octets of it are kept, and so many of all flows together. It does not decrypt what is secret, keeps
//! no payload, and does not put fragments of IP together.

mod application;
mod conversation;
mod digest;
mod dissected;
mod dissections;
mod dns;
mod dtls;
mod http;
mod listening;
mod names;
mod pending;
mod protocol;
mod quic;
mod recognise;
mod rules;
mod said;
mod speech;
mod ssh;
mod text;
mod tls;

pub use application::{Application, Basis};
pub use conversation::Conversation;
pub use digest::Digest;
pub use dissected::{Dissected, Resolved};
pub use dissections::DissectionSettings;
pub(crate) use dissections::Dissections;
pub use dns::{Answer, AnswerValue, Dns, Question};
pub(crate) use dns::{Learnt, learn};
pub use http::Http;
pub use protocol::ApplicationProtocol;
pub use quic::{Quic, QuicVersion};
pub use rules::{Rules, RulesError};
pub use ssh::Ssh;
pub use tls::{Carrier, Certificate, ClientHello, ServerHello, Tls, Version};

use said::{Look, Said};
