//! Padding: the size of a ciphertext tells a step, not a length (SECURITY 2.5).
//!
//! `u32 length ‖ bytes ‖ zeros`, to the next of 256, 512, 1024, 2048, 4096 bytes, and from there on to
//! the next multiple of 4096.

use zeroize::Zeroizing;

const SMALLEST: usize = 256;
const STEP: usize = 4096;

/// Pads bytes.
#[must_use]
pub fn pad(plain: &[u8]) -> Zeroizing<Vec<u8>> {
    let need = plain.len() + 4;
    let size = if need <= STEP {
        need.next_power_of_two().max(SMALLEST)
    } else {
        need.next_multiple_of(STEP)
    };
    // Bodies are bounded far below 4 GiB; a longer one would not open.
    let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(plain);
    out.resize(size, 0);
    out
}

/// Takes the padding off; `None` unless the bytes are exactly what [`pad`] makes.
#[must_use]
pub fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (len, rest) = padded.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (plain, zeros) = rest.split_at_checked(len)?;
    let exact = pad(plain).len() == padded.len() && zeros.iter().all(|byte| *byte == 0);
    exact.then_some(plain)
}
