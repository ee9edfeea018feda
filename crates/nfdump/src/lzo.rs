//! LZO1X is bytes as they are, and copies of bytes that came before, told apart by their first bits.
//!
//! This is the writing side, greedy and with one candidate per hash, as nfdump's own; reading is
//! `lzokay`'s. Its compressor looks for the best match: smaller files, but 0.4 million flows a
//! second on a file that nfdump itself copies at 5. This one's files are as large as nfdump's.
//!
//! ```text
//! 17 + n, or 0000LLLL       literals: at the start, n of them; later 3 + L, at least 4
//! 01LDDDSS HHHHHHHH         copy 3 + L from (H << 3) + D + 1 back
//! 1LLDDDSS HHHHHHHH         copy 5 + L likewise
//! 001LLLLL DDDDDDSS D{8}    copy 2 + L from D + 1 back, at most 16384
//! 0001HLLL DDDDDDSS D{8}    copy 2 + L from (H << 14) + D + 16384 back; with D = 0 the end
//! ```
//!
//! S is how many literals, 0 to 3, follow a copy without a byte of their own. L = 0 stands for the
//! largest L and more: that many times 255 in zero bytes, and a last byte.

/// Positions by hash of the four bytes there.
const HASH_BITS: u32 = 14;
/// The farthest a copy can reach.
const FARTHEST: usize = 49151;
const SHORT_REACH: usize = 2048;
const MIDDLE_REACH: usize = 16384;

/// A compressor's table, kept from block to block.
pub(crate) struct Lzo {
    /// A position plus 1; 0 for none.
    seen: Vec<u32>,
}

impl Lzo {
    pub(crate) fn new() -> Self {
        Self { seen: vec![0; 1 << HASH_BITS] }
    }

    /// Compresses `plain` into `disk`, which is emptied first.
    pub(crate) fn compress(&mut self, plain: &[u8], disk: &mut Vec<u8>) {
        disk.clear();
        self.seen.fill(0);
        let mut output = Output { bytes: disk, state_at: None };
        // Everything before `done` is in the output.
        let (mut done, mut at) = (0, 0);
        while let Some(four) = four_at(plain, at) {
            let hash = (four.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize;
            let before = std::mem::replace(&mut self.seen[hash], at as u32 + 1) as usize;
            let copy = before
                .checked_sub(1)
                .filter(|&from| at - from <= FARTHEST && four_at(plain, from) == Some(four));
            let Some(from) = copy else {
                // The longer nothing is found, the larger the steps: what does not compress
                // should at least be quick.
                at += 1 + ((at - done) >> 5);
                continue;
            };
            let length = 4 + same(&plain[from + 4..], &plain[at + 4..]);
            output.literals(&plain[done..at]);
            output.copy(length, at - from);
            at += length;
            done = at;
        }
        output.literals(&plain[done..]);
        output.bytes.extend_from_slice(&[0x11, 0, 0]);
    }
}

fn four_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// How many bytes `a` and `b` have in common at their start.
fn same(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if a != b {
            break;
        }
        length += 8;
    }
    length + a[length..].iter().zip(&b[length..]).take_while(|(a, b)| a == b).count()
}

struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    /// The byte of the last copy that has its S bits.
    state_at: Option<usize>,
}

impl Output<'_> {
    fn literals(&mut self, literals: &[u8]) {
        let length = literals.len();
        match (self.state_at, length) {
            (_, 0) => return,
            (Some(at), 1..=3) => self.bytes[at] |= length as u8,
            (None, 1..=238) => self.bytes.push(17 + length as u8),
            (_, ..=18) => self.bytes.push(length as u8 - 3),
            _ => self.with_more(0, length - 18),
        }
        self.bytes.extend_from_slice(literals);
    }

    fn copy(&mut self, length: usize, distance: usize) {
        let back = distance - 1;
        if length <= 8 && distance <= SHORT_REACH {
            self.state_at = Some(self.bytes.len());
            self.bytes.push(((length - 1) << 5 | (back & 7) << 2) as u8);
            self.bytes.push((back >> 3) as u8);
            return;
        }
        let (kind, most, back) = if distance <= MIDDLE_REACH {
            (0x20, 31, back)
        } else {
            let back = distance - MIDDLE_REACH;
            (0x10 | (back >> 11 & 8) as u8, 7, back & 0x3fff)
        };
        match length - 2 {
            short if short <= most => self.bytes.push(kind | short as u8),
            long => self.with_more(kind, long - most),
        }
        self.state_at = Some(self.bytes.len());
        self.bytes.extend_from_slice(&((back << 2) as u16).to_le_bytes());
    }

    /// An instruction with L = 0, and how much more than the largest L is meant.
    fn with_more(&mut self, instruction: u8, more: usize) {
        self.bytes.push(instruction);
        let zeros = (more - 1) / 255;
        self.bytes.resize(self.bytes.len() + zeros, 0);
        self.bytes.push((more - zeros * 255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(plain: &[u8]) -> Vec<u8> {
        let mut disk = vec![1, 2, 3];
        Lzo::new().compress(plain, &mut disk);
        disk
    }

    fn comes_back(plain: &[u8]) -> usize {
        let disk = compressed(plain);
        let mut output = vec![0; plain.len()];
        let length = lzokay::decompress::decompress(&disk, &mut output);
        assert_eq!(length, Ok(plain.len()));
        assert!(output == plain);
        disk.len()
    }

    #[test]
    fn literals_and_copies_on_a_literal() {
        assert_eq!(compressed(b"abc"), b"\x14abc\x11\0\0");
        // "abcd", a copy of 8 from 4 back, "e" in the copy's own bits.
        assert_eq!(compressed(b"abcdabcdabcde"), b"\x15abcd\xed\x00e\x11\0\0");
        // "a", a copy of 62 from 1 back: 31 and 29 more.
        assert_eq!(compressed(&[b'a'; 63]), b"\x12a\x20\x1d\x00\x00\x11\0\0");
    }

    #[test]
    fn every_length_of_literals_and_copies_comes_back() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut byte = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as u8
        };
        let noise: Vec<u8> = (0..120_000).map(|_| byte()).collect();
        for literals in (1..40).chain(230..300).chain([500, 530, 1000]) {
            for length in (4..50).chain([260, 261, 290, 520, 3000]) {
                let mut plain = noise[..literals + length].to_vec();
                plain.extend_from_slice(&noise[literals..literals + length]);
                plain.extend_from_slice(&noise[2000..2000 + literals % 7]);
                comes_back(&plain);
            }
        }
        assert!(comes_back(&noise) < noise.len() + noise.len() / 200);
        comes_back(b"a");
    }

    #[test]
    fn every_reach_comes_back() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for distance in [
            8, 2047, 2048, 2049, 16383, 16384, 16385, 20000, 32767, 32768, 32769, 49150, 49151,
            49152, 60000,
        ] {
            for length in [4, 8, 9, 10, 33, 34, 400] {
                // Zeros around one piece that occurs twice, exactly `distance` apart.
                let piece: Vec<u8> = (0..length.min(distance))
                    .map(|_| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random as u8 | 1
                    })
                    .collect();
                let mut plain = piece.clone();
                plain.resize(distance, 0);
                plain.extend_from_slice(&piece);
                comes_back(&plain);
            }
        }
    }
}
