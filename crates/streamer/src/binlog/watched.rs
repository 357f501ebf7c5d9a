//! Which tables matter, and how names are compared.

use std::sync::{Arc, PoisonError, RwLock};

use changeling_core::change_source::{Projection, StreamSpec, Watch};
use changeling_core::ident::TableName;

use super::plan::{Plan, Target};
use super::table_map::TableMap;
use crate::error::{ErrorKind, StreamError};

/// The watch list, with the server's rule for letter case.
#[derive(Debug)]
pub(crate) struct Watched {
    watches: Vec<Watch>,
    changelog: Option<TableName>,
    /// Grows while the stream runs: a view made today is written through tomorrow.
    gateways: RwLock<Vec<TableName>>,
    /// `lower_case_table_names` is not 0.
    fold_case: bool,
}

impl Watched {
    pub(crate) fn new(spec: StreamSpec, fold_case: bool) -> Result<Self, StreamError> {
        for watch in &spec.watches {
            let Projection::Columns(columns) = &watch.projection else {
                continue;
            };
            let mut seen = columns.to_vec();
            seen.sort_unstable();
            seen.dedup();
            if seen.len() != columns.len() || seen.last().is_some_and(|last| *last >= watch.columns.len()) {
                let message = format!(
                    "the watch of {} names a column twice or one that is not there",
                    watch.table
                );
                return Err(StreamError::new(ErrorKind::Settings, message));
            }
        }
        Ok(Self {
            watches: spec.watches,
            changelog: spec.changelog,
            gateways: RwLock::new(spec.gateways),
            fold_case,
        })
    }

    pub(crate) fn watches(&self) -> &[Watch] {
        &self.watches
    }

    pub(crate) fn same(&self, left: &str, right: &str) -> bool {
        left == right || self.fold_case && left.to_lowercase() == right.to_lowercase()
    }

    /// The watched table of this name.
    pub(crate) fn find(&self, schema: &str, table: &str) -> Option<&TableName> {
        let names = self.watches.iter().map(|watch| &watch.table);
        names
            .into_iter()
            .find(|name| self.same(&name.table, table) && self.same(&name.schema, schema))
    }

    /// Whether who changes this, which is no watched table, may change one.
    pub(crate) fn is_gateway(&self, schema: &str, name: &str) -> bool {
        let gateways = self.gateways.read().unwrap_or_else(PoisonError::into_inner);
        gateways
            .iter()
            .any(|gateway| self.same(&gateway.table, name) && self.same(&gateway.schema, schema))
    }

    /// From now on, who changes this may change a watched table.
    pub(crate) fn add_gateway(&self, schema: String, name: String) {
        if self.find(&schema, &name).is_none() && !self.is_gateway(&schema, &name) {
            let mut gateways = self.gateways.write().unwrap_or_else(PoisonError::into_inner);
            gateways.push(TableName::new(schema, name));
        }
    }

    /// What to do with the rows that follow a table map; `None` is to skip them unread.
    pub(crate) fn plan(&self, map: &TableMap<'_>) -> Result<Option<Arc<Plan>>, StreamError> {
        let is = |name: &TableName| self.is(&name.table, map.table) && self.is(&name.schema, map.schema);
        if self.changelog.as_ref().is_some_and(is) {
            return Plan::of_changelog(map).map(|plan| Some(Arc::new(plan)));
        }
        let found = self
            .watches
            .iter()
            .enumerate()
            .find(|(_, watch)| is(&watch.table));
        match found {
            Some((number, watch)) if watch.projection != Projection::StatementsOnly => {
                let plan = Plan::of_watch(number, watch, map)?;
                debug_assert_eq!(plan.target, Target::Watch(number));
                Ok(Some(Arc::new(plan)))
            }
            _ => Ok(None),
        }
    }

    fn is(&self, ours: &str, theirs: &[u8]) -> bool {
        ours.as_bytes() == theirs || self.fold_case && self.same(ours, &String::from_utf8_lossy(theirs))
    }
}
