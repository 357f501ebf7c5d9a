//! A whole binary log file. Seeds: `crates/streamer/tests/data/*.binlog`.

#![no_main]

mod watch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, file)) = data.split_first() else { return };
    let mut replay = watch::replay(choice);
    let mut rest = file.get(4..).unwrap_or_default();
    while let Some(size) = rest.get(9..13) {
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let Some((event, after)) = rest.split_at_checked(size.max(19)) else { break };
        rest = after;
        let mut event = event.to_vec();
        watch::seal(&mut event);
        if replay.accept(&event).is_err() {
            break;
        }
    }
    let _ = replay.take();
});
