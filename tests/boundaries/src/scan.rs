//! What one source file says of modules: which it declares, and which it uses.

use std::collections::BTreeMap;

use crate::conditional::{end_of_group, is, without_tests};
use crate::rules::PROVIDERS;
use crate::tokens::{Token, tokens};

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The modules that have files of their own, by their path from the crate's root.
    pub(crate) declared: Vec<Vec<String>>,
    /// The names that are looked up in the crate's root.
    pub(crate) used: Vec<Use>,
    /// Where a provider is named, by line.
    pub(crate) providers: Vec<usize>,
    /// In the crate's root only: names that it has from modules, with those modules; `*` has several.
    pub(crate) imported: BTreeMap<String, Vec<String>>,
}

/// A name that is looked up in the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The top-level module that uses it; none in the root itself.
    pub(crate) by: Option<String>,
    /// The first component of the path; `*` for all. In the root it need not be a module.
    pub(crate) name: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// Reads the file of the module with this path; the crate's root has an empty one.
pub(crate) fn scan(module: &[String], source: &str) -> Scan {
    let tokens = without_tests(&tokens(source));
    let mut scanner = Scanner {
        tokens: &tokens,
        path: module.to_vec(),
        scan: Scan::default(),
    };
    scanner.block(0, tokens.len());
    scanner.scan.providers = providers(&tokens);
    scanner.scan
}

/// The lines with `Provider::Name`; constants and functions of the type are no names of providers.
fn providers(tokens: &[Token]) -> Vec<usize> {
    let variant = |text: &str| {
        let mut characters = text.chars();
        characters.next().is_some_and(char::is_uppercase) && characters.any(char::is_lowercase)
    };
    let named = tokens.windows(3).filter(|window| {
        let [name, separator, variant_of] = window else {
            return false;
        };
        PROVIDERS.contains(&name.text.as_str()) && separator.text == "::" && variant(&variant_of.text)
    });
    named.map(|window| window[0].line).collect()
}

struct Scanner<'a> {
    tokens: &'a [Token],
    /// The module that is being read.
    path: Vec<String>,
    scan: Scan,
}

impl Scanner<'_> {
    fn block(&mut self, mut at: usize, end: usize) {
        while at < end {
            at = self.item(at);
        }
    }

    /// Reads what begins here; returns where to go on.
    fn item(&mut self, at: usize) -> usize {
        let after_separator = at > 0 && is(self.tokens, at - 1, "::");
        let token = &self.tokens[at];
        match token.text.as_str() {
            "mod" if self.name(at + 1).is_some() => self.module(at),
            "use" if self.path.is_empty() => self.root_import(at),
            // `pub(in crate::a)` depends on nothing.
            "crate" if is(self.tokens, at + 1, "::") && !is(self.tokens, at.saturating_sub(1), "in") => {
                self.names(at + 2, 0);
                at + 2
            }
            "super" if is(self.tokens, at + 1, "::") && !after_separator => {
                self.names(at, self.path.len());
                at + 2
            }
            "self" if is(self.tokens, at + 1, "::") && !after_separator => {
                self.names(at + 2, self.path.len());
                at + 2
            }
            // Only the root may begin a path with a top-level module.
            _ if self.path.is_empty() && token.is_name() && is(self.tokens, at + 1, "::") && !after_separator => {
                self.names(at, 0);
                at + 1
            }
            _ => at + 1,
        }
    }

    /// `mod a;` or `mod a { ... }`.
    fn module(&mut self, at: usize) -> usize {
        self.path.extend(self.name(at + 1));
        let end = if is(self.tokens, at + 2, "{") {
            let end = end_of_group(self.tokens, at + 2);
            self.block(at + 3, end.saturating_sub(1));
            end
        } else {
            self.scan.declared.push(self.path.clone());
            at + 2
        };
        self.path.pop();
        end
    }

    /// Notes the names that are looked up in the root by the path, or the group of paths, that begins here in a module
    /// `depth` levels below the root.
    fn names(&mut self, at: usize, depth: usize) {
        let Some(token) = self.tokens.get(at) else { return };
        match token.text.as_str() {
            "{" => {
                let end = end_of_group(self.tokens, at).saturating_sub(1);
                let mut element = at + 1;
                while element < end {
                    self.names(element, depth);
                    element = self.end_of_element(element, end);
                }
            }
            "super" if is(self.tokens, at + 1, "::") => {
                if let Some(depth) = depth.checked_sub(1) {
                    self.names(at + 2, depth);
                }
            }
            "crate" | "self" if is(self.tokens, at + 1, "::") => self.names(at + 2, depth),
            text if depth == 0 && (token.is_name() || text == "*") => self.scan.used.push(Use {
                by: self.path.first().cloned(),
                name: text.to_owned(),
                line: token.line,
            }),
            _ => {}
        }
    }

    /// Where the next element of a group begins.
    fn end_of_element(&self, mut at: usize, end: usize) -> usize {
        while at < end {
            match self.tokens[at].text.as_str() {
                "{" => at = end_of_group(self.tokens, at),
                "," => return at + 1,
                _ => at += 1,
            }
        }
        end
    }

    /// An import in the crate's root. What it exports again, it doesn't depend on.
    fn root_import(&mut self, at: usize) -> usize {
        let exported = at > 0 && (is(self.tokens, at - 1, "pub") || is(self.tokens, at - 1, ")"));
        if !exported {
            self.names(at + 1, 0);
        }
        self.imports(at + 1, None)
    }

    /// Notes what is imported by the path that begins here, below `top`; returns where it ends.
    fn imports(&mut self, mut at: usize, top: Option<&str>) -> usize {
        let mut top = top.map(str::to_owned);
        let mut last = None;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "{" => {
                    let end = end_of_group(self.tokens, at);
                    let mut element = at + 1;
                    while element < end.saturating_sub(1) {
                        self.imports(element, top.as_deref());
                        element = self.end_of_element(element, end - 1);
                    }
                    return end;
                }
                "::" | "crate" | "self" => {}
                "as" => last = self.name(at + 1),
                name if token.is_name() || name == "*" => {
                    // The name behind `as` stays.
                    if !is(self.tokens, at - 1, "as") {
                        last = Some(name.to_owned());
                    }
                    if top.is_none() {
                        top = Some(name.to_owned());
                    }
                }
                _ => break,
            }
            at += 1;
        }
        if let (Some(name), Some(top)) = (last, top)
            && name != top
        {
            self.scan.imported.entry(name).or_default().push(top);
        }
        at
    }

    fn name(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at).filter(|token| token.is_name())?;
        Some(token.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(module: &str) -> Vec<String> {
        module
            .split("::")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn used(module: &str, source: &str) -> String {
        let found = scan(&path(module), source).used;
        found
            .iter()
            .map(|found| found.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn crate_path_is_found_in_imports_and_expressions() {
        assert_eq!(
            used("m", "use crate::a::X; fn f() -> crate::b::Y { crate::c() }"),
            "a b c"
        );
        assert_eq!(used("m", "$crate::a::x!()"), "a");
    }

    #[test]
    fn provider_is_named_by_a_variant_outside_of_tests() {
        let lines = |source: &str| scan(&path("m"), source).providers;
        assert_eq!(
            lines("match p {\nProvider::Azure => 1, policy::Provider::GitHub => 2,\n}"),
            [2, 2]
        );
        assert_eq!(lines("ProviderName::Aws"), [1]);
        assert!(lines("Provider::ALL; Provider::default(); p.facts(); AwsProvider::New").is_empty());
        assert!(lines("// Provider::Azure\n#[cfg(test)]\nmod tests { fn f() { Provider::Azure } }").is_empty());
    }

    #[test]
    fn group_of_paths_gives_the_first_name_of_each() {
        assert_eq!(used("m", "use crate::{a::{X, Y}, b, c::{self}};"), "a b c");
    }

    #[test]
    fn super_path_counts_when_it_reaches_the_root() {
        assert_eq!(used("m", "use super::a::X; super::b::y()"), "a b");
        assert_eq!(
            used(
                "m::n",
                "use super::a::X; use super::super::b; use super::{super::c::Y, d};"
            ),
            "b c"
        );
        assert_eq!(used("m", "use self::a::X; self::super::b()"), "b");
    }

    #[test]
    fn super_path_in_an_inline_module_starts_there() {
        assert_eq!(
            used("m", "mod n { use super::a; use super::super::b; } use super::c;"),
            "b c"
        );
    }

    #[test]
    fn visibility_is_no_use() {
        assert_eq!(
            used(
                "m",
                "pub(crate) fn a() {} pub(super) fn b() {} pub(in crate::m) fn c() {}"
            ),
            ""
        );
    }

    #[test]
    fn test_module_uses_nothing() {
        assert_eq!(used("m", "#[cfg(test)] mod tests { use crate::a; } use crate::b;"), "b");
    }

    #[test]
    fn root_path_may_begin_with_a_module() {
        assert_eq!(used("", "fn main() { a::run(crate::b::X) }"), "a b");
        assert_eq!(used("m", "fn f() { a::run() }"), "");
    }

    #[test]
    fn root_remembers_where_its_names_come_from() {
        let found = scan(&[], "pub use a::{X, b::Y as Z}; pub use c::*; use d::W;");
        let imported: Vec<_> = found
            .imported
            .iter()
            .map(|(name, from)| format!("{name}={}", from.join("+")))
            .collect();
        assert_eq!(imported, ["*=c", "W=d", "X=a", "Z=a"]);
        assert_eq!(found.used.len(), 1, "only the import for itself: {:?}", found.used);
    }

    #[test]
    fn declared_modules_have_their_whole_path() {
        let found = scan(
            &path("m"),
            "mod a; pub(crate) mod b; mod c { mod d; } #[cfg(test)] mod tests;",
        );
        assert_eq!(found.declared, [path("m::a"), path("m::b"), path("m::c::d")]);
    }

    #[test]
    fn use_has_its_line_and_module() {
        let found = scan(&path("m::n"), "\n\nuse crate::{\n    a,\n};");
        let expected = Use {
            by: Some("m".to_owned()),
            name: "a".to_owned(),
            line: 4,
        };
        assert_eq!(found.used, [expected]);
    }
}
