//! From events to whole transactions: the state of a stream between two events.
//!
//! Invariants:
//! * `position` stands between two transactions and moves only at the end of one.
//! * Row changes come out in the order of their transactions' ends; those of a prepared XA transaction when
//!   it is decided.
//! * An event that is not understood is an error, unless it says itself that it may be passed over.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes as Shared;
use changeling_core::change::Change;
use changeling_core::coords::{Coordinates, FilePos, Gtid, Gtids, MariaGtid};
use changeling_core::marker::Marker;

use super::compressed::{self, Payload};
use super::event::{self, Checksum, Event, Format, Xid, kind};
use super::plan::{Plan, Target};
use super::row::RowsHead;
use super::statement::{Meaning, Query, meaning};
use super::table_map::TableMap;
use super::watched::Watched;
use super::witness::Witness;
use crate::error::{ErrorKind, StreamError};

mod changelog;
mod place;
mod xa;

use changelog::marker;

/// How many table maps are remembered between transactions.
const MAX_TABLES: usize = 4096;
/// How much of a statement a change carries.
const MAX_STATEMENT: usize = 500;

/// Bounds that come from the settings.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) prepared_bytes: usize,
    pub(crate) uncompressed_bytes: usize,
    pub(crate) known_prepared: Vec<Vec<u8>>,
}

/// Changes in the order they are delivered, and how much of them belongs to whole transactions.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) changes: Vec<Change>,
    pub(crate) bytes: usize,
    whole: (usize, usize),
}

impl Ready {
    fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }

    fn mark_whole(&mut self) {
        self.whole = (self.changes.len(), self.bytes);
    }

    fn drop_unfinished(&mut self) {
        self.changes.truncate(self.whole.0);
        self.bytes = self.whole.1;
    }

    pub(crate) fn take(&mut self) -> (Vec<Change>, usize) {
        self.whole = (0, 0);
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.bytes))
    }
}

/// A transaction whose end was not read yet.
#[derive(Debug, Default)]
struct Open {
    gtid: Option<AnyGtid>,
    /// Between a beginning and an end; otherwise a single statement is to come.
    framed: bool,
    /// It will be prepared under this name; until its decision the changes wait in `held`.
    xa: Option<Xid>,
    held: Vec<Change>,
    held_bytes: usize,
    /// Full images were read, whose undoing by a rollback nobody could tell.
    full_images: bool,
}

#[derive(Clone, Debug)]
enum AnyGtid {
    MySql(Gtid),
    MariaDb(MariaGtid),
}

/// The changes of a prepared XA transaction.
#[derive(Debug)]
struct Prepared {
    changes: Vec<Change>,
    bytes: usize,
    /// Where a stream has to start to read the transaction again.
    before: Coordinates,
    order: u64,
}

/// What a table id stands for.
#[derive(Debug)]
struct KnownTable {
    /// The table map, without id and flags. Row events are read by `plan` while this stays the same.
    map: Box<[u8]>,
    plan: Option<Arc<Plan>>,
}

/// Events under way from a transaction payload.
#[derive(Debug)]
struct Inner {
    events: Shared,
    /// The payload itself, in the log.
    witness: Witness,
}

/// What happened to the stream's position with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Inside of a transaction, or nothing of importance.
    Within,
    /// A transaction came to its end.
    Ended,
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Transactions {
    watched: Watched,
    bounds: Bounds,
    checksum: Option<Checksum>,
    /// The server is MariaDB, by its format description.
    maria: bool,
    /// File that is being read, and the end of the last event in it, in 64 bits.
    file: String,
    end: u64,
    /// The last event did not say where it ends, so `end` may be short of the texts of statements, which are not sent.
    unplaced: bool,
    /// The end of the last whole transaction.
    position: Coordinates,
    /// The event at that end, or the last before it that was read.
    witness: Witness,
    tables: HashMap<u64, KnownTable>,
    open: Option<Open>,
    inner: Option<Inner>,
    prepared: HashMap<Xid, Prepared>,
    prepared_bytes: usize,
    prepared_count: u64,
    pub(crate) ready: Ready,
    pub(crate) transactions: u64,
}

impl Transactions {
    pub(crate) fn new(watched: Watched, bounds: Bounds, at: Coordinates) -> Self {
        Self {
            watched,
            bounds,
            checksum: None,
            maria: false,
            file: at.file.file.clone(),
            end: at.file.pos,
            unplaced: false,
            position: at,
            witness: Witness::default(),
            tables: HashMap::new(),
            open: None,
            inner: None,
            prepared: HashMap::new(),
            prepared_bytes: 0,
            prepared_count: 0,
            ready: Ready::default(),
            transactions: 0,
        }
    }

    /// Where the next connection has to start: the end of the last whole transaction. Prepared ones are in
    /// memory.
    pub(crate) fn position(&self) -> &Coordinates {
        &self.position
    }

    /// The end of the last event that was read.
    pub(crate) fn read_to(&self) -> FilePos {
        FilePos {
            file: self.file.clone(),
            pos: self.end,
        }
    }

    /// What the server must still have if its log is the one that was read so far.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Where another stream would have to start to miss nothing that is not in `ready`.
    pub(crate) fn upto(&self) -> Coordinates {
        let earliest = self.prepared.values().min_by_key(|prepared| prepared.order);
        earliest
            .map_or(&self.position, |prepared| &prepared.before)
            .clone()
    }

    pub(crate) fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// Whether no transaction is half read.
    pub(crate) fn is_between(&self) -> bool {
        self.open.is_none()
    }

    /// Forgets the half-read transaction: the next event comes from a new connection that starts at
    /// [`Self::position`].
    pub(crate) fn reconnected(&mut self) {
        self.ready.drop_unfinished();
        self.open = None;
        self.inner = None;
        self.checksum = None;
        self.tables.clear();
        self.file.clone_from(&self.position.file.file);
        self.end = self.position.file.pos;
    }

    /// Takes the next event as the server sent it.
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> Result<Progress, StreamError> {
        self.take_outer(bytes)
            .map_err(|error| error.at(|| format!("in {} before {}", self.file, self.end)))
    }

    /// Whether events of a payload wait; they come before the next one of the connection.
    pub(crate) fn has_inner(&self) -> bool {
        self.inner.is_some()
    }

    /// Takes the next event of a payload.
    pub(crate) fn accept_inner(&mut self) -> Result<Progress, StreamError> {
        let progress = self
            .take_inner()
            .map_err(|error| error.at(|| format!("in a payload in {} before {}", self.file, self.end)))?;
        if let (Progress::Ended, Some(inner)) = (progress, &self.inner) {
            self.witness.clone_from(&inner.witness);
        }
        Ok(progress)
    }

    fn take_outer(&mut self, bytes: &[u8]) -> Result<Progress, StreamError> {
        let event = match self.checksum {
            Some(checksum) => Event::parse(bytes, checksum)?,
            None => Event::parse_first(bytes)?,
        };
        self.advance(&event)?;
        let progress = self.take(&event)?;
        if progress == Progress::Ended {
            self.witness.note(&self.file, self.end, bytes);
        } else if let Some(inner) = &mut self.inner {
            inner.witness.note(&self.file, self.end, bytes);
        }
        Ok(progress)
    }

    fn take_inner(&mut self) -> Result<Progress, StreamError> {
        let Some(mut inner) = self.inner.take() else {
            return Ok(Progress::Within);
        };
        let payload = Payload::Plain(&inner.events);
        let Some(bytes) = payload.events().next().transpose()? else {
            return match self.open {
                None => Ok(Progress::Within),
                Some(_) => Err(corrupt("a transaction payload ends before its transaction")),
            };
        };
        let bytes = inner.events.slice_ref(bytes);
        inner.events = inner.events.slice(bytes.len()..);
        self.inner = Some(inner);
        let event = Event::parse(&bytes, Checksum::Off)?;
        match event.header.kind {
            kind::QUERY
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::ROWS_QUERY
            | kind::TABLE_MAP
            | kind::XID
            | kind::XA_PREPARE
            | kind::WRITE_ROWS..=kind::DELETE_ROWS
            | kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
            | kind::PARTIAL_UPDATE_ROWS => self.take(&event),
            kind if event.header.is_ignorable() => {
                tracing::debug!(kind, "ignorable event in a transaction payload");
                Ok(Progress::Within)
            }
            other => Err(corrupt(format!(
                "an event of type {other} inside of a transaction payload"
            ))),
        }
    }

    fn take(&mut self, event: &Event<'_>) -> Result<Progress, StreamError> {
        if let Some(head) = RowsHead::of(event.header.kind) {
            return self.rows(head, event.body);
        }
        if let Some(inner) = compressed::maria_inner(event.header.kind) {
            return self.maria_compressed(inner, event);
        }
        match event.header.kind {
            kind::TABLE_MAP => self.table_map(event.body),
            kind::QUERY => self.query(event.body, false),
            kind::EXECUTE_LOAD_QUERY => self.query(event.body, true),
            kind::XID => Ok(self.finish()),
            kind::GTID | kind::GTID_TAGGED | kind::ANONYMOUS_GTID => {
                let gtid = event::gtid(event)?.map(AnyGtid::MySql);
                self.begin(Open {
                    gtid,
                    ..Open::default()
                })
            }
            kind::MARIA_GTID => {
                let begin = event::maria_gtid(event)?;
                let gtid = Some(AnyGtid::MariaDb(begin.gtid));
                self.begin(Open {
                    gtid,
                    framed: !begin.standalone,
                    xa: begin.prepares,
                    ..Open::default()
                })
            }
            kind::TRANSACTION_PAYLOAD => self.payload(event),
            kind::XA_PREPARE => self.xa_prepare(event.body),
            kind::FORMAT_DESCRIPTION => {
                let format = Format::read(event.body)?;
                self.checksum = Some(format.checksum);
                self.maria = format.maria;
                self.abandon()
            }
            kind::ROTATE => self.rotate(event.body),
            kind::MARIA_START_ENCRYPTION if self.checksum != Some(Checksum::Crc32) => Err(StreamError::new(
                ErrorKind::Unsupported,
                "the binary log is encrypted and without checksums, so that nobody can tell whether the \
                 server decrypts what it sends",
            )),
            // Encrypted content that is sent as it is fails the checksum of the very next event.
            kind::MARIA_START_ENCRYPTION => Ok(Progress::Within),
            kind::INCIDENT => Err(StreamError::new(ErrorKind::Incident, incident(event.body))),
            kind::STOP
            | kind::INTVAR
            | kind::APPEND_BLOCK
            | kind::DELETE_FILE
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::IGNORABLE
            | kind::ROWS_QUERY
            | kind::PREVIOUS_GTIDS
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::MARIA_ANNOTATE_ROWS
            | kind::MARIA_BINLOG_CHECKPOINT
            | kind::MARIA_GTID_LIST => Ok(Progress::Within),
            _ if event.header.is_ignorable() => Ok(Progress::Within),
            other => Err(StreamError::new(
                ErrorKind::Unknown,
                format!(
                    "an event of the unknown type {other}, {} bytes long",
                    event.header.size
                ),
            )),
        }
    }

    fn begin(&mut self, open: Open) -> Result<Progress, StreamError> {
        if self.open.as_ref().is_some_and(|open| open.framed) {
            return Err(corrupt("a transaction begins before the end of another one"));
        }
        // A GTID that nothing followed: its transaction was empty.
        let progress = if self.open.is_some() {
            self.finish()
        } else {
            Progress::Within
        };
        self.open = Some(open);
        Ok(progress)
    }

    fn payload(&mut self, event: &Event<'_>) -> Result<Progress, StreamError> {
        let events = match compressed::payload(event.body, self.bounds.uncompressed_bytes)? {
            Payload::Plain(content) => Shared::copy_from_slice(content),
            Payload::Unpacked(unpacked) => unpacked.into(),
        };
        if self.open.is_none() {
            self.open = Some(Open::default());
        }
        self.inner = Some(Inner {
            events,
            witness: Witness::default(),
        });
        Ok(Progress::Within)
    }

    fn maria_compressed(&mut self, inner: u8, event: &Event<'_>) -> Result<Progress, StreamError> {
        if let Some(head) = RowsHead::of(inner) {
            if self.plan_of(event.body)?.is_none() {
                return Ok(Progress::Within);
            }
            let body = compressed::maria_body(inner, event.body, self.bounds.uncompressed_bytes)?;
            return self.rows(head, &body);
        }
        let body = compressed::maria_body(inner, event.body, self.bounds.uncompressed_bytes)?;
        self.query(&body, false)
    }

    fn table_map(&mut self, body: &[u8]) -> Result<Progress, StreamError> {
        let id = RowsHead::table_id(body)?;
        let map = body.get(8..).ok_or(super::bytes::Truncated)?;
        // An id is given to another table or definition after DDL, a restart or a rotation: compare it all.
        if self.tables.get(&id).is_some_and(|known| *known.map == *map) {
            return Ok(Progress::Within);
        }
        let parsed = TableMap::read(body)?;
        debug_assert_eq!(parsed.id, id);
        let plan = self.watched.plan(&parsed)?;
        self.tables.insert(
            id,
            KnownTable {
                map: map.into(),
                plan,
            },
        );
        Ok(Progress::Within)
    }

    fn plan_of(&self, body: &[u8]) -> Result<Option<Arc<Plan>>, StreamError> {
        /// Ends a statement, with no rows of its own.
        const NO_TABLE: u64 = 0xff_ffff;
        let id = RowsHead::table_id(body)?;
        match self.tables.get(&id) {
            Some(known) => Ok(known.plan.clone()),
            None if id == NO_TABLE => Ok(None),
            None => Err(corrupt(format!(
                "rows of table id {id}, for which there is no table map"
            ))),
        }
    }

    fn rows(&mut self, head: RowsHead, body: &[u8]) -> Result<Progress, StreamError> {
        let Some(plan) = self.plan_of(body)? else {
            return Ok(Progress::Within);
        };
        let open = self.open.get_or_insert_default();
        open.framed = true;
        let Self {
            ready,
            bounds,
            prepared_bytes,
            ..
        } = self;
        head.read(&plan, body, |row| {
            let change = match plan.target {
                Target::Watch(watch) => {
                    open.full_images |= plan.whole;
                    Change::Row { watch, row }
                }
                Target::Changelog => match marker(&row) {
                    Some(Marker::Heartbeat(heartbeat)) => Change::Heartbeat(heartbeat),
                    Some(Marker::Sentinel(sentinel)) => Change::Sentinel(sentinel),
                    None => return Ok(()),
                },
            };
            if open.xa.is_none() {
                ready.push(change);
                return Ok(());
            }
            open.held_bytes += change.bytes();
            open.held.push(change);
            if *prepared_bytes + open.held_bytes > bounds.prepared_bytes {
                let message = format!(
                    "the rows of undecided XA transactions take more than max_prepared_bytes = {}",
                    bounds.prepared_bytes
                );
                return Err(StreamError::new(ErrorKind::Limit, message));
            }
            Ok(())
        })
        .map_err(|error| name_table(error, &plan, &self.watched))?;
        Ok(Progress::Within)
    }

    fn query(&mut self, body: &[u8], load: bool) -> Result<Progress, StreamError> {
        let query = Query::read(body, load)?;
        match meaning(&query, &self.watched) {
            Meaning::Begin => {
                self.open.get_or_insert_default().framed = true;
                Ok(Progress::Within)
            }
            Meaning::Commit => Ok(self.finish()),
            Meaning::Rollback => {
                self.refuse_undone()?;
                Ok(self.finish())
            }
            Meaning::RollbackTo => self.refuse_undone().map(|()| Progress::Within),
            Meaning::Savepoint | Meaning::XaEnd => Ok(Progress::Within),
            Meaning::XaStart(xid) => {
                let open = self.open.get_or_insert_default();
                open.framed = true;
                open.xa = Some(xid);
                Ok(Progress::Within)
            }
            Meaning::XaCommit(xid) => self.xa_commit(&xid),
            Meaning::XaRollback(xid) => {
                self.take_prepared(&xid);
                Ok(self.finish())
            }
            Meaning::Touches(touched) => {
                let statement = shortened(query.text);
                for (table, kind) in touched {
                    self.ready.push(Change::Ddl {
                        table,
                        statement: statement.clone(),
                        kind,
                    });
                }
                let framed = self.open.as_ref().is_some_and(|open| open.framed);
                Ok(if framed { Progress::Within } else { self.finish() })
            }
        }
    }

    /// Transactions end with `ROLLBACK` in the log, or undo a part, if they changed tables that cannot be
    /// rolled back. Which of their rows stand then depends on the engines. Whoever only learns keys reads
    /// the row again and is right either way; whoever gets images would be told untruths.
    fn refuse_undone(&self) -> Result<(), StreamError> {
        if self.open.as_ref().is_some_and(|open| open.full_images) {
            return Err(StreamError::new(
                ErrorKind::Unsupported,
                "a transaction with rows of a watched table was rolled back in the log because it also \
                 changed a table that cannot be; its row images cannot be trusted",
            ));
        }
        Ok(())
    }

    /// The end of a transaction was read: the position moves behind it.
    fn finish(&mut self) -> Progress {
        match (
            self.open.take().and_then(|open| open.gtid),
            &mut self.position.gtids,
        ) {
            (Some(AnyGtid::MySql(gtid)), Gtids::MySql(known)) => known.add(&gtid),
            (Some(AnyGtid::MariaDb(gtid)), Gtids::MariaDb(known)) => known.add(gtid),
            _ => {}
        }
        if self.position.file.file != self.file {
            self.position.file.file.clone_from(&self.file);
        }
        self.position.file.pos = self.end;
        self.ready.mark_whole();
        self.transactions += 1;
        if self.tables.len() > MAX_TABLES {
            self.tables.clear();
        }
        Progress::Ended
    }
}

fn corrupt(what: impl Into<String>) -> StreamError {
    StreamError::new(ErrorKind::Corrupt, what)
}

fn name_table(error: StreamError, plan: &Plan, watched: &Watched) -> StreamError {
    match plan.target {
        Target::Watch(number) => match watched.watches().get(number) {
            Some(watch) => error.about(&watch.table.to_string()),
            None => error,
        },
        Target::Changelog => error.about("the changelog table"),
    }
}

fn shortened(statement: &[u8]) -> String {
    let text = String::from_utf8_lossy(statement);
    match text.char_indices().nth(MAX_STATEMENT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

fn incident(body: &[u8]) -> String {
    let text = body.get(3..).map(String::from_utf8_lossy).unwrap_or_default();
    format!("the server recorded an incident: {text}")
}
