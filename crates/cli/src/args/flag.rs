//! What a flag is: one row of the table in [`super::table`].

/// One flag of `changeling migrate`.
#[derive(Clone, Copy, Debug)]
pub struct FlagSpec {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: ValueKind,
    /// Its value when nobody says anything; empty for none.
    pub default: &'static str,
    /// What it is about: the heading it stands under in `--help`.
    pub topic: Topic,
    /// What it does, for `--help`.
    pub help: &'static str,
    /// Whether it does it in this release.
    pub status: Status,
    /// Who had it first.
    pub origin: Origin,
}

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `--x` or `--x=false`. A value needs the equals sign, as in Go.
    Switch,
    /// A switch that also knows these words: `--resume=auto`.
    SwitchOr(&'static [&'static str]),
    /// Any text.
    Text,
    /// A text that is never shown.
    Secret,
    /// A file or directory.
    Path,
    /// A whole number, which may be negative.
    Whole,
    /// A whole number that is not negative.
    Unsigned,
    /// A number.
    Real,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Items separated by commas.
    List,
}

impl ValueKind {
    /// Whether the flag may stand alone.
    #[must_use]
    pub fn is_switch(self) -> bool {
        matches!(self, Self::Switch | Self::SwitchOr(_))
    }

    /// What stands for the value in help.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Switch => "BOOL",
            Self::SwitchOr(_) => "BOOL|auto",
            Self::Text => "TEXT",
            Self::Secret => "SECRET",
            Self::Path => "PATH",
            Self::Whole | Self::Unsigned => "N",
            Self::Real => "NUMBER",
            Self::Choice(_) => "WORD",
            Self::List => "LIST",
        }
    }
}

/// Whether a flag does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Works,
    /// It is accepted, and what it means here differs from gh-ost; the text is logged when it is given.
    Differs(&'static str),
    /// Any value but the default is refused, for this reason.
    Refused(&'static str),
}

/// Who had a flag first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// gh-ost: name and meaning are kept.
    GhOst,
    /// This program.
    Own,
}

/// Headings of `--help`, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The change itself.
    Change,
    /// Servers and logins.
    Server,
    /// TLS.
    Encryption,
    /// Binary logs and topology.
    Replication,
    /// What the ALTER and the table may be like.
    Allowances,
    /// Speed.
    Speed,
    /// Proof.
    Proof,
    /// Throttling.
    Throttling,
    /// The swap.
    CutOver,
    /// Tables in the way and left over.
    Leftovers,
    /// Checkpoints.
    Resuming,
    /// Rehearsing on a replica.
    Rehearsing,
    /// The command socket.
    Steering,
    /// Hooks.
    Hooks,
    /// Metrics.
    Metrics,
    /// Logs and progress.
    Output,
    /// About the program.
    About,
}

impl Topic {
    /// The heading.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Change => "The change",
            Self::Server => "Servers and logins",
            Self::Encryption => "Encryption",
            Self::Replication => "Binary log and topology",
            Self::Allowances => "What the change may do",
            Self::Speed => "Copying and applying",
            Self::Proof => "Proof",
            Self::Throttling => "Throttling",
            Self::CutOver => "The swap",
            Self::Leftovers => "Tables in the way and left over",
            Self::Resuming => "Checkpoints, resuming, reverting",
            Self::Rehearsing => "Working on a replica",
            Self::Steering => "Steering a running migration",
            Self::Hooks => "Hooks",
            Self::Metrics => "Metrics",
            Self::Output => "Log and progress",
            Self::About => "About the program and its settings",
        }
    }
}

impl FlagSpec {
    const fn new(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> Self {
        let default = if matches!(kind, ValueKind::Switch | ValueKind::SwitchOr(_)) {
            "false"
        } else {
            ""
        };
        Self {
            name,
            kind,
            default,
            topic,
            help,
            status: Status::Works,
            origin: Origin::GhOst,
        }
    }

    /// A switch, off unless said otherwise.
    pub(super) const fn switch(name: &'static str, topic: Topic, help: &'static str) -> Self {
        Self::new(name, ValueKind::Switch, topic, help)
    }

    /// A flag with a value.
    pub(super) const fn value(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> Self {
        Self::new(name, kind, topic, help)
    }

    /// Its value when nobody says anything.
    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// Not in this release.
    pub(super) const fn refused(mut self, reason: &'static str) -> Self {
        self.status = Status::Refused(reason);
        self
    }

    /// Another meaning than in gh-ost.
    pub(super) const fn differs(mut self, how: &'static str) -> Self {
        self.status = Status::Differs(how);
        self
    }

    /// Not one of gh-ost's.
    pub(super) const fn own(mut self) -> Self {
        self.origin = Origin::Own;
        self
    }

    /// Whether a settings file or the environment may set it; flags that make the program do something else
    /// than migrate are for the command line only.
    #[must_use]
    pub fn only_on_command_line(&self) -> bool {
        matches!(self.name, "help" | "version" | "check-flag" | "execute")
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn environment(&self) -> String {
        format!("CHANGELING_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }
}
