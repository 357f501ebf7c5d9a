//! A YAML document whose every node knows where it stands.

use std::collections::HashMap;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::PlanError;

/// Aliases are expanded: without a limit a page of text could fill any memory. A rule is some 20 nodes.
const MAX_NODES: usize = 5_000_000;

/// Plans are four or five deep; a recursive reader needs some limit.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar { text: String, quoted: Quoting },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    Plain,
    Quoted,
    /// A literal or folded block, whose text does not begin where the node does.
    Block,
}

/// A place in the document: line and column from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    pub(super) fn error(self, what: impl Into<String>) -> PlanError {
        PlanError {
            line: self.line,
            column: self.column,
            what: what.into(),
        }
    }
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
        }
    }
}

impl Node {
    /// Nodes of the tree, this one included.
    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar { .. } => 0,
            Content::Sequence(items) => items.iter().map(Self::size).sum(),
            Content::Mapping(entries) => entries.iter().map(|(key, value)| key.size() + value.size()).sum(),
        }
    }
}

/// Reads the first and only document of `text`.
pub(super) fn parse(text: &str) -> Result<Node, PlanError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    parser
        .load(&mut builder, true)
        .map_err(|error| Mark::from(*error.marker()).error(error.info()))?;
    if let Some(error) = builder.error {
        return Err(error);
    }
    let start = Mark { line: 1, column: 1 };
    let mut roots = builder.roots.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(start.error("the plan is empty")),
        (_, Some(second)) => Err(second.at.error("a plan is one document, here begins another")),
    }
}

#[derive(Default)]
struct Builder {
    roots: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    error: Option<PlanError>,
}

struct Open {
    at: Mark,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>, Option<Node>),
}

impl Builder {
    fn fail(&mut self, at: Mark, what: &str) {
        self.error.get_or_insert_with(|| at.error(what));
    }

    fn begin(&mut self, at: Mark, anchor: usize, collection: Collection) {
        if self.open.len() >= MAX_DEPTH {
            self.fail(at, "nested too deeply");
        }
        self.open.push(Open {
            at,
            anchor,
            collection,
        });
    }

    fn end(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let (at, content) = match open.collection {
            Collection::Sequence(items) => (open.at, Content::Sequence(items)),
            // The parser says where the first colon is; a reader looks for the first word.
            Collection::Mapping(entries, _) => {
                let first = entries.first().map_or(open.at, |(key, _)| key.at);
                (first.min(open.at), Content::Mapping(entries))
            }
        };
        self.add(Node { at, content }, open.anchor);
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.roots.push(node),
            Some(Collection::Sequence(items)) => items.push(node),
            Some(Collection::Mapping(entries, pending)) => match pending.take() {
                None => *pending = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }

    fn expand(&mut self, at: Mark, anchor: usize) {
        let Some(node) = self.anchors.get(&anchor) else {
            return self.fail(at, "the alias stands inside of what it names");
        };
        self.nodes = self.nodes.saturating_add(node.size());
        if self.nodes > MAX_NODES {
            return self.fail(at, "the aliases make the plan too large");
        }
        let node = node.clone();
        self.add(node, 0);
    }
}

impl MarkedEventReceiver for Builder {
    fn on_event(&mut self, event: Event, mark: Marker) {
        if self.error.is_some() {
            return;
        }
        let at = Mark::from(mark);
        self.nodes += 1;
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = match style {
                    TScalarStyle::Plain => Quoting::Plain,
                    TScalarStyle::SingleQuoted | TScalarStyle::DoubleQuoted => Quoting::Quoted,
                    TScalarStyle::Literal | TScalarStyle::Folded => Quoting::Block,
                };
                let content = Content::Scalar { text, quoted };
                self.add(Node { at, content }, anchor);
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Collection::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, Collection::Mapping(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.expand(at, anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart
            | Event::DocumentEnd => {}
        }
    }
}
