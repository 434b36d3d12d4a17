//! Who may log in: the users of an htpasswd file, and whether a request is one of
//! theirs. What can't be checked lets nobody in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use md5::{Digest, Md5};
use ring::hmac;
use tokio::sync::Semaphore;

/// A hash that costs more than this keeps a core busy for seconds.
const MOST_COST: u32 = 12;
/// Passwords that are remembered as right; with more than these all are forgotten.
const REMEMBERED: usize = 1024;
/// A longer header is no login.
const LONGEST: usize = 1024;
const APR1: &str = "$apr1$";
const SHA: &str = "{SHA}";

/// How a password is kept. None of it is ever printed.
enum Kept {
    Bcrypt(String),
    Apr1 { salt: String, hash: String },
    Sha(Vec<u8>),
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(APR1) {
            let (salt, hash) = rest.split_once('$')?;
            let fits = salt.len() <= 8 && hash.len() == 22;
            return fits.then(|| Self::Apr1 { salt: salt.to_owned(), hash: hash.to_owned() });
        }
        if let Some(rest) = text.strip_prefix(SHA) {
            return STANDARD.decode(rest).ok().filter(|hash| hash.len() == 20).map(Self::Sha);
        }
        let parts = bcrypt::HashParts::from_str(text).ok()?;
        (parts.get_cost() <= MOST_COST).then(|| Self::Bcrypt(text.to_owned()))
    }

    fn is(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apr1 { salt, hash } => same(apr1(password, salt.as_bytes()).as_bytes(), hash.as_bytes()),
            Self::Sha(hash) => {
                same(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, password).as_ref(), hash)
            }
        }
    }
}

/// Compares without telling by the time it takes how much is alike.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Apache's way of hashing with MD5, a thousand times over.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let inner: [u8; 16] =
        Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut first = Md5::new().chain_update(password).chain_update(APR1).chain_update(salt);
    for at in (0..password.len()).step_by(16) {
        let rest = (password.len() - at).min(16);
        first.update(inner.get(..rest).unwrap_or_default());
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0][..] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    let mut hash: [u8; 16] = first.finalize().into();
    for round in 0..1000 {
        let (odd, mut next) = (round % 2 == 1, Md5::new());
        next.update(if odd { password } else { hash.as_slice() });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { hash.as_slice() } else { password });
        hash = next.finalize().into();
    }
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let groups: [(&[usize], usize); 6] = [
        (&[0, 6, 12], 4),
        (&[1, 7, 13], 4),
        (&[2, 8, 14], 4),
        (&[3, 9, 15], 4),
        (&[4, 10, 5], 4),
        (&[11], 2),
    ];
    let mut text = String::with_capacity(22);
    for (places, letters) in groups {
        let mut word = places.iter().fold(0_usize, |word, place| word << 8 | usize::from(hash[*place]));
        for _ in 0..letters {
            text.push(char::from(LETTERS[word & 63]));
            word >>= 6;
        }
    }
    text
}

/// The users of one Secret.
pub struct Users {
    kept: HashMap<String, Arc<Kept>>,
    /// Logins that were right, by a hash whose key no one else has.
    right: Mutex<HashSet<[u8; 32]>>,
    /// One password of theirs is checked at a time,
    turn: Arc<Semaphore>,
}

/// and no more than half the machine checks anybody's. Who waits here waits for one
/// check of every other's, however many of their own there are.
static CHECKING: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new((std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1))
});

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.kept.len()).finish_non_exhaustive()
    }
}

fn key() -> Option<&'static hmac::Key> {
    static KEY: OnceLock<Option<hmac::Key>> = OnceLock::new();
    let generate = || hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok();
    KEY.get_or_init(generate).as_ref()
}

impl Users {
    fn new(lines: impl Iterator<Item = (String, Option<Kept>)>) -> (Self, usize) {
        let mut unread = 0;
        let mut kept = HashMap::new();
        for (user, line) in lines {
            match line {
                Some(line) => drop(kept.insert(user, Arc::new(line))),
                None => unread += 1,
            }
        }
        (Self { kept, right: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }, unread)
    }

    /// The users of a file, and how many of its lines can't be checked here.
    pub fn file(bytes: &[u8]) -> (Self, usize) {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self::new(lines.map(|line| {
            let (user, hash) = line.split_once(':').unwrap_or((line, ""));
            // What may follow is a comment.
            (user.to_owned(), Kept::parse(hash.split(':').next().unwrap_or_default()))
        }))
    }

    /// The users that are a Secret's keys.
    pub fn map(data: &BTreeMap<String, Vec<u8>>) -> (Self, usize) {
        Self::new(
            data.iter().map(|(user, hash)| (user.clone(), Kept::parse(String::from_utf8_lossy(hash).trim()))),
        )
    }

    /// Whether a request comes from one of the users.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = login(headers) else { return false };
        let Some(kept) = self.kept.get(&user).cloned() else { return false };
        let Some(key) = key() else { return false };
        let mut context = hmac::Context::with_key(key);
        context.update(&(user.len() as u64).to_be_bytes());
        context.update(user.as_bytes());
        context.update(&password);
        let Ok(mark) = <[u8; 32]>::try_from(context.sign().as_ref()) else { return false };
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark) {
            return true;
        }
        let Ok(turn) = self.turn.clone().acquire_owned().await else { return false };
        let Ok(checking) = CHECKING.acquire().await else { return false };
        let check = move || {
            let right = kept.is(&password);
            // Held until it is done, also where nobody waits for it any more.
            drop((checking, turn));
            right
        };
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if right {
            let mut all = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= REMEMBERED {
                all.clear();
            }
            all.insert(mark);
        }
        right
    }
}

/// The user and the password that a request names.
fn login(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok().filter(|text| text.len() <= LONGEST)?;
    let (scheme, rest) = text.split_once(' ')?;
    let bytes = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (user, password) = (bytes.get(..colon)?, bytes.get(colon + 1..)?);
    Some((String::from_utf8(user.to_vec()).ok()?, password.to_vec()))
}

/// A login that a route asks for.
#[derive(Debug, Clone)]
pub struct Login {
    pub users: Arc<Users>,
    /// What a browser is to say it is for.
    pub challenge: HeaderValue,
}

/// What asks a browser for a login.
pub(crate) fn challenge(realm: &str) -> Option<HeaderValue> {
    let plain = realm.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(user: &str, password: &str) -> HeaderMap {
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())])
    }

    const FILE: &str = "# a comment\n\
        apr:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n\
        long:$apr1$x$lP/ygslLE8c69IQnv9GBi/\r\n\
        sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\
        crypt:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
        \n\
        plain:secret\n\
        {PLAIN}:{PLAIN}secret\n\
        none\n\
        empty:\n\
        slow:$2y$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
        des:rl.3StKT.4T8M\n";

    #[tokio::test]
    async fn passwords_are_checked_as_they_are_kept() {
        let (users, unread) = Users::file(FILE.as_bytes());
        assert_eq!((users.kept.len(), unread), (4, 6));
        for (user, password, wanted) in [
            ("apr", "secret", true),
            ("apr", "secreT", false),
            ("apr", "", false),
            ("long", "p\u{e4}ssword that is quite long, really", true),
            ("sha", "secret", true),
            ("sha", "other", false),
            ("crypt", "U*U", true),
            ("crypt", "U*V", false),
            ("plain", "secret", false),
            ("none", "", false),
            ("empty", "", false),
            ("slow", "U*U", false),
            ("des", "myPassword", false),
            ("nobody", "secret", false),
            ("", "", false),
        ] {
            // The second time from memory.
            for _ in 0..2 {
                assert_eq!(users.admit(&asked(user, password)).await, wanted, "{user} {password}");
            }
        }
        assert_eq!(users.right.lock().unwrap().len(), 4);
        // What was right for one is not for another.
        assert!(!users.admit(&asked("crypt", "secret")).await);
    }

    #[tokio::test]
    async fn what_is_no_login_is_none() {
        let (users, _) = Users::file(FILE.as_bytes());
        for text in ["", "Basic", "Basic !", "Bearer c2hhOnNlY3JldA==", "Basic c2hh"] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
            assert!(!users.admit(&headers).await, "{text}");
        }
        assert!(!users.admit(&HeaderMap::new()).await);
        assert!(users.admit(&asked("sha", "secret")).await);
    }

    #[tokio::test]
    async fn a_secrets_keys_may_be_the_users() {
        let data = BTreeMap::from([
            ("ada".to_owned(), b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n".to_vec()),
            ("bob".to_owned(), b"secret".to_vec()),
        ]);
        let (users, unread) = Users::map(&data);
        assert_eq!(unread, 1);
        assert!(users.admit(&asked("ada", "secret")).await && !users.admit(&asked("bob", "secret")).await);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let (users, _) = Users::file(FILE.as_bytes());
        assert_eq!(format!("{users:?}"), "Users { count: 4, .. }");
        assert_eq!(challenge("the shop").unwrap(), "Basic realm=\"the shop\"");
        assert_eq!([challenge("a\"b"), challenge("a\r\nb")], [None, None]);
    }
}
