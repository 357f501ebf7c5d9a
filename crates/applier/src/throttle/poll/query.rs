//! The throttle query, on the server that is written to.

use std::sync::Arc;

use changeling_core::actor::ExitStatus;
use futures_util::FutureExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};

use super::super::link::Link;
use super::{INTERVAL, Poll, Reading, Trouble};

/// Asks the throttle query, if there is one, each second.
pub(in super::super) async fn poll_query(mut poll: Poll, link: Arc<Link>) -> ExitStatus {
    let mut asked: Option<Arc<str>> = None;
    let mut trouble = Trouble::new("throttle-query");
    loop {
        let query = poll.limits.borrow_and_update().query.clone();
        if asked != query {
            asked.clone_from(&query);
            trouble = Trouble::new("throttle-query");
        }
        if let Some(query) = query {
            let positive = ask(&link, &query, &mut trouble).await;
            if !poll.report(Reading::Query { query, positive }).await {
                return ExitStatus::DownstreamClosed;
            }
        }
        poll.rest(INTERVAL).await;
    }
}

/// Errors are logged and otherwise ignored, as gh-ost does: the query is about something else than whether it
/// can be asked.
async fn ask(link: &Link, query: &Arc<str>, trouble: &mut Trouble) -> bool {
    let answer = link
        .ask("ask the throttle query", |conn| {
            let query = Arc::clone(query);
            async move { conn.query_first::<Row, _>(&*query).await }.boxed()
        })
        .await;
    let error = match answer {
        Ok(row) => match row.as_ref().and_then(|row| row.as_ref(0)).map(number) {
            Some(Some(number)) => {
                trouble.over();
                return number > 0.0;
            }
            Some(None) => "it did not answer with a number".to_owned(),
            None => "it answered with no row".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    trouble.failed(&error);
    false
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Float(number) => Some(f64::from(*number)),
        Value::Double(number) => Some(*number),
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}
