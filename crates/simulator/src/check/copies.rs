//! All copies of a write carry the same bytes (I3, I4): what comes in at the target's door is one write, whole, at its
//! own place, or zeros.
//!
//! A buffer that was used again while an older copy could still be sent from it shows here, because every block names
//! its write and its place.

use crate::stamp::{self, BlockAt, Content};

/// Looks at the data of a WRITE.
pub(crate) fn check(unit: u32, first: u64, block_size: u32, data: &[u8]) -> Result<Content, String> {
    let mut whose = None;
    for (block, lba) in data.chunks_exact(block_size as usize).zip(first..) {
        let lba = u32::try_from(lba).map_err(|_| format!("a write to block {lba}, which no client knows"))?;
        let at = BlockAt { unit, lba };
        let content = stamp::read(block, at);
        if content == Content::Garbage {
            return Err(format!("a write to {at} carries what nobody wrote there"));
        }
        match whose {
            None => whose = Some(content),
            Some(other) if other == content => {}
            Some(other) => return Err(format!("a write to {at} carries {content:?} and {other:?}")),
        }
    }
    Ok(whose.unwrap_or(Content::Zero))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::WriteId;

    #[test]
    fn a_buffer_that_was_used_again_is_seen() {
        let mut data = vec![0; 1024];
        for (block, lba) in data.chunks_exact_mut(512).zip(4..) {
            stamp::fill(block, BlockAt { unit: 0, lba }, WriteId(1));
        }
        assert_eq!(check(0, 4, 512, &data), Ok(Content::Write(WriteId(1))));
        stamp::fill(&mut data[512..], BlockAt { unit: 0, lba: 5 }, WriteId(2));
        assert!(check(0, 4, 512, &data).is_err());
        assert!(check(0, 5, 512, &data).is_err());
    }
}
