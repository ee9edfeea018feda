//! A trained model as a plugin: what a flow is, by the sizes of its first payloads, with neither ports nor what
//! is in a payload. Told of each flow are its guess, and how many of the flows like it were that.
//!
//!     cargo run -p procflow-capture --example classify -- capture.pcap
//!
//! The model is `model.txt`, which says itself what it is worth. It was trained by
//!
//!     cargo run -p procflow-capture --example classify -- --train DIRECTORY
//!
//! on captures in DIRECTORY/pcaps whose applications NFStream has found (DIRECTORY/results); that prints
//! the model. `tests/model.rs` holds the one against the other.

use std::{env, error::Error, path::Path, sync::Arc};

use procflow_core::features::Kind;
use procflow_core::flow::Record;
use procflow_core::plugin::{Plugin, PluginColumn, Plugins, Shown, Values, Verdict};

mod beginning;
mod lessons;
#[path = "../printed/mod.rs"]
mod printed;
mod tree;

use beginning::Beginning;
use lessons::Lessons;
use tree::Tree;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [train, directory] if train == "--train" => {
            print!("{}", Lessons::of(Path::new(directory))?.teach());
            Ok(())
        }
        [capture] => {
            let tree = include_str!("model.txt").parse()?;
            let mut plugins = Plugins::default();
            plugins.add(Classifier { tree: Arc::new(tree) })?;
            printed::print(Path::new(capture), &plugins)
        }
        _ => Err("usage: classify CAPTURE | classify --train DIRECTORY".into()),
    }
}

/// Guesses at the end of a flow, by what its beginning was. The instances of all shards share the model.
#[derive(Clone)]
struct Classifier {
    tree: Arc<Tree>,
}

impl Plugin for Classifier {
    type State = Beginning;

    fn columns(&self) -> Vec<PluginColumn> {
        vec![
            PluginColumn {
                name: "guessed_protocol",
                unit: "",
                definition: "DNS, HTTP, QUIC, TLS or other, by the sizes of the first payloads",
                kind: Kind::Text,
            },
            PluginColumn {
                name: "guess_share",
                unit: "",
                definition: "Which part of the flows in the training that began like it was that",
                kind: Kind::Float,
            },
        ]
    }

    fn begin(&mut self, _: &Shown<'_>) -> Beginning {
        Beginning::default()
    }

    fn update(&mut self, beginning: &mut Beginning, shown: &Shown<'_>) -> Verdict {
        beginning.see(shown);
        Verdict::GoOn
    }

    fn end(&mut self, beginning: Beginning, _: &Record, values: &mut Values<'_>) {
        if beginning.is_silent() {
            return;
        }
        if let Some(guess) = self.tree.guess(&beginning) {
            values.push(guess.label.to_owned());
            values.push(guess.share);
        }
    }
}
