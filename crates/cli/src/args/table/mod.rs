//! Every flag of `changeling migrate`, as data: parsing, help, settings files, the environment and the tests
//! all read these rows.
//!
//! The 108 flags of gh-ost come with gh-ost's names, defaults and meaning; where a default or a meaning is
//! another one here, the row says so ([`Status::Differs`](super::flag::Status)). A flag that this release cannot honour is
//! [`Refused`](super::flag::Status), never ignored.

use super::flag::FlagSpec;

mod change;
mod operate;
mod server;
mod speed;

/// Every flag, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static FlagSpec> {
    [change::FLAGS, server::FLAGS, speed::FLAGS, operate::FLAGS]
        .into_iter()
        .flatten()
}

/// The flag of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static FlagSpec> {
    all().find(|flag| flag.name == name)
}

/// The name most like this one, if any is like it at all.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    const ALIKE: f64 = 0.75;
    all()
        .map(|flag| (strsim::jaro_winkler(name, flag.name), flag.name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::flag::{Origin, Status, ValueKind};
    use super::super::go_syntax;
    use super::*;

    /// The flags of gh-ost master at 145799ee, from its `flag` definitions.
    const GH_OST: &str = "alter database table execute host port user password ask-pass conf \
        assume-master-host master-user master-password mysql-timeout charset ssl ssl-ca ssl-cert ssl-key \
        ssl-allow-insecure allow-on-master allow-master-master tungsten aliyun-rds gcp azure \
        skip-port-validation gtid assume-rbr switch-to-rbr replica-server-id \
        binlogsyncer-max-reconnect-attempts storage-engine chunk-size dml-batch-size default-retries \
        nice-ratio exact-rowcount concurrent-rowcount panic-on-warnings allow-nullable-unique-key \
        approve-renamed-columns skip-renamed-columns discard-foreign-keys skip-foreign-key-checks \
        skip-strict-mode allow-zero-in-date attempt-instant-ddl include-triggers trigger-suffix \
        remove-trigger-suffix-if-exists analyze-ghost-table-before-cutover cut-over \
        cut-over-lock-timeout-seconds cut-over-exponential-backoff exponential-backoff-max-interval \
        postpone-cut-over-flag-file force-named-cut-over force-named-panic \
        allow-setup-metadata-lock-instruments skip-metadata-lock-check max-lag-millis \
        heartbeat-interval-millis throttle-control-replicas max-load critical-load \
        critical-load-interval-millis critical-load-hibernate-seconds throttle-query throttle-http \
        throttle-http-interval-millis throttle-http-timeout-millis ignore-http-errors throttle-flag-file \
        throttle-additional-flag-file panic-flag-file replication-lag-query initially-drop-ghost-table \
        initially-drop-old-table initially-drop-socket-file ok-to-drop-table timestamp-old-table \
        force-table-names serve-socket-file serve-tcp-port test-on-replica \
        test-on-replica-skip-replica-stop migrate-on-replica checkpoint checkpoint-seconds resume revert \
        old-table hooks-path hooks-hint hooks-hint-owner hooks-hint-token hooks-status-interval \
        statsd-addr statsd-tags runtime-metrics-interval quiet verbose debug stack help version check-flag";

    #[test]
    fn all_108_flags_of_gh_ost_are_here_and_no_other_claims_to_be() {
        let theirs: BTreeSet<_> = GH_OST.split_whitespace().collect();
        let ours: BTreeSet<_> = all()
            .filter(|flag| flag.origin == Origin::GhOst)
            .map(|flag| flag.name)
            .collect();
        assert_eq!(theirs.len(), 108);
        assert_eq!(ours, theirs);
    }

    /// gh-ost's defaults, but for empty ones and switches that are off.
    const GH_OST_DEFAULTS: &str = "host=127.0.0.1 port=3306 mysql-timeout=0.0 charset=utf8mb4,utf8,latin1 \
        replica-server-id=99999 binlogsyncer-max-reconnect-attempts=0 storage-engine=innodb chunk-size=1000 \
        dml-batch-size=10 default-retries=60 nice-ratio=0 concurrent-rowcount=true cut-over=atomic \
        cut-over-lock-timeout-seconds=3 exponential-backoff-max-interval=64 max-lag-millis=1500 \
        heartbeat-interval-millis=100 critical-load-interval-millis=0 critical-load-hibernate-seconds=0 \
        throttle-http-interval-millis=100 throttle-http-timeout-millis=1000 \
        throttle-additional-flag-file=/tmp/gh-ost.throttle serve-tcp-port=0 checkpoint-seconds=300 \
        hooks-status-interval=60 runtime-metrics-interval=10";

    #[test]
    fn defaults_are_gh_osts_but_for_four() {
        let theirs: BTreeSet<_> = GH_OST_DEFAULTS
            .split_whitespace()
            .filter_map(|one| one.split_once('='))
            .collect();
        let ours: BTreeSet<_> = all()
            .filter(|flag| flag.origin == Origin::GhOst && !matches!(flag.default, "" | "false"))
            .map(|flag| (flag.name, flag.default))
            .collect();
        let changed: Vec<_> = ours.difference(&theirs).copied().collect();
        assert_eq!(
            changed,
            [
                ("checkpoint", "true"),
                ("checkpoint-seconds", "5"),
                ("dml-batch-size", "500"),
                ("panic-on-warnings", "true")
            ]
        );
        let missing: Vec<_> = theirs.difference(&ours).map(|(name, _)| *name).collect();
        assert_eq!(missing, ["checkpoint-seconds", "dml-batch-size"]);
    }

    #[test]
    fn names_are_unique_and_help_teaches() {
        let mut seen = BTreeSet::new();
        for flag in all() {
            assert!(seen.insert(flag.name), "{} twice", flag.name);
            assert!(flag.help.len() > 20, "{}", flag.name);
            assert!(
                !flag.help.contains('\n') && !flag.help.contains("  "),
                "{}",
                flag.name
            );
            if let Status::Refused(reason) = flag.status {
                assert!(reason.len() > 20, "{} is refused without a reason", flag.name);
            }
        }
    }

    #[test]
    fn a_topic_is_in_one_piece() {
        let mut topics: Vec<_> = all().map(|flag| flag.topic).collect();
        topics.dedup();
        let unique: BTreeSet<_> = topics.iter().collect();
        assert_eq!(unique.len(), topics.len(), "{topics:?}");
    }

    #[test]
    fn every_default_is_a_good_value() {
        for flag in all() {
            if !(flag.default.is_empty() && matches!(flag.kind, ValueKind::Text | ValueKind::Path)) {
                go_syntax::check_value(flag, flag.default).unwrap();
            }
        }
    }

    #[test]
    fn a_misspelt_flag_finds_its_neighbour() {
        assert_eq!(nearest("chunksize"), Some("chunk-size"));
        assert_eq!(nearest("maxlag-millis"), Some("max-lag-millis"));
        assert_eq!(nearest("zzzz"), None);
    }
}
