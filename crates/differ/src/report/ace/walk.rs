//! Walking through ACE's document without holding it: a visitor for each level, a call for each row.

use std::fmt;
use std::io;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::AceSummary;

/// Where a row stands.
#[derive(Clone, Copy)]
pub(super) struct RowPlace<'a> {
    pub(super) pair: &'a str,
    pub(super) node: &'a str,
}

pub(super) type Fields = Vec<(String, Box<RawValue>)>;

pub(super) struct Document<'a> {
    pub(super) rows: &'a mut dyn FnMut(RowPlace<'_>, Fields) -> io::Result<()>,
    pub(super) summary: &'a mut Option<AceSummary>,
    /// Whether rows are passed over.
    pub(super) skip: bool,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with diffs and summary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "diffs" if !self.skip => map.next_value_seed(Pairs {
                    rows: &mut *self.rows,
                })?,
                "summary" => *self.summary = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// `{"n1/n2": {"rows": …}}`
struct Pairs<'a> {
    rows: &'a mut dyn FnMut(RowPlace<'_>, Fields) -> io::Result<()>,
}

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of pairs of nodes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(pair) = map.next_key::<String>()? {
            map.next_value_seed(Pair {
                pair: &pair,
                rows: &mut *self.rows,
            })?;
        }
        Ok(())
    }
}

/// `{"rows": {"n1": […], "n2": […]}}`
struct Pair<'a> {
    pair: &'a str,
    rows: &'a mut dyn FnMut(RowPlace<'_>, Fields) -> io::Result<()>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "rows" {
                map.next_value_seed(Nodes {
                    pair: self.pair,
                    rows: &mut *self.rows,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// `{"n1": […], "n2": […]}`
struct Nodes<'a> {
    pair: &'a str,
    rows: &'a mut dyn FnMut(RowPlace<'_>, Fields) -> io::Result<()>,
}

impl<'de> DeserializeSeed<'de> for Nodes<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of nodes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key::<String>()? {
            let place = RowPlace {
                pair: self.pair,
                node: &node,
            };
            map.next_value_seed(Rows {
                place,
                rows: &mut *self.rows,
            })?;
        }
        Ok(())
    }
}

/// `[{…}, …]`, or null as Go writes a list that never was.
struct Rows<'a> {
    place: RowPlace<'a>,
    rows: &'a mut dyn FnMut(RowPlace<'_>, Fields) -> io::Result<()>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(RowFields(fields)) = list.next_element()? {
            (self.rows)(self.place, fields).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A row's fields in the order of the file, numbers as they are written.
struct RowFields(Fields);

impl<'de> Deserialize<'de> for RowFields {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        input.deserialize_map(FieldsVisitor).map(Self)
    }
}
