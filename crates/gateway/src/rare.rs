//! What nearly every object lacks, for the size of a pointer.

use std::fmt;
use std::ops::Deref;

/// A value that is nearly always the usual one, and takes no room while it is.
pub struct Rare<T>(Option<Box<T>>);

pub trait Usual: Default + 'static {
    fn usual() -> &'static Self;
    fn is_usual(&self) -> bool;
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((!value.is_usual()).then(|| Box::new(value)))
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::usual(),
        }
    }
}

impl<T: Usual> Rare<T> {
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let value = self.0.get_or_insert_default();
        let result = change(value);
        if value.is_usual() {
            self.0 = None;
        }
        result
    }
}

impl<T: Usual + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Usual for String {
        fn usual() -> &'static Self {
            static USUAL: String = String::new();
            &USUAL
        }

        fn is_usual(&self) -> bool {
            self.is_empty()
        }
    }

    #[test]
    fn the_usual_takes_no_room() {
        let mut rare = Rare::from(String::new());
        assert_eq!((rare.0.is_none(), rare.as_str()), (true, ""));
        rare.change(|text| text.push('a'));
        assert_eq!((rare.0.is_none(), rare.as_str()), (false, "a"));
        rare.change(String::clear);
        assert_eq!((rare.0.is_none(), rare.as_str()), (true, ""));
        assert_eq!(*Rare::from("b".to_owned()), "b");
    }
}
