//! GTID sets from text: no panic, and what is read is written back as the same set.

#![no_main]

use changeling_core::coords::{GtidSet, MariaGtidSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(set) = text.parse::<GtidSet>() {
        assert_eq!(set.to_string().parse::<GtidSet>().as_ref(), Ok(&set));
        assert!(set.is_superset(&set) && set.subtract(&set).is_empty());
    }
    if let Ok(set) = text.parse::<MariaGtidSet>() {
        assert_eq!(set.to_string().parse::<MariaGtidSet>().as_ref(), Ok(&set));
    }
});
