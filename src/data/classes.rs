//! Which classes a user means: by name, by the name of its folder, by number, by a range of numbers
//! or by the beginning of a name.

use crate::error::{Error, Result};
use crate::folders::folder_name;

/// The positions in `names` that `texts` mean, in the order of the texts. `all` alone means every
/// class; otherwise each text is a name or a folder's name, a number (the first class is 0), a
/// range of numbers such as `0-3`, or the beginning of one name. Upper and lower case are the same
/// where that leaves one class.
///
/// # Errors
/// A text that means no class, or more than one (the message lists the classes, and what may have
/// been meant); a class that is named twice.
pub fn find(names: &[impl AsRef<str>], texts: &[impl AsRef<str>]) -> Result<Vec<usize>> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if let [all] = texts
        && all.as_ref().trim().eq_ignore_ascii_case("all")
    {
        return Ok((0..names.len()).collect());
    }
    let mut found = vec![];
    for text in texts {
        for k in find_one(&names, text.as_ref().trim())? {
            if found.contains(&k) {
                return Err(Error::Usage(format!("class '{}' is named twice", names[k])));
            }
            found.push(k);
        }
    }
    Ok(found)
}

fn find_one(names: &[&str], text: &str) -> Result<Vec<usize>> {
    let matching = |matches: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..names.len()).filter(|&k| matches(names[k])).collect()
    };
    let ambiguous = |found: &[usize]| {
        let found: Vec<&str> = found.iter().map(|&k| names[k]).collect();
        Error::Usage(format!("'{text}' may be any of the classes {}", found.join(", ")))
    };
    let lower = text.to_lowercase();
    let whole = [
        matching(&|name| name == text),
        matching(&|name| name.to_lowercase() == lower),
        matching(&|name| folder_name(name).to_lowercase() == lower),
    ];
    if let Some(found) = whole.into_iter().find(|found| !found.is_empty()) {
        return if found.len() == 1 { Ok(found) } else { Err(ambiguous(&found)) };
    }
    if let Some(range) = range(text) {
        let (first, last) = range?;
        return if last < names.len() {
            Ok((first..=last).collect())
        } else {
            Err(unknown(names, text))
        };
    }
    let begins = matching(&|name| {
        name.to_lowercase().starts_with(&lower)
            || folder_name(name).to_lowercase().starts_with(&lower)
    });
    match begins.len() {
        1 => Ok(begins),
        0 => Err(unknown(names, text)),
        _ if text.is_empty() => Err(unknown(names, text)),
        _ => Err(ambiguous(&begins)),
    }
}

/// First and last number of `3` or `0-3`; none if the text is neither.
fn range(text: &str) -> Option<Result<(usize, usize)>> {
    // A sign is no part of a number here, though parse() takes one.
    let number = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<usize>().ok()).flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    Some(match first <= last {
        true => Ok((first, last)),
        false => Err(Error::Usage(format!(
            "{text}: the range ends before it begins; {last}-{first} is meant?"
        ))),
    })
}

fn unknown(names: &[&str], text: &str) -> Error {
    let lower = text.to_lowercase();
    let like = |name: &&&str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &lower);
    let nearest =
        names.iter().max_by(|a, b| like(a).total_cmp(&like(b))).filter(|name| like(name) >= 0.5);
    let hint = nearest.map(|name| format!(" Did you mean '{name}'?")).unwrap_or_default();
    let all: Vec<String> =
        names.iter().enumerate().map(|(k, name)| format!("{k} {name}")).collect();
    Error::Usage(format!("no class '{text}'.{hint} There are all, {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::embedded::FASHION_CLASSES;

    fn fashion(texts: &str) -> std::result::Result<Vec<usize>, String> {
        let texts: Vec<&str> = texts.split(',').collect();
        find(&FASHION_CLASSES, &texts).map_err(|e| e.to_string())
    }

    #[test]
    fn a_class_has_many_names() {
        for (texts, expected) in [
            ("all", (0..10).collect()),
            ("ALL", (0..10).collect()),
            ("Trouser", vec![1]),
            ("trouser", vec![1]),
            ("T-shirt/top", vec![0]),
            ("t-shirt-top", vec![0]),
            ("ankle-boot", vec![9]),
            ("Ankle boot", vec![9]),
            ("7", vec![7]),
            ("07", vec![7]),
            ("0-3", vec![0, 1, 2, 3]),
            ("9-9", vec![9]),
            ("snea", vec![7]),
            ("t-", vec![0]),
            ("ankle-", vec![9]),
            ("shirt", vec![6]),
            ("5, bag ,0-1", vec![5, 8, 0, 1]),
        ] {
            assert_eq!(fashion(texts), Ok(expected), "{texts}");
        }
    }

    #[test]
    fn what_is_no_class_is_said_with_what_may_be_meant() {
        for (texts, says) in [
            ("11", &["no class '11'", "7 Sneaker"][..]),
            ("8-11", &["8-11", "9 Ankle boot"]),
            ("3-1", &["ends before it begins", "1-3"]),
            ("snaeker", &["Did you mean 'Sneaker'?"]),
            ("pulover", &["Did you mean 'Pullover'?"]),
            ("aeroplane", &["no class 'aeroplane'. There are all, 0 T-shirt/top"]),
            ("t", &["'t'", "T-shirt/top, Trouser"]),
            ("s", &["Sandal, Shirt, Sneaker"]),
            ("", &["no class ''"]),
            ("-1", &["no class '-1'"]),
            ("+1", &["no class '+1'"]),
            ("1-", &["no class '1-'"]),
            ("99999999999999999999999", &["no class '99999999999999999999999'"]),
            ("1,trouser", &["'Trouser' is named twice"]),
            ("0-3,2", &["'Pullover' is named twice"]),
            ("1,all", &["no class 'all'"]),
        ] {
            let error = fashion(texts).expect_err(texts);
            for part in says {
                assert!(error.contains(part), "{texts}: {error}");
            }
        }
        assert!(find(&FASHION_CLASSES, &["12"]).is_err_and(|e| e.exit_code() == 2));
    }

    /// A name wins over a number, the exact name over one in another case.
    #[test]
    fn names_that_look_alike() {
        let digits = ["1", "2", "3", "0"];
        assert_eq!(find(&digits, &["1", "0"]).unwrap(), [0, 3]);
        assert_eq!(find(&digits, &["1-2"]).unwrap(), [1, 2]);
        let cases = ["good", "Good", "a/b", "a b", "ab-1", "2-3"];
        assert_eq!(find(&cases, &["Good", "good"]).unwrap(), [1, 0]);
        assert_eq!(find(&cases, &["2-3"]).unwrap(), [5]);
        assert!(find(&cases, &["GOOD"]).unwrap_err().to_string().contains("good, Good"));
        assert!(find(&cases, &["a-b"]).unwrap_err().to_string().contains("a/b, a b"));
        assert!(find(&["128px"], &["12"]).is_err(), "a number is not the beginning of a name");
        assert_eq!(find(&["Größe", "ärmel"], &["GRÖ", "ÄRMEL"]).unwrap(), [0, 1]);
    }
}
