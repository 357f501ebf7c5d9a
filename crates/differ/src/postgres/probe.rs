//! Whether the nodes hash alike: asked of each before anything is compared.

use crate::side::SideError;

use super::connect::PgConnection;
use super::plan::RowHash;
use super::statement::int8_hash;

/// Texts of lengths around the hash's block of twelve bytes.
const VECTOR: &str =
    "'', 'a', 'abcdefghijk', 'abcdefghijkl', 'abcdefghijklm', '0123456789012345678901234567890123456789'";

/// One that is not ASCII, for databases that can hold it.
const FOREIGN: &str = ", 'Zürich – 東京'";

/// Numbers whose halves and signs differ.
const NUMBERS: &str = "0, 1, -1, 2147483647, -2147483648, 4294967296, 9223372036854775807";

/// How the nodes' databases write texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// All in UTF-8.
    Utf8,
    /// All in the same other way.
    Alike,
    /// In different ways: what is hashed is what is stored, so a text that is not ASCII hashes differently.
    Mixed,
}

/// What a node makes of the probe vector.
pub(super) async fn fingerprint(
    connection: &mut PgConnection,
    hash: RowHash,
    seed: i64,
    encoding: Encoding,
) -> Result<String, SideError> {
    let foreign = match encoding {
        Encoding::Utf8 => FOREIGN,
        Encoding::Alike | Encoding::Mixed => "",
    };
    let each = match hash {
        RowHash::Chained => format!(
            "pg_catalog.hashtextextended(v COLLATE \"C\", pg_catalog.hashtextextended(v COLLATE \"C\", ({seed})::int8))::text"
        ),
        RowHash::Sha256 => {
            "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(v, 'UTF8')), 'hex')".to_owned()
        }
    };
    let numbers = match hash {
        RowHash::Chained => int8_hash("v", &format!("({seed})::int8")),
        RowHash::Sha256 => "v".to_owned(),
    };
    let text = format!(
        "SELECT (SELECT pg_catalog.string_agg({each}, ',' ORDER BY n) \
         FROM pg_catalog.unnest(ARRAY[{VECTOR}{foreign}]::text[]) WITH ORDINALITY AS u(v, n)) || ' ' || \
         (SELECT pg_catalog.string_agg(({numbers})::text, ',' ORDER BY n) \
         FROM pg_catalog.unnest(ARRAY[{NUMBERS}]::int8[]) WITH ORDINALITY AS u(v, n))"
    );
    let row = connection
        .patient(connection.client().query_one(&text, &[]))
        .await?;
    Ok(row.get(0))
}
