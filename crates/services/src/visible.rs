//! Pages of lists of which the caller may see only some entries, because the rules of its roles have conditions.
//!
//! The page and the count are of what is seen: a count of everything would tell, search by search, what is hidden.

use domain::{Error, Result};

/// Entries that are looked through at a time.
const PIECE: u32 = 500;

/// The most entries that are looked through for one answer.
const LOOKED_THROUGH_MAX: u32 = 100_000;

/// A page that is being filled from the pieces of a list.
pub(crate) struct VisiblePage<T> {
    offset: u32,
    limit: u32,
    sees_all: bool,
    /// The piece that is to be read next.
    wanted: Option<(u32, u32)>,
    entries: Vec<T>,
    seen: u32,
}

impl<T> VisiblePage<T> {
    /// The entries from `offset` on, at most `limit`. A caller who sees all is given the piece of the list that they are.
    pub(crate) fn new(offset: u32, limit: u32, sees_all: bool) -> Self {
        let wanted = Some(if sees_all { (offset, limit) } else { (0, PIECE) });
        Self { offset, limit, sees_all, wanted, entries: Vec::new(), seen: 0 }
    }

    /// Which piece of the list is to be read and added next: from where on, and how many. None once the page is whole.
    pub(crate) fn wanted(&self) -> Option<(u32, u32)> {
        self.wanted
    }

    /// Adds the piece; an entry that the caller may not see is nothing.
    pub(crate) fn add(&mut self, piece: impl ExactSizeIterator<Item = Option<T>>) -> Result<()> {
        let is_last = self.sees_all || piece.len() < PIECE as usize;
        for entry in piece.flatten() {
            if self.sees_all || (self.seen >= self.offset && self.seen - self.offset < self.limit) {
                self.entries.push(entry);
            }
            self.seen += 1;
        }
        self.wanted = self.wanted.filter(|_| !is_last).map(|(from, _)| (from + PIECE, PIECE));
        match self.wanted {
            Some((from, _)) if from >= LOOKED_THROUGH_MAX => Err(Error::invalid(format!(
                "your roles have conditions, and more than {LOOKED_THROUGH_MAX} entries would have to be looked \
                 through: narrow the list"
            ))),
            _ => Ok(()),
        }
    }

    /// The page, and how many entries the caller sees in all, unless that is all there are.
    pub(crate) fn finish(self) -> (Vec<T>, Option<i64>) {
        (self.entries, (!self.sees_all).then_some(i64::from(self.seen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(
        mut page: VisiblePage<u32>,
        list: impl Fn(u32) -> Option<Option<u32>>,
    ) -> Result<(Vec<u32>, Option<i64>)> {
        while let Some((from, limit)) = page.wanted() {
            let piece: Vec<Option<u32>> = (from..from + limit).map_while(&list).collect();
            page.add(piece.into_iter())?;
        }
        Ok(page.finish())
    }

    #[test]
    fn a_page_is_of_what_is_seen_and_so_is_the_count() {
        // Every third of 1,600 is seen: more than one piece.
        let list = |number| (number < 1_600).then_some((number % 3 == 0).then_some(number));
        for (offset, limit, expected) in [
            (0, 3, vec![0, 3, 6]),
            (2, 2, vec![6, 9]),
            (532, 10, vec![1_596, 1_599]),
            (534, 10, vec![]),
            (0, 0, vec![]),
        ] {
            let page = filled(VisiblePage::new(offset, limit, false), list);
            assert_eq!(page.unwrap(), (expected, Some(534)), "{offset} {limit}");
        }
    }

    #[test]
    fn who_sees_all_is_given_one_piece_and_no_count() {
        let list = |number| (number < 10).then_some(Some(number));
        assert_eq!(filled(VisiblePage::new(8, 5, true), list).unwrap(), (vec![8, 9], None));
    }

    #[test]
    fn a_list_without_an_end_is_refused() {
        let refused = filled(VisiblePage::new(0, 1, false), |number| Some(Some(number))).unwrap_err();
        assert_eq!(refused.reason(), Some(domain::Reason::Invalid));
    }
}
