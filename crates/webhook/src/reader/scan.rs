//! Where strings, objects and lists end, found 64 bytes at a time.
//!
//! Of each block a mask is made for each kind of byte that matters, one bit for each byte; what a string hides is then told
//! from what it does not by arithmetic on masks, without a branch for each byte. That costs the same whatever the text, so a
//! string full of escapes is as quick as any other. This is what `simdjson` does, in safe code that the compiler turns into
//! vector instructions.
//!
//! A mask is first made *in planes*, as its eight groups of eight bits come out cheapest: bit `8 * i + j` stands for byte
//! `8 * j + i`. [`in_order`] swaps the two forms.

#![expect(
    clippy::inline_always,
    reason = "out of line, the parts of the loop cost a sixth of its speed"
)]

type Block = [u8; 64];

/// The even bits.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The position of the quote that ends a string, whose content begins at `from`.
pub(super) fn end_of_string(bytes: &[u8], from: usize) -> Option<usize> {
    let mut escapes = Escapes::default();
    for (at, block) in Blocks::new(bytes, from) {
        let quotes = escapes.unescaped(&block, plane(&block, |byte| byte == b'"'));
        if quotes != 0 {
            return Some(at + first(quotes));
        }
    }
    None
}

/// The position of the bracket that ends an object or a list, whose content begins at `from`. Both kinds of brackets
/// count alike.
pub(super) fn end_of_nested(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 1_usize;
    let mut escapes = Escapes::default();
    // All ones while a string goes on from the block before, else zero.
    let mut in_string = 0_u64;
    for (at, block) in Blocks::new(bytes, from) {
        let quotes = escapes.unescaped(&block, plane(&block, |byte| byte == b'"'));
        let inside = parity(quotes) ^ in_string;
        in_string = 0_u64.wrapping_sub(inside >> 63);
        let outside = !in_order(inside);
        // `[` and `{` differ in this bit only, and so do `]` and `}`.
        let opening = plane(&block, |byte| byte | 0x20 == b'{') & outside;
        let closing = plane(&block, |byte| byte | 0x20 == b'}') & outside;
        let closed = closing.count_ones() as usize;
        if closed < depth {
            depth = depth + opening.count_ones() as usize - closed;
            continue;
        }
        match last_closing(in_order(opening), in_order(closing), depth) {
            Ok(bit) => return Some(at + bit),
            Err(left) => depth = left,
        }
    }
    None
}

/// A text in blocks, each with its position; the last one is filled up with spaces.
struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    fn new(bytes: &'a [u8], from: usize) -> Self {
        Blocks { bytes, at: from }
    }
}

impl Iterator for Blocks<'_> {
    type Item = (usize, Block);

    #[inline]
    fn next(&mut self) -> Option<(usize, Block)> {
        let at = self.at;
        let rest = self.bytes.get(at..)?;
        self.at = at + 64;
        if let Some(block) = rest.first_chunk() {
            return Some((at, *block));
        }
        let mut block = [b' '; 64];
        block[..rest.len()].copy_from_slice(rest);
        (!rest.is_empty()).then_some((at, block))
    }
}

/// The bracket by which the depth becomes zero; else the depth behind the block. Masks are in order.
fn last_closing(opening: u64, closing: u64, mut depth: usize) -> Result<usize, usize> {
    let mut brackets = opening | closing;
    while brackets != 0 {
        let bit = brackets & brackets.wrapping_neg();
        if opening & bit != 0 {
            depth += 1;
        } else {
            depth -= 1;
        }
        if depth == 0 {
            return Ok(first(bit));
        }
        brackets ^= bit;
    }
    Err(depth)
}

/// The bytes that fulfil a condition, in planes.
#[inline(always)]
fn plane(block: &Block, is: impl Fn(u8) -> bool) -> u64 {
    let hits = block.map(|byte| if is(byte) { 0xff } else { 0_u8 });
    let (words, _) = hits.as_chunks::<8>();
    let bits = words
        .iter()
        .enumerate()
        .map(|(index, word)| u64::from_le_bytes(*word) & (0x0101_0101_0101_0101 << index));
    bits.fold(0, |plane, bits| plane | bits)
}

/// A mask in planes becomes one in order, and the other way round: the transposition of a matrix of 8 by 8 bits.
#[inline(always)]
fn in_order(mut mask: u64) -> u64 {
    for (distance, bits) in [
        (7, 0x00aa_00aa_00aa_00aa),
        (14, 0x0000_cccc_0000_cccc),
        (28, 0x0000_0000_f0f0_f0f0),
    ] {
        let moved = (mask ^ mask >> distance) & bits;
        mask ^= moved ^ moved << distance;
    }
    mask
}

/// Each bit is whether the number of ones up to it is odd: between the quotes of strings.
#[inline(always)]
fn parity(mut mask: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << distance;
    }
    mask
}

/// Whether the first byte of the next block is escaped: 1 or 0.
#[derive(Default)]
struct Escapes(u64);

impl Escapes {
    /// Those of a block's bytes, given in planes, that no backslash escapes, in order.
    #[inline(always)]
    fn unescaped(&mut self, block: &Block, bytes: u64) -> u64 {
        let backslashes = plane(block, |byte| byte == b'\\');
        if backslashes | self.0 == 0 {
            return in_order(bytes);
        }
        // An escaped backslash escapes nothing.
        let backslashes = in_order(backslashes) & !self.0;
        let follows = backslashes << 1 | self.0;
        // A run of backslashes that begins at an odd place carries over into the place behind it; of one that begins at an
        // even place, every second byte is escaped as it is.
        let odd_runs = backslashes & !EVEN & !follows;
        let (carried, overflow) = odd_runs.overflowing_add(backslashes);
        self.0 = u64::from(overflow);
        in_order(bytes) & !((EVEN ^ carried << 1) & follows)
    }
}

fn first(mask: u64) -> usize {
    mask.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, byte by byte.
    fn slow_end_of_string(bytes: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while *bytes.get(at)? != b'"' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        Some(at)
    }

    fn slow_end_of_nested(bytes: &[u8], from: usize) -> Option<usize> {
        let (mut depth, mut at) = (1, from);
        loop {
            match *bytes.get(at)? {
                b'"' => at = slow_end_of_string(bytes, at + 1)?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
            at += 1;
        }
    }

    /// Text in which everything that matters is frequent, and outside of strings no backslash.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let string = prop::collection::vec(prop_oneof![3 => Just(b'\\'), 1 => Just(b'['), 4 => any::<u8>()], 0..90);
        let string = string.prop_map(|mut content| {
            content.retain(|byte| *byte != b'"');
            let odd = content.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            [&b"\""[..], &content, if odd { b"\"" } else { b"" }, b"\""].concat()
        });
        let plain = prop::collection::vec(prop::sample::select(b"{}[]  a,:Yy_".to_vec()), 0..40);
        let parts = prop::collection::vec(prop_oneof![string, plain], 0..12);
        parts.prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn string_ends_where_a_byte_loop_ends_it(
            bytes in prop::collection::vec(prop_oneof![4 => Just(b'\\'), 1 => Just(b'"'), 12 => any::<u8>()], 0..300),
            from in 0..310_usize,
        ) {
            prop_assert_eq!(end_of_string(&bytes, from), slow_end_of_string(&bytes, from));
        }

        #[test]
        fn nested_value_ends_where_a_byte_loop_ends_it(bytes in text()) {
            prop_assert_eq!(end_of_nested(&bytes, 0), slow_end_of_nested(&bytes, 0), "{}", bytes.escape_ascii());
        }

        #[test]
        fn mask_is_the_same_after_two_swaps(mask in any::<u64>()) {
            prop_assert_eq!(in_order(in_order(mask)), mask);
        }
    }

    #[test]
    fn mask_in_order_has_one_bit_for_each_byte() {
        for at in 0..64 {
            let mut block = [b' '; 64];
            block[at] = b'"';
            assert_eq!(in_order(plane(&block, |byte| byte == b'"')), 1 << at);
        }
    }
}
