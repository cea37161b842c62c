//! Pages of lists: where the next one begins, as an opaque text that belongs to one list.

use crate::login::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Error, Result};

/// Octets that say which list a token belongs to.
const LIST_OCTETS: usize = 6;
const PLACE_OCTETS: usize = LIST_OCTETS + 8;

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Where the next page begins; empty on the last one.
    pub next: String,
}

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// How many objects, from 1.
    pub size: u32,
    /// What the page before said; empty for the first one.
    pub token: String,
}

impl PageRequest {
    /// The place after which the page begins, in the list of this name: a number, by which the list is ordered, and an id.
    /// `first` is the place of the first page.
    pub(super) fn after(&self, list: &str, first: (i64, &str)) -> Result<(i64, String)> {
        if self.token.is_empty() {
            return Ok((first.0, first.1.to_owned()));
        }
        let refused =
            || Error::invalid_field("page_token", "pattern", "page_token is not one that a page of this list gave");
        let octets = URL_SAFE_NO_PAD.decode(&self.token).map_err(|_| refused())?;
        let (head, id) = octets.split_at_checked(PLACE_OCTETS).ok_or_else(refused)?;
        let (name, number) = head.split_at(LIST_OCTETS);
        if name != list_octets(list) {
            return Err(refused());
        }
        let number = i64::from_be_bytes(number.try_into().map_err(|_| refused())?);
        let id = String::from_utf8(id.to_vec()).map_err(|_| refused())?;
        if id.contains('\0') {
            return Err(refused());
        }
        Ok((number, id))
    }

    /// How many rows to read: one more tells whether there is a next page.
    pub(super) fn rows(&self) -> u32 {
        self.size.saturating_add(1)
    }

    /// The page of these rows, of which there may be one too many.
    pub(super) fn page<T>(&self, list: &str, mut items: Vec<T>, place: impl Fn(&T) -> (i64, &str)) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let has_more = items.len() > size;
        items.truncate(size);
        let next = match items.last() {
            Some(last) if has_more => token(list, place(last)),
            _ => String::new(),
        };
        Page { items, next }
    }
}

pub(super) fn token(list: &str, (number, id): (i64, &str)) -> String {
    let mut octets = Vec::with_capacity(PLACE_OCTETS + id.len());
    octets.extend_from_slice(&list_octets(list));
    octets.extend_from_slice(&number.to_be_bytes());
    octets.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(octets)
}

fn list_octets(list: &str) -> [u8; LIST_OCTETS] {
    let mut octets = [0; LIST_OCTETS];
    octets.copy_from_slice(&sha256(list.as_bytes())[..LIST_OCTETS]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_on_in_its_own_list_only() {
        let first = PageRequest { size: 2, token: String::new() };
        let rows = vec![(1, "a"), (2, "b"), (2, "c")];
        let page = first.page("one", rows, |row| *row);
        assert_eq!(page.items.len(), 2);
        let second = PageRequest { size: 2, token: page.next };
        assert_eq!(second.after("one", (0, "")).unwrap(), (2, "b".into()));
        assert!(second.after("other", (0, "")).is_err());
        for token in ["x", "AAAA", "====", "\u{e4}"] {
            let request = PageRequest { size: 2, token: token.into() };
            assert!(request.after("one", (0, "")).is_err(), "{token}");
        }
        assert_eq!(second.page("one", vec![(3, "d")], |row| *row).next, "");
    }

    #[test]
    fn a_token_for_the_longest_id_has_at_most_100_characters() {
        assert!(token("x", (i64::MAX, &"i".repeat(50))).len() <= 100);
    }
}
