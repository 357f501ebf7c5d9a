//! The proof on real servers.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used)]

mod concurrency;
mod faithful;
mod footprint;
mod ghost;
mod keys;
mod mutation;
mod rows;
mod shapes;
mod values;

/// Runs a test on MySQL and on the MariaDB versions, each a test of its own.
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => {
        mod on_mysql {
            $(#[tokio::test] async fn $name() -> changeling_support::Result<()> {
                let server = changeling_support::server_or_skip!(changeling_support::ServerSpec::mysql());
                super::$name(&mut crate::ghost::World::new(server).await).await;
                Ok(())
            })+
        }
        mod on_mariadb {
            $(#[tokio::test] async fn $name() -> changeling_support::Result<()> {
                let server = changeling_support::server_or_skip!(changeling_support::ServerSpec::mariadb());
                super::$name(&mut crate::ghost::World::new(server).await).await;
                Ok(())
            })+
        }
        mod on_mariadb_11_8 {
            $(#[tokio::test] async fn $name() -> changeling_support::Result<()> {
                let server = changeling_support::server_or_skip!(changeling_support::ServerSpec::mariadb_11_8());
                super::$name(&mut crate::ghost::World::new(server).await).await;
                Ok(())
            })+
        }
    };
}
pub(crate) use on_each_server;
