//! Statements logged as text, through query events.

#![no_main]

mod watch;

use libfuzzer_sys::fuzz_target;

const MYSQL: &[u8] = include_bytes!("../../crates/streamer/tests/data/mysql-9.7.binlog");

fuzz_target!(|data: &[u8]| {
    let mut replay = watch::replay(3);
    let size = u32::from_le_bytes([MYSQL[13], MYSQL[14], MYSQL[15], MYSQL[16]]) as usize;
    replay.accept(&MYSQL[4..4 + size]).expect("a format description");
    // Thread, time, length of schema, error, length of variables: sql_mode with or without ANSI_QUOTES.
    let Some((&mode, text)) = data.split_first() else { return };
    let mut event = vec![0; 19];
    event[4] = 2;
    event.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 9, 0, 1, mode & 4, 0, mode & 16, 0, 0, 0, 0, 0]);
    event.extend_from_slice(b"r\0");
    event.extend_from_slice(text);
    event.extend_from_slice(&[0; 4]);
    watch::seal(&mut event);
    let _ = replay.accept(&event);
    let _ = replay.take();
});
