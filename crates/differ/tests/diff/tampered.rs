//! A side that does what a test wants at some calls, and is the real one otherwise.

use std::sync::Arc;

use changeling_core::ident::TableName;
use changeling_differ::engine::DiffSubject;
use changeling_differ::model::{Key, NodeName};
use changeling_differ::range::KeyRange;
use changeling_differ::side::{
    Canceller, Digested, FetchedRow, KeyDigest, Mark, RowVersion, ServerPlans, Session, Side, SideError,
    SideErrorKind, SideIdentity, Vitals,
};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

/// What is done at some of a session's calls, of whichever session.
pub(crate) trait Tamper: Send + Sync + 'static {
    /// Before a range is digested, alone.
    fn digest(&self, _range: &KeyRange) -> Result<(), SideError> {
        Ok(())
    }

    /// After versions were read.
    fn versions(&self, _keys: &[Key], _versions: &mut [Option<RowVersion>]) -> Result<(), SideError> {
        Ok(())
    }
}

/// A failure of the second node.
pub(crate) fn failure(kind: SideErrorKind) -> SideError {
    SideError::new(&NodeName::new("n2"), kind, "it is broken")
}

/// The subject with its second side tampered with.
pub(crate) fn tampered(mut subject: DiffSubject, tamper: Arc<dyn Tamper>) -> DiffSubject {
    let side = Arc::clone(&subject.sides[1]);
    subject.sides[1] = Arc::new(Tampered { side, tamper });
    subject
}

struct Tampered {
    side: Arc<dyn Side>,
    tamper: Arc<dyn Tamper>,
}

struct TamperedSession {
    session: Box<dyn Session>,
    tamper: Arc<dyn Tamper>,
}

impl Side for Tampered {
    fn node(&self) -> &NodeName {
        self.side.node()
    }

    fn table(&self) -> &TableName {
        self.side.table()
    }

    fn identity(&self) -> SideIdentity {
        self.side.identity()
    }

    fn estimate(&self) -> f64 {
        self.side.estimate()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, SideError>> {
        Box::pin(async move {
            let session: Box<dyn Session> = Box::new(TamperedSession {
                session: self.side.connect().await?,
                tamper: Arc::clone(&self.tamper),
            });
            Ok(session)
        })
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Box<dyn Vitals>, SideError>> {
        self.side.vitals()
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        self.side.statements()
    }

    fn is_still_all(&self) -> BoxFuture<'_, Result<Option<String>, SideError>> {
        self.side.is_still_all()
    }

    fn plans(&self) -> BoxFuture<'_, Result<ServerPlans, SideError>> {
        self.side.plans()
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, SideError>>;

impl Session for TamperedSession {
    fn step<'a>(&'a mut self, range: &'a KeyRange, rows: u64) -> Answer<'a, Option<Key>> {
        self.session.step(range, rows)
    }

    fn cuts<'a>(&'a mut self, range: &'a KeyRange, every: u64, limit: u64) -> Answer<'a, Vec<Key>> {
        self.session.cuts(range, every, limit)
    }

    fn digest<'a>(&'a mut self, range: &'a KeyRange, cap: u64) -> Answer<'a, Digested> {
        Box::pin(async move {
            self.tamper.digest(range)?;
            self.session.digest(range, cap).await
        })
    }

    fn key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> Answer<'a, BoxStream<'a, Result<KeyDigest, SideError>>> {
        self.session.key_digests(range)
    }

    fn rows<'a>(&'a mut self, keys: &'a [Key]) -> Answer<'a, BoxStream<'a, Result<FetchedRow, SideError>>> {
        self.session.rows(keys)
    }

    fn versions<'a>(&'a mut self, keys: &'a [Key]) -> Answer<'a, Option<Vec<Option<RowVersion>>>> {
        Box::pin(async move {
            let mut versions = self.session.versions(keys).await?;
            self.tamper
                .versions(keys, versions.as_deref_mut().unwrap_or_default())?;
            Ok(versions)
        })
    }

    fn mark(&mut self) -> Answer<'_, Option<Mark>> {
        self.session.mark()
    }

    fn passed<'a>(&'a mut self, marks: &'a [Mark]) -> Answer<'a, bool> {
        self.session.passed(marks)
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        self.session.canceller()
    }
}
