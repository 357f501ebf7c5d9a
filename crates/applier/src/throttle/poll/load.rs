//! `SHOW GLOBAL STATUS` of the server that is written to.

use std::collections::BTreeSet;
use std::sync::Arc;

use changeling_core::actor::ExitStatus;
use changeling_core::ident::quote_text;
use futures_util::FutureExt;
use mysql_async::prelude::Queryable;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::decision::Loads;
use super::super::link::Link;
use super::{INTERVAL, Poll, Reading, Trouble};

/// Reads the variables that have a limit, each second, and whenever it is told to look.
pub(in super::super) async fn poll_loads(mut poll: Poll, link: Arc<Link>, look: Arc<Notify>) -> ExitStatus {
    let mut trouble = Trouble::new(format!("load of {}", link.server().address()));
    loop {
        // Critical ones first: if nothing can be read, they are the ones named.
        let (critical, all) = {
            let limits = poll.limits.borrow_and_update();
            let all: BTreeSet<String> = limits
                .critical_load
                .keys()
                .chain(limits.max_load.keys())
                .cloned()
                .collect();
            (limits.critical_load.keys().cloned().collect::<Vec<_>>(), all)
        };
        let at = Instant::now();
        let loads = if all.is_empty() {
            Loads::default()
        } else {
            read(&link, &critical, &all).await
        };
        match &loads.failure {
            Some((variable, error)) => trouble.failed(&format_args!("{variable} {error}")),
            None => trouble.over(),
        }
        if !poll.report(Reading::Loads { at, loads }).await {
            return ExitStatus::DownstreamClosed;
        }
        tokio::select! {
            () = poll.rest(INTERVAL) => {}
            () = look.notified() => {}
        }
    }
}

/// All of them by one statement: the server goes through all its variables, and often all its threads, for each.
async fn read(link: &Link, critical: &[String], all: &BTreeSet<String>) -> Loads {
    let list: Vec<String> = all.iter().map(|variable| quote_text(variable)).collect();
    let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({})", list.join(", "));
    let rows = link
        .ask("read the load", |conn| {
            conn.query::<(String, String), _>(sql.clone()).boxed()
        })
        .await;
    let in_order = || critical.iter().chain(all);
    let mut loads = Loads::default();
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            loads.failure = in_order()
                .next()
                .map(|variable| (variable.clone(), error.to_string()));
            return loads;
        }
    };
    for variable in in_order() {
        // The server's spelling may differ from the operator's.
        let value = rows
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(variable))
            .map(|(_, value)| value);
        let error = match value.map(|value| value.trim().parse()) {
            Some(Ok(number)) => {
                loads.values.insert(variable.clone(), number);
                continue;
            }
            Some(Err(_)) => format!("is {:?}, not a whole number", value.map_or("", String::as_str)),
            None => format!("is no status variable of {}", link.server().address()),
        };
        loads.failure.get_or_insert((variable.clone(), error));
    }
    loads
}
