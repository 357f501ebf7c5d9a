//! Real database servers for tests, benchmarks and `changeling demo`.
//!
//! ```no_run
//! # async fn example() -> changeling_support::Result<()> {
//! use changeling_support::ServerSpec;
//!
//! let server = ServerSpec::mysql().option("--binlog-row-image=MINIMAL").start().await?;
//! println!("{}", server.url());
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`ServerSpec::start`] looks in this order, and the first way that works wins:
//! 1. **address**: `CHANGELING_TEST_MYSQL=mysql://user:password@host:port`, `CHANGELING_TEST_MARIADB`,
//!    `CHANGELING_TEST_POSTGRES`. Such a server is shared ([`Server::is_shared`]): use databases of your own and drop them.
//! 2. **container**: a Docker engine answers and the image that `compose.yaml` names is present or can be pulled.
//! 3. **local**: the server is installed on the machine in a version that fits.
//! 4. **packages**: packages of Debian or Ubuntu, fetched with apt and unpacked once into the cache directory; needs no root.
//!
//! `CHANGELING_SERVERS=address|container|local|packages` (or several, separated by commas) allows only these ways.
//! `CHANGELING_TEST_MYSQL_VERSION=8.4` (also `…_MARIADB_VERSION`, `…_POSTGRES_VERSION`) is the version of those servers for
//! which a test names none.
//! The cache is `$XDG_CACHE_HOME/changeling`, else `~/.cache/changeling` (root: `/var/cache/changeling`); it may be deleted at any time.
//!
//! Every server that the harness starts has a temporary directory and a free port. It is gone when the [`Server`] is
//! dropped, and also when the process dies of a panic, Ctrl-C or `kill -9`: see `reaper.rs`.

mod browser;
mod cache;
mod chosen;
mod command;
mod error;
mod fault_proxy;
mod installation;
pub mod load;
mod reaper;
mod replica;
mod server;
pub mod skip;
mod source;
mod spec;

pub use browser::Browser;
pub use error::{Result, SupportError, Unavailable};
pub use fault_proxy::{FaultProxy, Traffic};
pub use replica::{Replica, Topology, TopologySpec};
pub use server::Server;
pub use source::SourceKind;
pub use spec::{Durability, Flavor, ServerSpec, Version};
