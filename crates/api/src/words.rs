//! Words that are written down once: as a constant for code, and with their meaning in a list for docs/reference.

/// Defines constants, and the list of them with their documentation.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        $list:ident:
        $($(#[doc = $doc:literal])+ $name:ident = $text:expr;)+
    ) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        $(#[doc = $about])+
        pub const $list: &[(&str, &str)] = &[$(($text, concat!($($doc),+))),+];
    };
}

pub(crate) use words;
