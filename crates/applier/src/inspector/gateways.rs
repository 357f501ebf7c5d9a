//! By which other objects a table can be changed: views over it, and tables whose triggers write it.
//!
//! Rows in the binary log tell whose they are. A change that is logged as text (a session may choose that at any time)
//! tells only what it named. So everything whose definition names the table is found, and everything that names
//! that, through views, triggers and routines. A name counts wherever it stands and whatever schema it belongs to: one
//! object too many costs a stop where a statement was logged as text, one too few costs rows.
//!
//! What the account may not see (`SHOW VIEW`, `TRIGGER`) is not found.

use changeling_core::ident::TableName;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::server::{Server, ServerError};

/// Who holds statements: `CARRIER_SCHEMA`, `CARRIER` (for a trigger its table) and the text.
const HOLDERS: [&str; 3] = [
    "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS \
     WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')",
    "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS \
     WHERE EVENT_OBJECT_SCHEMA <> 'sys'",
    "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES \
     WHERE ROUTINE_SCHEMA NOT IN ('sys', 'mysql')",
];

struct Holder {
    name: TableName,
    text: String,
}

/// Everything that leads to `table`, the table itself aside.
pub(super) async fn of(
    server: &Server,
    conn: &mut Conn,
    table: &TableName,
) -> Result<Vec<TableName>, ServerError> {
    let doing = format!("look for views and triggers over {table}");
    let mut holders = Vec::new();
    for sql in HOLDERS {
        let rows: Vec<(String, String, Option<String>)> =
            conn.query(sql).await.map_err(server.failed(&doing))?;
        holders.extend(rows.into_iter().map(|(schema, name, text)| Holder {
            name: TableName::new(schema, name),
            text: text.unwrap_or_default().to_lowercase(),
        }));
    }
    Ok(leading_to(table, holders))
}

/// Adds who names what is already known to lead there, until nobody is left who does.
fn leading_to(table: &TableName, mut holders: Vec<Holder>) -> Vec<TableName> {
    let fold = |name: &TableName| (name.schema.to_lowercase(), name.table.to_lowercase());
    let mut found: Vec<TableName> = Vec::new();
    let mut to_follow = vec![table.table.to_lowercase()];
    while let Some(name) = to_follow.pop() {
        let (leading, rest): (Vec<Holder>, Vec<Holder>) =
            holders.into_iter().partition(|holder| names(&holder.text, &name));
        holders = rest;
        for holder in leading {
            to_follow.push(holder.name.table.to_lowercase());
            // Its own triggers. A view of the same name in another schema does lead to it.
            if fold(&holder.name) != fold(table) {
                found.push(holder.name);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether a text names something: the name stands in it, and not as a part of a longer word.
fn names(text: &str, name: &str) -> bool {
    let within = |character: char| character.is_alphanumeric() || character == '_' || character == '$';
    let escaped = name.replace('`', "``");
    text.match_indices(&escaped).any(|(at, found)| {
        let before = text[..at].chars().next_back().is_some_and(within);
        let after = text[at + found.len()..].chars().next().is_some_and(within);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, text: &str) -> Holder {
        Holder {
            name: TableName::new("shop", name),
            text: text.to_lowercase(),
        }
    }

    fn found(holders: Vec<Holder>) -> Vec<String> {
        let found = leading_to(&TableName::new("shop", "Orders"), holders);
        found.into_iter().map(|name| name.table).collect()
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let chain = vec![
            holder("counters", "begin call note_order(new.id); end"),
            holder("note_order", "insert into `shop`.`orders` values (x)"),
            holder("every_order", "select * from `shop`.`ORDERS`"),
            holder("recent", "select * from every_order where day > 1"),
        ];
        assert_eq!(found(chain), ["counters", "every_order", "note_order", "recent"]);
    }

    #[test]
    fn a_part_of_a_word_is_no_name() {
        let others = vec![
            holder("a", "select * from orders_2024"),
            holder("b", "select * from reorders"),
            holder("c", "select * from orders$x"),
        ];
        assert!(found(others).is_empty());
    }

    #[test]
    fn a_view_of_the_same_name_elsewhere_was_left_out() {
        let view = Holder {
            name: TableName::new("app", "orders"),
            text: "select * from `shop`.`orders`".to_owned(),
        };
        assert_eq!(found(vec![view]), ["orders"]);
    }

    #[test]
    fn triggers_of_the_table_itself_do_not_count() {
        assert!(
            found(vec![holder(
                "orders",
                "set new.total = (select max(id) from orders)"
            )])
            .is_empty()
        );
    }
}
