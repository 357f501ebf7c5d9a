//! `changeling tell`: commands to a running migration.

use std::path::PathBuf;

use clap::Args;

/// Tell a running migration something, or ask it how it goes.
#[derive(Clone, Debug, Args)]
#[command(
    about = "Tell a running migration something, or ask it how it goes",
    after_help = "Examples:\n  changeling tell --table shop.orders status\n  \
                  changeling tell --table shop.orders chunk-size=500 max-load=Threads_running=30\n  \
                  changeling tell --socket /tmp/my.sock unpostpone\n\nThe command help lists all commands."
)]
pub struct TellArgs {
    /// The migration's Unix socket, as its --serve-socket-file.
    #[arg(long, value_name = "PATH", required_unless_present = "table", conflicts_with_all = ["table", "database"])]
    pub socket: Option<PathBuf>,
    /// The table being migrated, as TABLE or DATABASE.TABLE, when the socket is at its default path.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// The table's database.
    #[arg(long, value_name = "DATABASE", requires = "table")]
    pub database: Option<String>,
    /// Commands, in this order: status, sup, throttle, no-throttle, unpostpone, panic, chunk-size=N, …
    #[arg(value_name = "COMMAND", required = true)]
    pub commands: Vec<String>,
}

impl TellArgs {
    /// Where the migration listens.
    ///
    /// # Errors
    /// The database is not known.
    pub fn socket_path(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let table = self.table.as_deref().unwrap_or_default();
        match (&self.database, table.split_once('.')) {
            (Some(database), _) => Ok(crate::serve::default_socket(database, table)),
            (None, Some((database, table))) => Ok(crate::serve::default_socket(database, table)),
            (None, None) => Err(format!(
                "which database is {table} in? Write --table DATABASE.{table}, or --database, or --socket PATH"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};
    use rstest::rstest;

    use super::*;

    fn tell(words: &[&str]) -> Result<TellArgs, clap::Error> {
        let matches = TellArgs::augment_args(Command::new("tell")).try_get_matches_from(words)?;
        TellArgs::from_arg_matches(&matches)
    }

    #[rstest]
    #[case(&["tell", "--socket", "/run/x", "sup"], "/run/x")]
    #[case(&["tell", "--table", "shop.orders", "sup"], "/tmp/gh-ost.shop.orders.sock")]
    #[case(&["tell", "--database", "shop", "--table", "a.b", "sup"], "/tmp/gh-ost.shop.a.b.sock")]
    fn the_socket_is_found(#[case] words: &[&str], #[case] path: &str) {
        assert_eq!(tell(words).unwrap().socket_path().unwrap(), PathBuf::from(path));
    }

    #[test]
    fn half_a_name_is_not_enough() {
        assert!(
            tell(&["tell", "--table", "orders", "sup"])
                .unwrap()
                .socket_path()
                .is_err()
        );
        assert!(tell(&["tell", "sup"]).is_err());
        assert!(tell(&["tell", "--socket", "/x"]).is_err());
    }
}
