//! The masking of a client's payload (RFC 6455 §5.3).

/// The mask, rotated so that its first byte applies to the next payload byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) const fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Removes the mask from the next `bytes` of the payload.
    ///
    /// It works on eight bytes at a time, which the compiler turns into vector instructions. It does not do that for
    /// single bytes, because of the index modulo 4.
    pub(super) fn remove(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let word_mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, tail) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ word_mask).to_ne_bytes();
        }
        for (byte, mask) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
            *byte ^= mask;
        }
        self.0.rotate_left(tail.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn any_cut_gives_what_the_rfc_says() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..67).collect();
        // §5.3: transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)
        let masked: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        for first in 0..=plain.len() {
            for second in first..=plain.len() {
                let mut bytes = masked.clone();
                let mut mask = Mask::new(key);
                mask.remove(&mut bytes[..first]);
                mask.remove(&mut bytes[first..second]);
                mask.remove(&mut bytes[second..]);
                assert_eq!(bytes, plain, "cut at {first} and {second}");
            }
        }
    }
}
