//! One event of any type and content, in the middle of a recorded log.

#![no_main]

mod watch;

use libfuzzer_sys::fuzz_target;

const MYSQL: &[u8] = include_bytes!("../../crates/streamer/tests/data/mysql-9.7.binlog");
const MARIADB: &[u8] = include_bytes!("../../crates/streamer/tests/data/mariadb-10.11.binlog");

fuzz_target!(|data: &[u8]| {
    let [choice, place, rest @ ..] = data else { return };
    let mut replay = watch::replay(*choice);
    let mut log = if choice & 4 != 0 { &MARIADB[4..] } else { &MYSQL[4..] };
    for _ in 0..*place {
        let Some(size) = log.get(9..13) else { break };
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let Some((event, after)) = log.split_at_checked(size.max(19)) else { break };
        log = after;
        if replay.accept(event).is_err() {
            return;
        }
    }
    let mut event = rest.to_vec();
    watch::seal(&mut event);
    let _ = replay.accept(&event);
    let _ = replay.take();
});
