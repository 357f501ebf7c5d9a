//! From the document to a plan; every refusal names its place.

use std::collections::BTreeMap;

use super::document::{Content, Mark, Node, Quoting, parse};
use super::when::Condition;
use super::{
    Action, ActionKind, ApplyMode, CustomRow, CustomValue, DifferenceType, Freshest, KeySelector, Literal,
    Place, Plan, PlanError, RowOverride, Rule, StaleRepairs, TablePlan,
};

type Read<T> = Result<T, PlanError>;

/// The version of the language.
const VERSION: &str = "1";

pub(super) fn read(text: &str) -> Read<Plan> {
    let root = parse(text)?;
    let mut fields = Fields::of(&root, "the plan")?;
    if let Some(version) = fields.take("version") {
        let (written, at) = (scalar(version, "version")?, version.at);
        if written != VERSION {
            return Err(at.error(format!("version {written} is not known here, only {VERSION} is")));
        }
    }
    let default_action = fields.take("default_action").map(action).transpose()?;
    // For people.
    fields.take("metadata");
    fields.take("notes");
    let tables = fields.require("tables")?;
    fields.end()?;
    let mut plan = Plan {
        default_action,
        tables: BTreeMap::new(),
    };
    for (name, node) in entries(tables, "tables")? {
        let written = scalar(name, "a table's name")?.to_owned();
        if !written.contains('.') {
            return Err(name.at.error(format!("`{written}` is no schema.table")));
        }
        plan.tables.insert(written, table(node)?);
    }
    if plan.tables.is_empty() {
        return Err(tables.at.error("the plan has no table"));
    }
    Ok(plan)
}

/// A mapping whose entries are taken one by one, so that what is left over can be refused.
struct Fields<'n> {
    at: Mark,
    what: &'static str,
    entries: Vec<(&'n str, Mark, &'n Node)>,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    fn of(node: &'n Node, what: &'static str) -> Read<Self> {
        let mut found: Vec<(&str, Mark, &Node)> = Vec::new();
        for (key, value) in entries(node, what)? {
            found.push((scalar(key, "a field's name")?, key.at, value));
        }
        Ok(Self {
            at: node.at,
            what,
            entries: found,
            known: Vec::new(),
        })
    }

    fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        let place = self.entries.iter().position(|(found, ..)| *found == name)?;
        Some(self.entries.remove(place).2)
    }

    fn require(&mut self, name: &'static str) -> Read<&'n Node> {
        let (at, what) = (self.at, self.what);
        self.take(name)
            .ok_or_else(|| at.error(format!("{what} needs `{name}`")))
    }

    fn end(self) -> Read<()> {
        match self.entries.first() {
            None => Ok(()),
            Some((name, at, _)) => Err(at.error(format!(
                "{} has no field `{name}`; it has {}",
                self.what,
                self.known.join(", ")
            ))),
        }
    }
}

fn entries<'n>(node: &'n Node, what: &str) -> Read<&'n [(Node, Node)]> {
    let Content::Mapping(entries) = &node.content else {
        return Err(node
            .at
            .error(format!("{what} has to be a mapping of names to values")));
    };
    let mut seen: Vec<&str> = Vec::new();
    for (key, _) in entries {
        let name = scalar(key, "a field's name")?;
        if seen.contains(&name) {
            return Err(key.at.error(format!("`{name}` stands here for the second time")));
        }
        seen.push(name);
    }
    Ok(entries)
}

fn items<'n>(node: &'n Node, what: &str) -> Read<&'n [Node]> {
    match &node.content {
        Content::Sequence(items) if !items.is_empty() => Ok(items),
        Content::Sequence(_) => Err(node.at.error(format!("{what} is empty"))),
        _ => Err(node.at.error(format!("{what} has to be a list"))),
    }
}

/// A list that may be left empty, as the plan builder of a report leaves it.
fn list<'n>(node: Option<&'n Node>, what: &str) -> Read<&'n [Node]> {
    match node.map(|node| &node.content) {
        None => Ok(&[]),
        Some(Content::Sequence(items)) => Ok(items),
        Some(_) => Err(node
            .map_or(Mark { line: 1, column: 1 }, |node| node.at)
            .error(format!("{what} has to be a list"))),
    }
}

fn scalar<'n>(node: &'n Node, what: &str) -> Read<&'n str> {
    match &node.content {
        Content::Scalar { text, .. } => Ok(text),
        _ => Err(node.at.error(format!("{what} has to be a single value"))),
    }
}

fn literal(node: &Node) -> Read<Literal> {
    match &node.content {
        Content::Scalar {
            text,
            quoted: Quoting::Plain,
        } => Ok(match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Literal::Null,
            _ => Literal::Plain(text.clone()),
        }),
        Content::Scalar { text, .. } => Ok(Literal::Quoted(text.clone())),
        _ => Err(node
            .at
            .error("a value has to be a number, a text, true, false or null")),
    }
}

fn place(node: &Node, what: &str) -> Read<Place> {
    let word = scalar(node, what)?;
    Place::of_word(&word.trim().to_ascii_lowercase())
        .ok_or_else(|| node.at.error(format!("{what} has to be n1 or n2, not `{word}`")))
}

fn boolean(node: &Node, what: &str) -> Read<bool> {
    match scalar(node, what)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(node
            .at
            .error(format!("{what} has to be true or false, not `{other}`"))),
    }
}

fn table(node: &Node) -> Read<TablePlan> {
    let mut fields = Fields::of(node, "a table")?;
    let default_action = fields.take("default_action").map(action).transpose()?;
    let rules = fields.take("rules");
    let overrides = fields.take("row_overrides");
    fields.end()?;
    let mut plan = TablePlan {
        default_action,
        ..TablePlan::default()
    };
    for (index, node) in list(rules, "rules")?.iter().enumerate() {
        plan.rules.push(rule(node, index)?);
    }
    for (index, node) in list(overrides, "row_overrides")?.iter().enumerate() {
        plan.row_overrides.push(row_override(node, index)?);
    }
    Ok(plan)
}

fn name(node: Option<&Node>, unnamed: impl FnOnce() -> String) -> Read<String> {
    let written = node.map(|node| scalar(node, "name")).transpose()?;
    let written = written.map(str::trim).filter(|written| !written.is_empty());
    Ok(written.map_or_else(unnamed, str::to_owned))
}

fn row_override(node: &Node, index: usize) -> Read<RowOverride> {
    let mut fields = Fields::of(node, "a row override")?;
    let name = name(fields.take("name"), || format!("row_override_{index}"))?;
    let key_node = fields.require("pk")?;
    let action = action(fields.require("action")?)?;
    fields.end()?;
    let mut key = BTreeMap::new();
    for (column, value) in entries(key_node, "pk")? {
        key.insert(scalar(column, "a column's name")?.to_owned(), literal(value)?);
    }
    if key.is_empty() {
        return Err(key_node.at.error("pk names no column"));
    }
    Ok(RowOverride { name, key, action })
}

fn rule(node: &Node, index: usize) -> Read<Rule> {
    let mut fields = Fields::of(node, "a rule")?;
    let name = name(fields.take("name"), || format!("rule_{index}"))?;
    let key_in = fields.take("pk_in").map(key_selectors).transpose()?;
    let types = fields.take("diff_type");
    let difference_types = types.map(difference_types).transpose()?;
    let columns = fields.take("columns_changed").map(columns_changed).transpose()?;
    let when = fields.take("when").map(condition).transpose()?;
    let action_node = fields.require("action")?;
    let action = action(action_node)?;
    fields.end()?;
    if key_in.is_none() && difference_types.is_none() && columns.is_none() && when.is_none() {
        return Err(node.at.error(
            "the rule would match every row: give it pk_in, diff_type, columns_changed or when, or use default_action",
        ));
    }
    let rule = Rule {
        name,
        key_in: key_in.unwrap_or_default(),
        difference_types: difference_types.unwrap_or_default(),
        columns_changed: columns.unwrap_or_default(),
        when,
        action,
    };
    for kind in &rule.difference_types {
        if let Some(reason) = rule.action.kind.impossible(*kind) {
            return Err(action_node.at.error(reason));
        }
    }
    Ok(rule)
}

fn difference_types(node: &Node) -> Read<Vec<DifferenceType>> {
    use DifferenceType::{DeletedOn, MissingOn, RowMismatch};
    let known = [
        RowMismatch,
        MissingOn(Place::N1),
        MissingOn(Place::N2),
        DeletedOn(Place::N1),
        DeletedOn(Place::N2),
    ];
    let nodes = match &node.content {
        Content::Scalar { .. } => std::slice::from_ref(node),
        _ => items(node, "diff_type")?,
    };
    let mut types = Vec::new();
    for node in nodes {
        let word = scalar(node, "a diff_type")?.trim();
        let kind = known.iter().find(|kind| kind.word() == word);
        types.push(*kind.ok_or_else(|| {
            let words: Vec<_> = known.iter().map(|kind| kind.word()).collect();
            node.at.error(format!(
                "`{word}` is no diff_type; there are {}",
                words.join(", ")
            ))
        })?);
    }
    Ok(types)
}

fn columns_changed(node: &Node) -> Read<Vec<String>> {
    let mut columns = Vec::new();
    for node in items(node, "columns_changed")? {
        columns.push(scalar(node, "a column's name")?.to_owned());
    }
    Ok(columns)
}

fn key_selectors(node: &Node) -> Read<Vec<KeySelector>> {
    let mut selectors = Vec::new();
    for node in items(node, "pk_in")? {
        let mut fields = Fields::of(node, "an entry of pk_in")?;
        let equals = fields.take("equals");
        let range = fields.take("range");
        fields.end()?;
        if let Some(equals) = equals {
            selectors.push(KeySelector::Equals(keys(equals)?));
        }
        if let Some(range) = range {
            selectors.push(key_range(range)?);
        }
        if equals.is_none() && range.is_none() {
            return Err(node.at.error("an entry of pk_in needs equals or range"));
        }
    }
    Ok(selectors)
}

fn keys(node: &Node) -> Read<Vec<Vec<Literal>>> {
    let mut keys = Vec::new();
    for node in items(node, "equals")? {
        keys.push(match &node.content {
            Content::Sequence(parts) => parts.iter().map(literal).collect::<Read<_>>()?,
            _ => vec![literal(node)?],
        });
    }
    Ok(keys)
}

fn key_range(node: &Node) -> Read<KeySelector> {
    let mut fields = Fields::of(node, "a range")?;
    let mut bound = |name| {
        let node = fields.require(name)?;
        match literal(node)? {
            Literal::Null => Err(node
                .at
                .error("a range goes from a value to a value, both included")),
            value => Ok(value),
        }
    };
    let (from, to) = (bound("from")?, bound("to")?);
    fields.end()?;
    Ok(KeySelector::Range(from, to))
}

fn condition(node: &Node) -> Read<Condition> {
    let text = scalar(node, "when")?;
    Condition::read(text).map_err(|misread| {
        // Inside one line of text the very character can be named; blocks and escapes move it.
        let mut at = node.at;
        let exact = match &node.content {
            Content::Scalar {
                quoted: Quoting::Plain,
                ..
            } => !text.contains('\n'),
            Content::Scalar {
                quoted: Quoting::Quoted,
                ..
            } => !text.contains(['\n', '"', '\\']) && !text.contains("''"),
            _ => false,
        };
        if exact {
            let quote = usize::from(!matches!(
                &node.content,
                Content::Scalar {
                    quoted: Quoting::Plain,
                    ..
                }
            ));
            at.column += misread.at + quote;
            return at.error(misread.what);
        }
        at.error(format!("when, {misread}"))
    })
}

fn action(node: &Node) -> Read<Action> {
    let mut fields = Fields::of(node, "an action")?;
    let kind_node = fields.require("type")?;
    let allow_stale = match fields.take("allow_stale_repairs") {
        Some(node) if !boolean(node, "allow_stale_repairs")? => StaleRepairs::Refused,
        _ => StaleRepairs::Allowed,
    };
    let kind = match scalar(kind_node, "type")? {
        "keep_n1" => ActionKind::Keep(Place::N1),
        "keep_n2" => ActionKind::Keep(Place::N2),
        "skip" => ActionKind::Skip,
        "delete" => ActionKind::Delete,
        "bidirectional" => ActionKind::Bidirectional,
        "apply_from" => apply_from(&mut fields)?,
        "custom" => ActionKind::Custom(custom(&mut fields)?),
        other => {
            return Err(kind_node.at.error(format!(
                "`{other}` is no action; there are keep_n1, keep_n2, skip, delete, bidirectional, apply_from, custom"
            )));
        }
    };
    fields.end()?;
    Ok(Action { kind, allow_stale })
}

fn apply_from(fields: &mut Fields<'_>) -> Read<ActionKind> {
    let from = place(fields.require("from")?, "from")?;
    let mode = match fields.take("mode") {
        None => ApplyMode::Replace,
        Some(node) => match scalar(node, "mode")? {
            "replace" => ApplyMode::Replace,
            "upsert" => ApplyMode::Upsert,
            "insert" => ApplyMode::Insert,
            other => {
                return Err(node
                    .at
                    .error(format!("mode has to be replace, upsert or insert, not `{other}`")));
            }
        },
    };
    Ok(ActionKind::ApplyFrom(from, mode))
}

fn custom(fields: &mut Fields<'_>) -> Read<CustomRow> {
    let at = fields.at;
    let row = fields.take("custom_row");
    let helpers = fields.take("helpers");
    let mut custom = CustomRow::default();
    if let Some(row) = row {
        for (column, value) in entries(row, "custom_row")? {
            let column = scalar(column, "a column's name")?.to_owned();
            custom.columns.insert(column, custom_value(value)?);
        }
    }
    if let Some(helpers) = helpers {
        read_helpers(helpers, &mut custom)?;
    }
    if custom.columns.is_empty() && custom.coalesce.is_empty() && custom.freshest.is_none() {
        return Err(at.error("custom needs custom_row or helpers"));
    }
    Ok(custom)
}

fn read_helpers(node: &Node, custom: &mut CustomRow) -> Read<()> {
    let mut fields = Fields::of(node, "helpers")?;
    if let Some(priority) = fields.take("coalesce_priority") {
        for node in items(priority, "coalesce_priority")? {
            custom
                .coalesce
                .push(place(node, "an entry of coalesce_priority")?);
        }
    }
    if let Some(node) = fields.take("pick_freshest") {
        let mut inner = Fields::of(node, "pick_freshest")?;
        let column = scalar(inner.require("key")?, "key")?.trim().to_owned();
        let tie = inner.take("tie").map(|node| place(node, "tie")).transpose()?;
        inner.end()?;
        if column.is_empty() {
            return Err(node
                .at
                .error("pick_freshest needs the name of a column as its key"));
        }
        custom.freshest = Some(Freshest { column, tie });
    }
    fields.end()
}

fn custom_value(node: &Node) -> Read<CustomValue> {
    let literal = literal(node)?;
    let Some(text) = literal.text() else {
        return Ok(CustomValue::Literal(literal));
    };
    let inner = text
        .trim()
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .map(str::trim);
    let reference = inner
        .and_then(|inner| inner.split_once('.'))
        .and_then(|(place, column)| {
            let place = Place::of_word(&place.trim().to_ascii_lowercase())?;
            Some(CustomValue::Column(place, column.trim().to_owned()))
        });
    match reference {
        Some(reference) => Ok(reference),
        None if ["{{n1.", "{{n2.", "{{ n1.", "{{ n2."]
            .iter()
            .any(|start| text.contains(start)) =>
        {
            Err(node
                .at
                .error("a reference like {{n1.column}} has to be the whole value"))
        }
        None => Ok(CustomValue::Literal(literal)),
    }
}
