//! Operands that flags and commands share: hosts, and limits on status variables.

use crate::settings::LoadLimits;

/// The port of a server that is named without one.
pub const DEFAULT_PORT: u16 = 3306;

/// Reads `Threads_running=100,Threads_connected=500`. Nothing at all is no limit; the last of several limits
/// for one variable holds.
///
/// # Errors
/// The condition that is not `Variable=number`.
pub fn load_limits(text: &str) -> Result<LoadLimits, String> {
    let mut limits = LoadLimits::new();
    if text.trim().is_empty() {
        return Ok(limits);
    }
    for condition in text.split(',') {
        let (variable, limit) = condition
            .split_once('=')
            .map(|(variable, limit)| (variable.trim(), limit.trim()))
            .filter(|(variable, _)| !variable.is_empty())
            .ok_or_else(|| {
                format!("Error parsing load condition: {condition:?} is not Variable=number, as in Threads_running=100")
            })?;
        let limit = limit.parse().map_err(|_| {
            format!("Error parsing numeric value in load condition: {condition:?} needs a whole number after the =")
        })?;
        limits.insert(variable.to_owned(), limit);
    }
    Ok(limits)
}

/// Writes limits as [`load_limits`] reads them, by name.
#[must_use]
pub fn load_limits_text(limits: &LoadLimits) -> String {
    limits
        .iter()
        .map(|(variable, limit)| format!("{variable}={limit}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; an address with several colons and no brackets is a v6
/// address without a port.
///
/// # Errors
/// What is wrong with it.
pub fn host(text: &str) -> Result<(String, u16), String> {
    let text = text.trim();
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("{text:?} lacks the closing bracket"))?;
        match rest.strip_prefix(':') {
            Some(port) => (name, Some(port)),
            None if rest.is_empty() => (name, None),
            None => return Err(format!("{text:?} is not host:port")),
        }
    } else if text.matches(':').count() == 1 {
        text.split_once(':')
            .map_or((text, None), |(name, port)| (name, Some(port)))
    } else {
        (text, None)
    };
    if name.is_empty() {
        return Err(format!("{text:?} names no host; write host or host:port"));
    }
    let port =
        match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                format!("Invalid port in {text:?}: {port:?} is not a number from 1 to 65535")
            })?,
        };
    Ok((name.to_owned(), port))
}

/// Reads hosts separated by commas; nothing at all is none.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn hosts(text: &str) -> Result<Vec<(String, u16)>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut hosts = Vec::new();
    for part in text.split(',') {
        let host = host(part)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Writes a host so that [`host`] reads it back.
#[must_use]
pub fn host_text(name: &str, port: u16) -> String {
    if name.contains(':') {
        format!("[{name}]:{port}")
    } else {
        format!("{name}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        let limits = load_limits("Threads_running=50,Threads_connected=500").unwrap();
        assert_eq!(limits["Threads_running"], 50);
        assert_eq!(
            load_limits_text(&limits),
            "Threads_connected=500,Threads_running=50"
        );
        assert!(load_limits("").unwrap().is_empty());
        for bad in ["a", "=5", "a=b", "a=1,", "a=1=2"] {
            assert!(load_limits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_the_usual_port_unless_it_says_another() {
        assert_eq!(host("db1").unwrap(), ("db1".into(), 3306));
        assert_eq!(host(" db1:3307 ").unwrap(), ("db1".into(), 3307));
        assert_eq!(host("[::1]:3307").unwrap(), ("::1".into(), 3307));
        assert_eq!(host("[::1]").unwrap(), ("::1".into(), 3306));
        assert_eq!(host("fe80::1").unwrap(), ("fe80::1".into(), 3306));
        for bad in ["", ":1", "db:", "db:0", "db:70000", "db:x", "[::1", "[::1]x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_named_twice_counts_once() {
        assert_eq!(
            hosts("a,b:1,a:3306").unwrap(),
            vec![("a".into(), 3306), ("b".into(), 1)]
        );
        assert!(hosts("").unwrap().is_empty());
        assert!(hosts("a,,b").is_err());
        assert_eq!(host_text("::1", 5), "[::1]:5");
    }
}
