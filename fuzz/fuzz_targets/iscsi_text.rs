//! Login text: no bytes panic the parser, and the pairs that it found can be written and found again.
#![no_main]

use iscsi::text::Text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = Text::parse(bytes) else { return };
    let again = Text::parse(text.as_bytes()).expect("what was written can be read");
    assert!(text.iter().eq(again.iter()));
});
