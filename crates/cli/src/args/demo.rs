//! `changeling demo`: a migration to watch, on a server of its own.

use clap::{Args, ValueEnum};

/// Watch a migration of a busy table, on a server of its own.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(
    about = "Watch a migration of a busy table, on a server of its own",
    long_about = "Starts a database server in a temporary directory, fills a table, lets writers change it all the \
                  time, migrates it under them, and compares every row of the result with what the writers \
                  committed. Needs no server, no login and no root. Ctrl-C ends it and removes the server."
)]
pub struct DemoArgs {
    /// Rows of the table at the start.
    #[arg(long, default_value_t = 500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rows: u64,
    /// Sessions that write to it meanwhile.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    pub writers: u16,
    /// Transactions a second that they are held to, all together; 0 for as many as they can.
    #[arg(long, default_value_t = 400, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate: u32,
    /// Kind of server.
    #[arg(long, value_enum, default_value_t = Flavor::Mysql)]
    pub flavor: Flavor,
    /// Leave the server running at the end until Ctrl-C, and say how to reach it.
    #[arg(long)]
    pub keep: bool,
}

/// Kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavor {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl std::fmt::Display for Flavor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mysql => "MySQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn demo(words: &[&str]) -> Result<DemoArgs, clap::Error> {
        let matches = DemoArgs::augment_args(Command::new("demo")).try_get_matches_from(words)?;
        DemoArgs::from_arg_matches(&matches)
    }

    #[test]
    fn a_demo_needs_no_arguments() {
        let plain = demo(&["demo"]).unwrap();
        assert_eq!(
            plain,
            DemoArgs {
                rows: 500_000,
                writers: 4,
                rate: 400,
                flavor: Flavor::Mysql,
                keep: false
            }
        );
        let full = demo(&[
            "demo",
            "--rows",
            "10",
            "--writers=0",
            "--rate=7",
            "--flavor",
            "mariadb",
            "--keep",
        ])
        .unwrap();
        assert_eq!(
            full,
            DemoArgs {
                rows: 10,
                writers: 0,
                rate: 7,
                flavor: Flavor::Mariadb,
                keep: true
            }
        );
        assert!(demo(&["demo", "--rows", "0"]).is_err());
        assert!(demo(&["demo", "--flavor", "postgres"]).is_err());
    }
}
