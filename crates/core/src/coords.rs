//! Where in a change stream something happened.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A binary log file and an offset in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FilePos {
    /// File name, for example `binlog.000007`.
    pub file: String,
    /// Offset in bytes of the next event.
    pub pos: u64,
}

impl fmt::Display for FilePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.pos)
    }
}

/// One MySQL transaction: `uuid:number` or `uuid:tag:number`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gtid {
    /// The server it came from.
    pub uuid: [u8; 16],
    /// The tag, in lower case; empty for an ordinary GTID.
    pub tag: Box<str>,
    /// Its number, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.uuid)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        write!(f, ":{}", self.number)
    }
}

/// A text that is no GTID or no set of GTIDs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no GTID set: {reason}")]
pub struct GtidSyntax {
    text: String,
    reason: &'static str,
}

impl GtidSyntax {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.chars().take(200).collect(),
            reason,
        }
    }
}

/// The largest transaction number MySQL gives, `i64::MAX - 1`; interval ends plus one never overflow.
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// Numbers of one source and tag: inclusive intervals, sorted, neither overlapping nor adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    fn insert(&mut self, first: u64, last: u64) {
        // Streams append: the end of the last interval is the usual place.
        if let Some(end) = self.0.last_mut()
            && end.1 + 1 == first
        {
            end.1 = last;
            return;
        }
        let from = self.0.partition_point(|interval| interval.1 + 1 < first);
        let to = self
            .0
            .partition_point(|interval| interval.0 <= last.saturating_add(1));
        let mut merged = (first, last);
        for interval in self.0.get(from..to).unwrap_or_default() {
            merged = (merged.0.min(interval.0), merged.1.max(interval.1));
        }
        self.0.splice(from..to.max(from), [merged]);
    }

    fn contains(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|interval| interval.1 < first);
        self.0
            .get(at)
            .is_some_and(|interval| interval.0 <= first && last <= interval.1)
    }

    fn without(&self, other: &Self) -> Self {
        let mut kept = Vec::new();
        for &(first, last) in &self.0 {
            let mut next = first;
            let from = other.0.partition_point(|interval| interval.1 < first);
            for &(cut_first, cut_last) in other.0.iter().skip(from).take_while(|cut| cut.0 <= last) {
                if cut_first > next {
                    kept.push((next, cut_first - 1));
                }
                next = cut_last + 1;
            }
            if next <= last {
                kept.push((next, last));
            }
        }
        Self(kept)
    }
}

/// A set of MySQL GTIDs, tags included, written as MySQL does: `uuid:1-5:7:tag:1-3,uuid:9`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    sources: BTreeMap<([u8; 16], Box<str>), Intervals>,
}

impl GtidSet {
    /// Whether there is no transaction in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Adds one transaction.
    pub fn add(&mut self, gtid: &Gtid) {
        self.add_range(gtid.uuid, &gtid.tag, gtid.number, gtid.number);
    }

    /// Adds the transactions `first..=last` of a source; an empty range or numbers outside of what a
    /// server can give add nothing.
    pub fn add_range(&mut self, uuid: [u8; 16], tag: &str, first: u64, last: u64) {
        if first == 0 || last < first || last > MAX_NUMBER {
            return;
        }
        self.sources
            .entry((uuid, tag.into()))
            .or_default()
            .insert(first, last);
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Self) {
        for (source, intervals) in &other.sources {
            let mine = self.sources.entry(source.clone()).or_default();
            for &(first, last) in &intervals.0 {
                mine.insert(first, last);
            }
        }
    }

    /// Whether the transaction is in the set.
    #[must_use]
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.sources
            .get(&(gtid.uuid, gtid.tag.clone()))
            .is_some_and(|intervals| intervals.contains(gtid.number, gtid.number))
    }

    /// Whether every transaction of `other` is in this set.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, theirs)| {
            self.sources
                .get(source)
                .is_some_and(|mine| theirs.0.iter().all(|&(first, last)| mine.contains(first, last)))
        })
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (source, mine) in &self.sources {
            let left = match other.sources.get(source) {
                Some(theirs) => mine.without(theirs),
                None => mine.clone(),
            };
            if !left.0.is_empty() {
                rest.sources.insert(source.clone(), left);
            }
        }
        rest
    }

    /// Sources, tags (empty for none) and inclusive intervals, in order.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = (&[u8; 16], &str, &[(u64, u64)])> {
        self.sources
            .iter()
            .map(|((uuid, tag), intervals)| (uuid, &**tag, intervals.0.as_slice()))
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous: Option<&[u8; 16]> = None;
        for ((uuid, tag), intervals) in &self.sources {
            if previous != Some(uuid) {
                if previous.is_some() {
                    f.write_str(",")?;
                }
                write_uuid(f, uuid)?;
                previous = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for &(first, last) in &intervals.0 {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = GtidSyntax;

    /// Reads what `@@gtid_executed` shows: line ends and blanks between the parts are allowed.
    fn from_str(text: &str) -> Result<Self, GtidSyntax> {
        let mut set = Self::default();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let uuid = parts
                .next()
                .and_then(read_uuid)
                .ok_or_else(|| GtidSyntax::new(text, "a source is 32 hexadecimal digits with dashes"))?;
            let mut tag = String::new();
            let mut intervals = 0;
            for part in parts {
                if is_tag(part) {
                    tag = part.to_ascii_lowercase();
                    continue;
                }
                let (first, last) = read_interval(part)
                    .ok_or_else(|| GtidSyntax::new(text, "an interval is `number` or `number-number`"))?;
                set.add_range(uuid, &tag, first, last);
                intervals += 1;
            }
            if intervals == 0 {
                return Err(GtidSyntax::new(text, "a source without an interval"));
            }
        }
        Ok(set)
    }
}

impl TryFrom<String> for GtidSet {
    type Error = GtidSyntax;

    fn try_from(text: String) -> Result<Self, GtidSyntax> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut digits = text.bytes().filter(|&byte| byte != b'-');
    for byte in &mut uuid {
        let high = char::from(digits.next()?).to_digit(16)?;
        let low = char::from(digits.next()?).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(uuid)
}

fn is_tag(text: &str) -> bool {
    text.len() <= 32
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_interval(text: &str) -> Option<(u64, u64)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
        None => {
            let number = text.parse().ok()?;
            (number, number)
        }
    };
    (first >= 1 && first <= last && last <= MAX_NUMBER).then_some((first, last))
}

/// One MariaDB transaction: `domain-server-sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MariaGtid {
    /// The replication domain.
    pub domain: u32,
    /// The server it came from.
    pub server: u32,
    /// Its number within the domain.
    pub sequence: u64,
}

impl fmt::Display for MariaGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for MariaGtid {
    type Err = GtidSyntax;

    fn from_str(text: &str) -> Result<Self, GtidSyntax> {
        let read = || {
            let mut parts = text.trim().split('-');
            let gtid = Self {
                domain: parts.next()?.parse().ok()?,
                server: parts.next()?.parse().ok()?,
                sequence: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(gtid)
        };
        read().ok_or_else(|| GtidSyntax::new(text, "a MariaDB GTID is `domain-server-sequence`"))
    }
}

/// A MariaDB GTID position: for each domain the last transaction, `domain-server-sequence`.
///
/// As a set it stands for every transaction of a domain up to the named one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MariaGtidSet {
    domains: BTreeMap<u32, MariaGtid>,
}

impl MariaGtidSet {
    /// Whether no domain is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Makes this the last transaction of its domain, whatever was there: the order of the binary log
    /// decides, not the number.
    pub fn add(&mut self, gtid: MariaGtid) {
        self.domains.insert(gtid.domain, gtid);
    }

    /// Takes, domain by domain, the further of both.
    pub fn union(&mut self, other: &Self) {
        for gtid in other.domains.values() {
            if !self.contains(gtid) {
                self.add(*gtid);
            }
        }
    }

    /// Whether the transaction is at or before this position.
    #[must_use]
    pub fn contains(&self, gtid: &MariaGtid) -> bool {
        self.domains
            .get(&gtid.domain)
            .is_some_and(|mine| mine.sequence >= gtid.sequence)
    }

    /// Whether this position is at or after `other` in every domain of `other`.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        other.domains.values().all(|gtid| self.contains(gtid))
    }

    /// The domains in which this position is further than `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let ahead = self.domains.iter().filter(|(_, gtid)| !other.contains(gtid));
        Self {
            domains: ahead.map(|(&domain, &gtid)| (domain, gtid)).collect(),
        }
    }

    /// The last transaction of each domain, by domain.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = &MariaGtid> {
        self.domains.values()
    }
}

impl fmt::Display for MariaGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gtid) in self.domains.values().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for MariaGtidSet {
    type Err = GtidSyntax;

    fn from_str(text: &str) -> Result<Self, GtidSyntax> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let gtid: MariaGtid = part.parse()?;
            if set.domains.insert(gtid.domain, gtid).is_some() {
                return Err(GtidSyntax::new(text, "a position names a domain once"));
            }
        }
        Ok(set)
    }
}

impl TryFrom<String> for MariaGtidSet {
    type Error = GtidSyntax;

    fn try_from(text: String) -> Result<Self, GtidSyntax> {
        text.parse()
    }
}

impl From<MariaGtidSet> for String {
    fn from(set: MariaGtidSet) -> Self {
        set.to_string()
    }
}

/// The GTID half of a position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gtids {
    /// The server has none, or the stream was asked to go by file.
    #[default]
    None,
    /// All transactions up to here, MySQL.
    MySql(GtidSet),
    /// The last transaction of each domain, MariaDB.
    MariaDb(MariaGtidSet),
}

impl fmt::Display for Gtids {
    /// As the server writes them; nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}

/// A position between two transactions: by file always, and by GTID where the server has them on.
///
/// A stream starts by GTID if there is one, else by file. Two servers of one replication topology share
/// GTIDs but not files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// File and offset, on the server that the stream reads.
    pub file: FilePos,
    /// Everything executed up to here.
    pub gtids: Gtids,
}

impl fmt::Display for Coordinates {
    /// The file position, which is what operators grep for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn tags_are_read_in_both_spellings_and_written_as_mysql_does() {
        let tagged = set(&format!("{A}:1-5:7,{A}:Blue:1-3"));
        assert_eq!(tagged, set(&format!("{A}:1-5:7:blue:1-3")));
        assert_eq!(tagged.to_string(), format!("{A}:1-5:7:blue:1-3"));
        let json = serde_json::to_string(&tagged).unwrap();
        assert_eq!(serde_json::from_str::<GtidSet>(&json).unwrap(), tagged);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "x:1",
            A,
            &format!("{A}:0"),
            &format!("{A}:5-4"),
            &format!("{A}:tag"),
            "0-1",
        ] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
        for text in ["1-2", "0-1-2,0-1-3", "0-1-x", "0-1-2-3"] {
            assert!(text.parse::<MariaGtidSet>().is_err(), "{text}");
        }
        assert!(set("").is_empty() && set(" \n ").is_empty());
    }

    #[test]
    fn a_maria_position_stands_for_all_before_it() {
        let here: MariaGtidSet = "0-1-100,1-2-5".parse().unwrap();
        assert_eq!(here.to_string(), "0-1-100,1-2-5");
        assert!(here.contains(&"0-9-100".parse().unwrap()));
        assert!(!here.contains(&"0-9-101".parse().unwrap()));
        assert!(!here.contains(&"2-1-1".parse().unwrap()));
        let there: MariaGtidSet = "0-1-50,1-2-7".parse().unwrap();
        assert_eq!(here.subtract(&there).to_string(), "0-1-100");
        let mut both = here.clone();
        both.union(&there);
        assert_eq!(both.to_string(), "0-1-100,1-2-7");
        assert!(both.is_superset(&here) && both.is_superset(&there) && !here.is_superset(&there));
    }

    type Numbers = BTreeSet<(u8, bool, u64)>;

    fn numbers() -> impl Strategy<Value = Numbers> {
        proptest::collection::btree_set((0..2_u8, any::<bool>(), 1..40_u64), 0..60)
    }

    fn of(numbers: &Numbers) -> GtidSet {
        let mut set = GtidSet::default();
        for &(source, tagged, number) in numbers {
            set.add(&gtid(source, tagged, number));
        }
        set
    }

    fn gtid(source: u8, tagged: bool, number: u64) -> Gtid {
        Gtid {
            uuid: [source; 16],
            tag: if tagged { "t".into() } else { "".into() },
            number,
        }
    }

    proptest! {
        #[test]
        fn gtid_sets_behave_as_sets(left in numbers(), right in numbers()) {
            let (a, b) = (of(&left), of(&right));
            let both: Numbers = left.union(&right).copied().collect();
            let rest: Numbers = left.difference(&right).copied().collect();
            let mut union = a.clone();
            union.union(&b);
            prop_assert_eq!(&union, &of(&both));
            prop_assert_eq!(a.subtract(&b), of(&rest));
            prop_assert_eq!(a.is_superset(&b), left.is_superset(&right));
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a.clone());
            for &(source, tagged, number) in &both {
                prop_assert_eq!(a.contains(&gtid(source, tagged, number)), left.contains(&(source, tagged, number)));
            }
            for (_, _, intervals) in union.sources() {
                prop_assert!(intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }

        #[test]
        fn ranges_are_what_their_numbers_are(ranges in proptest::collection::vec((1..50_u64, 0..9_u64), 0..12)) {
            let (mut by_range, mut by_number) = (GtidSet::default(), GtidSet::default());
            for (first, length) in ranges {
                by_range.add_range([1; 16], "", first, first + length);
                for number in first..=first + length {
                    by_number.add(&gtid(1, false, number));
                }
            }
            prop_assert_eq!(by_range, by_number);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<GtidSet>();
            let _ = text.parse::<MariaGtidSet>();
        }
    }
}
