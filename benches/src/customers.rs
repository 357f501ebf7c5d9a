//! The table of ACE's own tests: customers, an integer key and eleven more columns, nearly all of them text.

use anyhow::Result;
use tokio_postgres::Client;

/// The table.
pub const TABLE: &str = "public.customers";

/// Its columns, in order.
pub const COLUMNS: [&str; 12] = [
    "index",
    "customer_id",
    "first_name",
    "last_name",
    "company",
    "city",
    "country",
    "phone_1",
    "phone_2",
    "email",
    "subscription_date",
    "website",
];

/// Makes and fills it; the same rows on every server. About 223 bytes of text a row.
///
/// # Errors
/// The server's.
pub async fn fill(client: &Client, rows: u64) -> Result<()> {
    client
        .batch_execute(&format!(
            "CREATE TABLE {TABLE} (index int PRIMARY KEY, customer_id text, first_name text, last_name text, \
             company text, city text, country text, phone_1 text, phone_2 text, email text, \
             subscription_date timestamp, website text);
             INSERT INTO {TABLE} SELECT i, substr(md5(i::text), 1, 15), 'First' || (i % 1009), 'Last' || (i % 2003), \
             'Company ' || substr(md5((i * 7)::text), 1, 20) || ' and Sons', 'Port ' || substr(md5((i * 3)::text), 1, 12), \
             'Country ' || (i % 199), '+1-' || substr(md5((i * 5)::text), 1, 14), '001-' || substr(md5((i * 11)::text), 1, 14), \
             substr(md5((i * 13)::text), 1, 16) || '@example.org', \
             timestamp '2020-01-01' + (i % 100000) * interval '13 minutes', \
             'https://www.' || substr(md5((i * 17)::text), 1, 14) || '.example/' FROM generate_series(1, {rows}) AS i;"
        ))
        .await?;
    vacuum(client).await
}

/// Changes every `every`-th row, and only those, once; the others are as they were filled.
///
/// # Errors
/// The server's.
pub async fn spoil(client: &Client, every: u64) -> Result<()> {
    client
        .batch_execute(&format!(
            "UPDATE {TABLE} SET city = 'Atlantis' WHERE index % {every} = 0 AND city <> 'Atlantis'"
        ))
        .await?;
    vacuum(client).await
}

/// A statement of its own: it cannot share a transaction.
async fn vacuum(client: &Client) -> Result<()> {
    Ok(client
        .batch_execute(&format!("VACUUM (ANALYZE, FREEZE) {TABLE}"))
        .await?)
}
