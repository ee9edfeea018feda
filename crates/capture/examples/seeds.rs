//! Writes the seeds of a fuzz target into a directory, a file each: where the fuzzer starts from.
//! The same in every run; `make fuzz` calls it.
//!
//!     cargo run -p procflow-capture --example seeds -- captures fuzz/corpus/captures

use std::{env, error::Error, fs, path::Path};

#[path = "../../core/tests/conversations/mod.rs"]
mod conversations;
#[path = "../../core/tests/frames/mod.rs"]
mod frames;

use frames::{ethernet, fragment, ipv4, ipv6, tcp, udp, vlan};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [target, directory] = &args[..] else {
        return Err("usage: seeds TARGET DIRECTORY".into());
    };
    let seeds: Vec<Vec<u8>> = match target.as_str() {
        "frames" => {
            kinds().into_iter().map(|(link, frame)| [&[link][..], &frame].concat()).collect()
        }
        "captures" | "sessions" => captures(),
        "rules" => vec![RULES.into()],
        "streams" => with_port(conversation(|_, is_stream| is_stream)),
        "datagrams" => with_port(conversation(|_, is_stream| !is_stream)),
        "dns-stream" => conversation(|protocol, is_stream| protocol == "DNS" && is_stream),
        "dns" => conversation(|protocol, is_stream| protocol == "DNS" && !is_stream),
        "tls" | "dtls" | "quic" | "http" | "ssh" => {
            conversation(|protocol, _| protocol.eq_ignore_ascii_case(target))
        }
        _ => return Err(format!("there is no target {target}").into()),
    };
    fs::create_dir_all(directory)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(Path::new(directory).join(format!("seed-{number:02}")), seed)?;
    }
    Ok(())
}

const RULES: &str = "[[service]]\nname = \"A\"\ncategory = \"B\"\nhosts = [\"a.example\"]\n\
    certificates = [\"A Inc.\"]\naddresses = [\"192.0.2.0/24\", \"2001:db8::1\"]\n\
    [[protocol]]\nname = \"C\"\ncategory = \"D\"\ntcp = [1]\nudp = [2, 3]\n";

/// The examples of conversations that are wanted.
fn conversation(wanted: impl Fn(&str, bool) -> bool) -> Vec<Vec<u8>> {
    let examples = conversations::examples().into_iter();
    let wanted = examples.filter(|(protocol, is_stream, _)| wanted(protocol.name(), *is_stream));
    wanted.map(|(.., octets)| octets).collect()
}

/// With a port in front that DNS has.
fn with_port(conversations: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    conversations.into_iter().map(|octets| [&[0, 53][..], &octets].concat()).collect()
}

/// Frames of every kind, each with the number of its link type.
fn kinds() -> Vec<(u8, Vec<u8>)> {
    let inner = ipv4(1, 2, 17, &udp(1000, 53, b"query"));
    let behind = |head: &[u8]| [head, &inner].concat();
    let over_udp = |port, head: &[u8], inside: &[u8]| {
        ethernet(0x0800, &ipv4(8, 9, 17, &udp(5555, port, &[head, inside].concat())))
    };
    let syn = ethernet(0x0800, &ipv4(1, 2, 6, &tcp(4000, 80, 2, (7, 0), b"")));
    let bridged = ethernet(0x0800, &inner);
    let extended =
        [&[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0][..], &udp(1, 2, b"x")].concat();
    vec![
        (1, syn),
        (1, ethernet(0x88a8, &vlan(100, 0x8100, &vlan(200, 0x0800, &inner)))),
        (1, ethernet(0x8847, &behind(&[0, 0, 0x11, 64]))),
        (1, ethernet(0x8864, &behind(&[0x11, 0, 0, 1, 0, 35, 0, 0x21]))),
        (1, ethernet(0x0800, &fragment(1, 2, 17, (9, 1480, true), &[5; 40]))),
        (1, ethernet(0x86dd, &ipv6(1, 2, 0, &extended))),
        (1, ethernet(0x0800, &ipv4(8, 9, 47, &behind(&[0x30, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 1])))),
        (1, ethernet(0x0800, &ipv4(8, 9, 4, &inner))),
        (1, over_udp(4789, &[8, 0, 0, 0, 0, 1, 2, 0], &bridged)),
        (1, over_udp(6081, &[1, 0, 0x65, 0x58, 0, 1, 2, 0, 9, 9, 9, 9], &bridged)),
        (1, over_udp(2152, &[0x34, 0xff, 0, 41, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0], &inner)),
        (1, over_udp(3544, &[0, 0, 0, 0, 0, 0, 0, 0], &ipv6(1, 2, 17, &udp(1, 2, b"x")))),
        (9, behind(&[0xff, 3, 0, 0x21])),
        (101, inner.clone()),
        (105, [&[8, 2][..], &[1; 22], &behind(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])].concat()),
        (113, behind(&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0, 8, 0])),
        (
            127,
            [
                &[0, 0, 8, 0, 0, 0, 0, 0, 8, 1][..],
                &[1; 22],
                &behind(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
            ]
            .concat(),
        ),
    ]
}

/// Small captures: pcap in both byte orders, pcapng with two interfaces.
fn captures() -> Vec<Vec<u8>> {
    let ethernets = || kinds().into_iter().filter(|(link, _)| *link == 1).map(|(_, frame)| frame);
    let pcap = |number: fn(u32) -> [u8; 4], version: u32| {
        let mut file: Vec<u8> = [0xa1b2_c3d4, version, 0, 0, 65535, 1].map(number).concat();
        for (second, frame) in ethernets().enumerate() {
            let length = frame.len() as u32;
            file.extend(
                [1_700_000_000 + second as u32 * 40, 5, length, length].map(number).concat(),
            );
            file.extend(frame);
        }
        file
    };
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = (padded as u32 + 12).to_le_bytes();
        let mut block = [&kind.to_le_bytes()[..], &length, body].concat();
        block.resize(8 + padded, 0);
        block.extend(length);
        block
    };
    let mut pcapng = block(
        0x0a0d_0d0a,
        &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
    );
    pcapng.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    pcapng.extend(block(1, &[101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0]));
    for (link, frame) in kinds() {
        let interface = match link {
            1 => 0_u32,
            101 => 1,
            _ => continue,
        };
        let length = frame.len() as u32;
        let head = [interface, 0x0005_fb2b, 7, length, length].map(u32::to_le_bytes).concat();
        pcapng.extend(block(6, &[head, frame].concat()));
    }
    vec![pcap(u32::to_le_bytes, 0x0004_0002), pcap(u32::to_be_bytes, 0x0002_0004), pcapng]
}
