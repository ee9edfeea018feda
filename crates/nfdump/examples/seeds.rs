//! Writes the seeds of a fuzz target into a directory, a file each: where the fuzzer starts from.
//! The same in every run; `make fuzz` calls it.
//!
//!     cargo run -p procflow-nfdump --example seeds -- reader fuzz/corpus/reader

use std::{env, error::Error, fs, path::Path};

#[path = "../tests/corpus/mod.rs"]
mod corpus;

use corpus::{
    Xorshift,
    made::{self, Choices, Oddity},
};

/// How many there are for each target.
const SEEDS: u64 = 48;

/// The fuzzer makes inputs as large as the largest seed; small ones are quicker, and as odd.
const LARGEST: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [target, directory] = &args[..] else {
        return Err("usage: seeds TARGET DIRECTORY".into());
    };
    let make: fn(&[u8]) -> Vec<u8> = match target.as_str() {
        "reader" | "rewrite" => |bytes| made::file(&mut Choices::new(bytes), Oddity::Any),
        "made" => <[u8]>::to_vec,
        "lzo" => |bytes| payload(1, bytes),
        "bz2" => |bytes| payload(2, bytes),
        "lz4" => |bytes| payload(3, bytes),
        "zstd" => |bytes| payload(4, bytes),
        _ => return Err(format!("there is no target {target}").into()),
    };
    fs::create_dir_all(directory)?;
    for number in 0..SEEDS {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15 ^ number << 1);
        let bytes: Vec<u8> = (0..20 + 16 * number).map(|_| random.below(256) as u8).collect();
        let seed = make(&bytes);
        if seed.len() <= LARGEST {
            fs::write(Path::new(directory).join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

/// The first block's payload of a file of layout 2, in the method with this number.
fn payload(method: usize, bytes: &[u8]) -> Vec<u8> {
    let file = made::layout_2(&mut Choices::new(bytes), 0, Oddity::Any);
    let size = u32::from_le_bytes([file[44], file[45], file[46], file[47]]) as usize;
    made::compressed(method, &file[52..52 + size])
}
