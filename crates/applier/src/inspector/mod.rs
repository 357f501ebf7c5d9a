//! Looks at servers and tables before anything is created, and says everything that stands in the way at once.
//!
//! [`Inspection::begin`] checks the servers and the original table. Then the ghost table is made and altered
//! ([`crate::ghost::prepare`]), and [`Inspection::plan`] compares the two: only the server knows what an
//! ALTER makes of a table. What is refused then leaves nothing behind.

mod alter_checks;
mod binary_log;
mod column_type;
pub mod columns;
pub mod equality;
mod gateways;
pub mod keys;
mod load_limits;
mod metadata_locks;
mod names;
mod privileges;
mod problem;
mod session_plan;
mod table;
mod table_checks;
pub(crate) mod topology;
mod xa;

pub(crate) use names::lock_name;
pub use problem::{InspectError, Problem, ProblemKind, Problems};
pub use session_plan::for_definition;
pub use table::{ColumnExtra, Index, IndexPart, TableDetail, read};
pub use table_checks::ForeignKey;
pub use xa::await_prepared;

use changeling_core::ident::TableName;

use crate::alter::Alter;
use crate::plan::{MigrationPlan, SessionPlan, TableNames};
use crate::server::{Role, Server};
use crate::settings::MigrationSettings;
use crate::trigger::{self, Trigger};
use keys::{KeyRules, RowImages, Tables};

/// What is known before the ghost table is made.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whose binary log is read.
    pub source: Server,
    /// Where the tables are written.
    pub primary: Server,
    /// The ALTER, read.
    pub alter: Alter,
    /// The ALTER as it is run on the ghost table, without `ALTER TABLE …`.
    pub body: String,
    /// The ALTER for an instant attempt on the table itself: foreign keys and all, but no `ALGORITHM`.
    pub instant_body: String,
    /// Names of our tables.
    pub names: TableNames,
    /// The original table.
    pub original: TableDetail,
    /// The session in which the ghost table is defined.
    pub definition: SessionPlan,
    /// The original table's triggers.
    pub triggers: Vec<Trigger>,
    /// Which columns row events are sure to carry.
    pub images: RowImages,
    /// Views and tables by which the original may be changed.
    pub gateways: Vec<TableName>,
}

impl Inspection {
    /// Connects, and checks everything that can be checked before a table is created.
    ///
    /// # Errors
    /// Every problem found, or the server that cannot be asked.
    pub async fn begin(settings: &MigrationSettings) -> Result<Self, InspectError> {
        let mut problems = Problems::default();
        let mut alter = Alter::parse(&settings.alter);
        let topology = topology::find(settings, &mut problems).await?;
        let primary = &topology.primary;
        if primary
            .variables
            .get("sql_mode")
            .is_some_and(|mode| mode.contains("NO_BACKSLASH_ESCAPES"))
        {
            alter = Alter::parse_with(&settings.alter, false);
        }
        let alter = alter?;
        let asked = alter.target(&settings.table);
        alter_checks::check_target(&alter, &settings.table, &mut problems);
        alter_checks::check(&alter, settings.foreign_keys, &mut problems);
        columns::ask_about_renames(&alter, settings.renames, &mut problems);
        binary_log::check(&topology, settings, &mut problems);
        privileges::check(&topology, &asked.schema, &mut problems).await?;
        load_limits::check(primary, &settings.throttle, &mut problems).await?;

        let mut conn = primary.connect(Role::Inspector).await?;
        let Some(original) = read(primary, &mut conn, &asked).await? else {
            problems.add(
                ProblemKind::Table,
                format!("cannot find table {asked} on {}", primary.address()),
                "check --database and --table, and that the account may see the table",
            );
            return Err(problems.into());
        };
        table_checks::check_kind(&original, &mut problems);
        let table = &original.schema.name;
        let names = names::of(table, &settings.leftovers, jiff::Zoned::now().datetime());
        table_checks::check_names(primary, &mut conn, &names, settings, &mut problems).await?;
        let foreign_keys = table_checks::foreign_keys(primary, &mut conn, table).await?;
        table_checks::check_foreign_keys(
            primary,
            table,
            &foreign_keys,
            settings.foreign_keys,
            &alter,
            &mut problems,
        );
        let bodies = alter_checks::bodies(&alter, &foreign_keys, &mut problems);
        let triggers = trigger::read(primary, &mut conn, table).await?;
        trigger::check(
            primary,
            &mut conn,
            table,
            &triggers,
            &settings.triggers,
            &names::with_our_triggers(&names, settings),
            &mut problems,
        )
        .await?;
        if original.schema.unique_keys.is_empty() && problems.is_empty() {
            keys::no_key(&original, &mut problems);
        }
        if !topology.is_one_server() {
            Self::check_source(&topology, &original, &mut problems).await?;
        }
        let watched = [table, &names.ghost, &names.changelog];
        binary_log::check_filters(&topology, &watched, &mut problems).await?;
        if problems.is_empty() {
            metadata_locks::check(primary, settings, &mut problems).await?;
        }
        problems.into_result()?;
        let gateways = gateways::of(primary, &mut conn, table).await?;
        await_prepared(primary, settings.verify).await?;
        let (body, instant_body) = bodies.unwrap_or_default();
        Ok(Self {
            definition: for_definition(&primary.variables, settings),
            images: binary_log::images(&topology),
            source: topology.source,
            primary: topology.primary,
            names,
            alter,
            body,
            instant_body,
            original,
            triggers,
            gateways,
        })
    }

    /// The replica must have the same table: its log is read with the primary's columns.
    async fn check_source(
        topology: &topology::Topology,
        original: &TableDetail,
        problems: &mut Problems,
    ) -> Result<(), InspectError> {
        let (source, name) = (&topology.source, &original.schema.name);
        let mut conn = source.connect(Role::Inspector).await?;
        match read(source, &mut conn, name).await? {
            Some(there) => {
                let addresses = (source.address(), topology.primary.address());
                table_checks::check_same(&there, original, addresses, problems);
            }
            None => problems.add(
                ProblemKind::Table,
                format!("cannot find table {name} on {}", source.address()),
                "the replica must have the table, too",
            ),
        }
        Ok(())
    }

    /// Our names must be free, or allowed to be made free, where nothing is gone on with.
    ///
    /// # Errors
    /// Every one that is not, or the server's.
    pub(crate) async fn check_free(&self, settings: &MigrationSettings) -> Result<(), InspectError> {
        let mut problems = Problems::default();
        let mut conn = self.primary.connect(Role::Inspector).await?;
        table_checks::check_free(&self.primary, &mut conn, &self.names, settings, &mut problems).await?;
        Ok(problems.into_result()?)
    }

    /// A dry run makes a ghost table to look at it, and drops no other for that: there may be hours of copying in it.
    ///
    /// # Errors
    /// If the name is taken.
    pub(crate) async fn refuse_to_drop(&self) -> Result<(), InspectError> {
        let mut conn = self.primary.connect(Role::Inspector).await?;
        if read(&self.primary, &mut conn, &self.names.ghost).await?.is_none() {
            return Ok(());
        }
        let mut problems = Problems::default();
        problems.add(
            ProblemKind::Names,
            format!("Table {} already exists. Panicking.", self.names.ghost),
            "a dry run needs the name, and drops nothing: an earlier migration left the table; go on with --execute --resume, \
             or drop it, by hand or with --execute --initially-drop-ghost-table",
        );
        Err(problems.into())
    }

    /// Reads the ghost table.
    ///
    /// # Errors
    /// If it is not there, or the server cannot be asked.
    pub async fn read_ghost(&self) -> Result<TableDetail, InspectError> {
        let mut conn = self.primary.connect(Role::Inspector).await?;
        let ghost = read(&self.primary, &mut conn, &self.names.ghost).await?;
        ghost.ok_or_else(|| {
            let mut problems = Problems::default();
            problems.add(
                ProblemKind::Table,
                format!("cannot find the ghost table {}", self.names.ghost),
                "",
            );
            problems.into()
        })
    }

    /// Compares the original with the altered table, and decides how rows are found, copied and written.
    ///
    /// # Errors
    /// Every reason why they cannot be.
    pub fn plan(&self, settings: &MigrationSettings, ghost: &TableDetail) -> Result<MigrationPlan, Problems> {
        let mut problems = Problems::default();
        let original = &self.original;
        let mapping = columns::map(&self.alter, original, ghost, settings.renames, &mut problems);
        let tables = Tables {
            original,
            ghost,
            mapping: &mapping,
        };
        let rules = KeyRules {
            nullable: settings.allow_nullable_unique_key.granted(),
            warnings: settings.copy.warnings,
            image: self.images,
        };
        let key = keys::choose(tables, rules, &mut problems);
        let variables = &self.primary.variables;
        let session = session_plan::for_writing(
            variables,
            settings,
            original,
            ghost,
            &mapping,
            key.as_ref(),
            &mut problems,
        );
        let columns = columns::shared(original, ghost, &mapping);
        if columns.is_empty() {
            problems.add(
                ProblemKind::Columns,
                format!("no column of {} is left after the ALTER", original.schema.name),
                "nothing would be copied: create a new table instead",
            );
        }
        let filled = columns::filled(ghost, &mapping, &session.sql_mode, &mut problems);
        problems.clone().into_result()?;
        let Some(key) = key else { return Err(problems) };
        keys::check_provable(&key, &columns, settings.verify, &mut problems);
        problems.clone().into_result()?;
        let (conflicts, same_unique_keys) = keys::conflicts(tables, &key);
        Ok(MigrationPlan {
            names: self.names.clone(),
            alter: self.body.clone(),
            original: original.schema.clone(),
            ghost: ghost.schema.clone(),
            key,
            columns,
            filled,
            conflicts,
            same_unique_keys,
            unique_indexes: ghost
                .indexes
                .iter()
                .filter(|i| i.unique)
                .map(|i| i.name.clone())
                .collect(),
            session,
            gateways: self.gateways.clone(),
            deferred_indexes: Vec::new(),
        })
    }
}
