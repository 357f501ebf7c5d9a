//! What the benchmarks share: a server, a table of sysbench's shape, writers at a steady pace, the real binary with its
//! memory watched, and a table to print.
//!
//! Each benchmark measures a limit or a peer in the same run and says how much of it is reached. Run one with
//! `cargo bench -p changeling-benches --bench migration`. Every size is a variable of the environment:
//!
//! | variable | default | of |
//! | --- | --- | --- |
//! | `CHANGELING_BENCH_FLAVOR` | `mysql` | all: `mysql` or `mariadb` |
//! | `CHANGELING_BENCH_DURABILITY` | `full` | all: `full` (every commit reaches the disk) or `relaxed` |
//! | `CHANGELING_BENCH_BUFFER_POOL_MIB` | 1024 | all |
//! | `CHANGELING_BENCH_SERVER_OPTIONS` | | all: more options of the server, separated by spaces |
//! | `CHANGELING_BENCH_ROWS` | 100000 | all: rows of the table; `diff`: 1000000 |
//! | `CHANGELING_BENCH_ROUNDS` | 3 | all: repetitions, of which the median counts |
//! | `CHANGELING_BENCH_KEYS` | 10000 | `sync_cycle`: dirty keys of a round |
//! | `CHANGELING_BENCH_RATES` | `300,600,1000` | `migration`: write transactions a second, four row changes each |
//! | `CHANGELING_BENCH_LOAD_ROUNDS` | 1 | `migration`: repetitions at each rate |
//! | `CHANGELING_BENCH_CONNECTIONS` | 16 | `migration`: sessions of the writers |
//! | `CHANGELING_BENCH_CALM_SECONDS` | 5 | `migration`: how long writers are watched before the migration |
//! | `CHANGELING_BENCH_LONGEST_SECONDS` | 300 | `migration`: a migration that takes longer has not finished |
//! | `CHANGELING_BENCH_FLAGS` | | `migration`: more flags of the binary, separated by spaces |
//! | `CHANGELING_BENCH_BINARY` | built | `migration`, `diff`: the binary, where it shall not be built anew |

pub mod customers;
pub mod parameter;
pub mod report;
pub mod stage;
pub mod statements;
pub mod sysbench;
pub mod tool;
pub mod writers;

/// Whether this run is to measure: `cargo bench` says so, `cargo test --benches` does not.
#[must_use]
pub fn is_asked_for() -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("nothing measured: start it with `cargo bench`");
    }
    asked
}
