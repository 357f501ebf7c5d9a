//! libpq's password file, `.pgpass`: `host:port:database:user:password` a line, `*` for any, a backslash before `:` and `\`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::options::OptionsError;

/// Others may neither read nor write it.
const OTHERS: u32 = 0o077;

/// For what a password is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: &'a str,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that fits.
///
/// # Errors
/// The file cannot be read, or others can read it: libpq then goes on without, and here the server would be blamed for
/// what follows.
pub(super) fn look_up(path: &Path, login: &Login<'_>) -> Result<Option<String>, OptionsError> {
    let failed = |message: String| OptionsError::File {
        path: path.into(),
        message,
    };
    let permissions = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .permissions();
    if permissions.mode() & OTHERS != 0 {
        return Err(failed(
            "others can read this password file; its mode must be 0600 (chmod 0600)".into(),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let wanted = [login.host, login.port, login.database, login.user];
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line);
            let [given @ .., password] = &fields[..] else {
                return None;
            };
            let fits = given.len() == wanted.len()
                && given
                    .iter()
                    .zip(wanted)
                    .all(|(given, wanted)| given == "*" || unescaped(given) == wanted);
            fits.then(|| unescaped(password))
        }))
}

/// Five of them; the fifth may hold colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut escaped = false;
    for character in line.chars() {
        let splits = character == ':' && !escaped && fields.len() < 5;
        escaped = character == '\\' && !escaped;
        match fields.last_mut() {
            Some(field) if !splits => field.push(character),
            _ => fields.push(String::new()),
        }
    }
    fields
}

fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}
