//! Padding hides lengths in steps, comes off again, and has one form.

use conclave_e2ee::pad::{pad, unpad};

/// The size a body of this length takes, as the protocol document says it.
fn documented(len: usize) -> usize {
    match len + 4 {
        ..=256 => 256,
        257..=512 => 512,
        513..=1024 => 1024,
        1025..=2048 => 2048,
        2049..=4096 => 4096,
        more => more.div_ceil(4096) * 4096,
    }
}

#[test]
fn every_length_takes_the_documented_size_and_comes_back() {
    let plain: Vec<u8> = (0..20_001u32).map(|i| (i % 251) as u8 + 1).collect();
    for len in 0..plain.len() {
        let padded = pad(&plain[..len]);
        assert_eq!(padded.len(), documented(len), "{len}");
        assert_eq!(unpad(&padded), Some(&plain[..len]), "{len}");
    }
}

#[test]
fn what_is_not_exactly_the_padding_of_its_length_is_refused() {
    for len in [0, 1, 251, 252, 253, 508, 509, 4091, 4092, 4093, 8188, 8189] {
        let padded = pad(&vec![7; len]).to_vec();
        let mut longer = padded.clone();
        longer.resize(documented(padded.len()), 0);
        assert_eq!(unpad(&longer), None, "{len}: more zeros than needed");
        assert_eq!(
            unpad(&padded[..padded.len() - 1]),
            None,
            "{len}: one byte less"
        );
        for at in 4 + len..padded.len() {
            let mut marked = padded.clone();
            marked[at] = 1;
            assert_eq!(
                unpad(&marked),
                None,
                "{len}: a byte at {at} that is no zero"
            );
        }
        for bit in 0..32 {
            let mut lying = padded.clone();
            lying[bit / 8] ^= 1 << (bit % 8);
            let lie = usize::try_from(u32::from_be_bytes(lying[..4].try_into().unwrap())).unwrap();
            let fits = lie > len && documented(lie) == padded.len();
            let shown = fits.then(|| lying[4..4 + lie].to_vec());
            assert_eq!(
                unpad(&lying).map(<[u8]>::to_vec),
                shown,
                "{len} told as {lie}"
            );
        }
    }
    assert_eq!(unpad(b""), None);
    assert_eq!(unpad(&[0; 3]), None);
    assert_eq!(unpad(&[0; 4]), None, "the empty body takes 256 bytes");
    assert_eq!(unpad(&[0xff; 256]), None);
}
