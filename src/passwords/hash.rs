//! One hashed password: read from its text, written, and checked against a guess, a step at a time.
//!
//! `$6$` is SHA-512 of password and salt; `$7$` is PBKDF2 with HMAC-SHA-512, whose iterations are
//! what makes it slow. As the hash is as long as that of HMAC, there is one block to derive, and
//! its loop can stop anywhere: so a loop that serves others can go through thousands of iterations
//! without holding them up. What is compared is compared in constant time.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// Bytes of a hash.
const HASH: usize = 64;
/// Bytes of a salt: what `mosquitto_passwd` made up to 2.0, and what it makes since 2.1.
pub const SALTS: [usize; 2] = [12, 64];
/// Characters of 66 bytes: longer than any that is right, so that its length can be told.
const BASE64_MAX: usize = 88;
/// More would take longer than a client may wait.
pub const ITERATIONS_MAX: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Sha512,
    Pbkdf2 { iterations: u32 },
}

/// A hash, its salt, and how it was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    method: Method,
    salt: Vec<u8>,
    hash: [u8; HASH],
}

/// What is on its way from a guess to its hash.
pub struct Derivation {
    block: [u8; HASH],
    /// XOR of all blocks so far.
    sum: [u8; HASH],
    left: u32,
    /// Keyed with the guess; its state is cloned for each iteration.
    mac: Option<Hmac<Sha512>>,
}

impl Hash {
    /// `$6$SALT$HASH` or `$7$ITERATIONS$SALT$HASH`; what is wrong with it never repeats it.
    pub fn parse(text: &str) -> Result<Hash, String> {
        let parts: Vec<&str> = text.split('$').collect();
        let (method, salt, hash) = match parts[..] {
            ["", "6", salt, hash] => (Method::Sha512, salt, hash),
            ["", "7", iterations, salt, hash] => {
                let iterations = parse_iterations(iterations)?;
                (Method::Pbkdf2 { iterations }, salt, hash)
            }
            ["", "6", ..] => return Err("must look like $6$SALT$HASH".to_string()),
            ["", "7", ..] => return Err("must look like $7$ITERATIONS$SALT$HASH".to_string()),
            ["", "argon2id", ..] => {
                return Err(
                    "is an argon2id hash, which midge does not check: each check would take as \
                     much memory as the line asks for (`midge passwd FILE USER` makes another)"
                        .to_string(),
                );
            }
            ["", _, ..] => return Err("is of a kind that midge does not know".to_string()),
            _ => {
                return Err(
                    "is not hashed (`midge passwd -U FILE` hashes all passwords of a file)"
                        .to_string(),
                );
            }
        };
        let salt = decode(salt, "salt")?;
        if !SALTS.contains(&salt.len()) {
            return Err(format!(
                "has a salt of {} bytes, and not of 12 or 64",
                salt.len()
            ));
        }
        let hash = decode(hash, "hash")?;
        let length = hash.len();
        let hash = hash
            .try_into()
            .map_err(|_| format!("has a hash of {length} bytes, and not of 64"))?;
        Ok(Hash { method, salt, hash })
    }

    /// That of a password.
    pub fn new(method: Method, salt: Vec<u8>, password: &[u8]) -> Hash {
        let mut hash = Hash {
            method,
            salt,
            hash: [0; HASH],
        };
        let mut derivation = hash.begin(password);
        while !derivation.step(u32::MAX) {}
        hash.hash = derivation.sum;
        hash
    }

    /// As it stands in a file.
    pub fn to_text(&self) -> String {
        let salt = Base64::encode_string(&self.salt);
        let hash = Base64::encode_string(&self.hash);
        match self.method {
            Method::Sha512 => format!("$6${salt}${hash}"),
            Method::Pbkdf2 { iterations } => format!("$7${iterations}${salt}${hash}"),
        }
    }

    /// Begins to hash a guess as this was hashed.
    pub fn begin(&self, guess: &[u8]) -> Derivation {
        let Method::Pbkdf2 { iterations } = self.method else {
            let mut digest = Sha512::new();
            digest.update(guess);
            digest.update(&self.salt);
            return Derivation {
                block: [0; HASH],
                sum: digest.finalize().into(),
                left: 0,
                mac: None,
            };
        };
        let mac = <Hmac<Sha512>>::new_from_slice(guess).expect("HMAC takes keys of any length");
        // RFC 8018, 5.2: the first block is of the salt and the block's number.
        let mut first = mac.clone();
        first.update(&self.salt);
        first.update(&1u32.to_be_bytes());
        let block: [u8; HASH] = first.finalize().into_bytes().into();
        Derivation {
            block,
            sum: block,
            left: iterations - 1,
            mac: Some(mac),
        }
    }

    /// Whether it was hashed from the same; the derivation must have ended.
    pub fn is(&self, derivation: &Derivation) -> bool {
        assert!(derivation.left == 0, "a hash was compared half made");
        bool::from(self.hash.ct_eq(&derivation.sum))
    }
}

impl Derivation {
    /// Goes on by so many iterations at most; `true` when it has come to its end.
    pub fn step(&mut self, iterations: u32) -> bool {
        let now = iterations.min(self.left);
        self.left -= now;
        if let Some(mac) = &self.mac {
            for _ in 0..now {
                let mut next = mac.clone();
                next.update(&self.block);
                self.block = next.finalize().into_bytes().into();
                for (sum, byte) in self.sum.iter_mut().zip(self.block) {
                    *sum ^= byte;
                }
            }
        }
        self.left == 0
    }
}

/// Up to `ITERATIONS_MAX`.
pub fn parse_iterations(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number
        .filter(|number| (1..=ITERATIONS_MAX).contains(number))
        .ok_or(format!("must have from 1 to {ITERATIONS_MAX} iterations"))
}

/// Base64 with padding.
fn decode(text: &str, what: &str) -> Result<Vec<u8>, String> {
    match text.len() <= BASE64_MAX {
        true => Base64::decode_vec(text).map_err(|_| format!("has a {what} that is not base64")),
        false => Err(format!("has a {what} that is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(hash: &Hash, guess: &[u8], step: u32) -> bool {
        let mut derivation = hash.begin(guess);
        while !derivation.step(step) {}
        hash.is(&derivation)
    }

    /// Made by `mosquitto_passwd` 2.0.11, and with a salt of 64 bytes by Python's `hashlib`.
    #[test]
    fn what_others_have_hashed_is_checked_in_steps_of_any_size() {
        for (text, password) in [
            (ALICE, "secret"),
            (BOB, "hunter2"),
            (CAROL, "s3"),
            (LONG_SALT_6, "pässword"),
            (LONG_SALT_7, "pässword"),
        ] {
            let hash = Hash::parse(text).unwrap();
            for step in [1, 7, 1_000, u32::MAX] {
                assert!(right(&hash, password.as_bytes(), step), "{text}");
                assert!(!right(&hash, b"another", step), "{text}");
                assert!(!right(&hash, b"", step), "{text}");
            }
            assert_eq!(hash.to_text(), text);
        }
    }

    const ALICE: &str = "\
        $7$101$IPyS6AN5gVVv/7Pf$GH5asWmaoz8lLKsVnqkIgfjy+W53WlMynO/AmaWFNzUlBbPOdHqxaoQn\
        lPgVwZ24AHi57Q1XGi/5WRi9wsBa3g==";
    const BOB: &str = "\
        $6$9NmsAAvnS2kF3afo$WqPt/5+bwC+V21oUNZQ9ZmhHlZj5ZSv9R2k+nYFVob6VNbFAcSy19ECLdVbv\
        CtEA/XTiG3dltC06klIXLlF77g==";
    const CAROL: &str = "\
        $7$1000$T/gWTp8QT70N9mRz$PY0KlaL6+wOnBx8cVsP7xuRahAf3z4Q5qiIg/njQyyvLpOH80/UQuOG\
        Y76HDG3aKh7s+PBGUTYvljyLBCtEgkQ==";
    const LONG_SALT_6: &str = "\
        $6$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4O\
        To7PD0+Pw==$YFATTTllh5EmrwpgD6xQLAUkRY/kp003ekhpMaMtJ9F8ZysIpK7xTN85uyOPpkC9YiNb\
        Y2t4xeKXThbrPGRy7A==";
    const LONG_SALT_7: &str = "\
        $7$1001$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1\
        Njc4OTo7PD0+Pw==$qqjuIxP29MxATqLKMuuV5iiqqYtzy1AsIB5Uo1z+FngolXr48zwQvspwCByJzqZ\
        lBJPF43rOTZKgakQZjAlYDw==";

    #[test]
    fn what_is_wrong_with_a_hash_is_said_without_repeating_it() {
        let hash = Base64::encode_string(&[7; 64]);
        let long = Base64::encode_string(&[7; 65]);
        let short = Base64::encode_string(&[7; 63]);
        let salt = Base64::encode_string(&[9; 12]);
        for (text, why) in [
            (String::new(), "is not hashed"),
            ("plain-Secret".to_string(), "midge passwd -U FILE"),
            ("$5$Secret".to_string(), "kind that midge does not know"),
            (
                "$argon2id$v=19$m=47104,t=1,p=1$Secret$Secret".to_string(),
                "argon2id",
            ),
            (format!("$6${salt}"), "like $6$SALT$HASH"),
            (format!("$6${salt}${hash}$"), "like $6$SALT$HASH"),
            (format!("$7${salt}${hash}"), "like $7$ITERATIONS"),
            (format!("$7$0${salt}${hash}"), "from 1 to 1000000"),
            (format!("$7$1000001${salt}${hash}"), "from 1 to 1000000"),
            (format!("$7$+5${salt}${hash}"), "from 1 to 1000000"),
            (format!("$7$99999999999${salt}${hash}"), "from 1 to 1000000"),
            (format!("$7$1${salt}${long}"), "hash of 65 bytes"),
            (format!("$7$1${salt}${short}"), "hash of 63 bytes"),
            (format!("$7$1$Secret!!${hash}"), "salt that is not base64"),
            (format!("$7$1$BwcH${hash}"), "salt of 3 bytes"),
            (format!("$7$1$${hash}"), "salt of 0 bytes"),
            (
                format!("$7$1${}${hash}", "A".repeat(1 << 20)),
                "salt that is too long",
            ),
            (format!("$6${salt}$Secret!"), "hash that is not base64"),
            // Without its padding.
            (
                format!("$6${salt}${}", hash.trim_end_matches('=')),
                "not base64",
            ),
        ] {
            let said = Hash::parse(&text).err().unwrap();
            assert!(said.contains(why), "{said}");
            assert!(!said.contains("Secret"), "{said}");
        }
    }
}
