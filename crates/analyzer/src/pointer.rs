//! The union of paths that a pointer may have: a small sorted set.
//!
//! Most pointers have one path. It is kept in place, without an allocation: there are millions of
//! pointers, and a tree's node of each would be most of the facts' memory.

use std::{fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use smallvec::SmallVec;

use crate::facts::Path;

/// Union of paths, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(SmallVec<[Path; 1]>);

impl Pointer {
    /// No path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a path; says whether it is new.
    pub fn insert(&mut self, path: Path) -> bool {
        match self.0.binary_search(&path) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, path);
                true
            }
        }
    }

    /// Keeps the paths that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&Path) -> bool) {
        self.0.retain(|path| keep(path));
    }

    /// Changes every path.
    pub(crate) fn for_each_mut(&mut self, change: impl FnMut(&mut Path)) {
        self.0.iter_mut().for_each(change);
        self.settle();
    }

    fn settle(&mut self) {
        if !self.0.is_sorted_by(|a, b| a < b) {
            self.0.sort_unstable();
            self.0.dedup();
        }
    }
}

impl Deref for Pointer {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        &self.0
    }
}

impl From<Path> for Pointer {
    fn from(path: Path) -> Self {
        Self(SmallVec::from_buf([path]))
    }
}

impl FromIterator<Path> for Pointer {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        let mut pointer = Self(paths.into_iter().collect());
        pointer.settle();
        pointer
    }
}

impl Extend<Path> for Pointer {
    fn extend<I: IntoIterator<Item = Path>>(&mut self, paths: I) {
        for path in paths {
            self.insert(path);
        }
    }
}

impl IntoIterator for Pointer {
    type Item = Path;
    type IntoIter = smallvec::IntoIter<[Path; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Pointer {
    type Item = &'a Path;
    type IntoIter = std::slice::Iter<'a, Path>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Paths;
        impl<'de> Visitor<'de> for Paths {
            type Value = Pointer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("paths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut paths: A) -> Result<Pointer, A::Error> {
                let mut pointer = Pointer::new();
                while let Some(path) = paths.next_element()? {
                    pointer.0.push(path);
                }
                pointer.settle();
                Ok(pointer)
            }
        }
        deserializer.deserialize_seq(Paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Reach, Root};

    fn path(parameter: u16) -> Path {
        Path {
            root: Root::Parameter(parameter),
            reach: Reach::Object,
            view: None,
        }
    }

    #[test]
    fn paths_are_sorted_and_unique_however_they_came() {
        let all: Pointer = [3, 1, 2, 1].map(path).into_iter().collect();
        assert_eq!(*all, [1, 2, 3].map(path));
        let mut added = Pointer::from(path(3));
        assert!(added.insert(path(1)) && !added.insert(path(3)));
        added.extend([path(2), path(1)]);
        assert_eq!(added, all);
        added.for_each_mut(|p| p.root = Root::Local);
        assert_eq!(added.len(), 1);
    }

    #[test]
    fn reading_sorts() -> Result<(), postcard::Error> {
        let bytes = postcard::to_extend(&[2, 1, 2].map(path).to_vec(), Vec::new())?;
        let read: Pointer = postcard::from_bytes(&bytes)?;
        assert_eq!(*read, [1, 2].map(path));
        Ok(())
    }
}
