//! The crates of the workspace, and the source files of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::graph::{Graph, Place, ROOT};
use crate::scan::{Scan, scan};

/// Why a crate could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("failed to read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("failed to find the file of module {module} below {folder}")]
    NoModule { module: String, folder: PathBuf },
    #[error("failed to find the workspace's members in {0}")]
    NoMembers(PathBuf),
}

/// The folders of the workspace's members.
pub(crate) fn members(root: &Path) -> Result<Vec<String>, ReadError> {
    let manifest = root.join("Cargo.toml");
    let text = read(&manifest)?;
    let list = text
        .split_once("\nmembers = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.ok_or(ReadError::NoMembers(manifest))?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The library, or a program, of a crate.
pub(crate) struct Target {
    pub(crate) graph: Graph,
    /// Each place that names a provider.
    pub(crate) providers: Vec<Place>,
}

/// The library and the program in this folder, those of them that exist.
pub(crate) fn targets(root: &Path, folder: &str) -> Result<Vec<Target>, ReadError> {
    let sources = root.join(folder).join("src");
    let files = ["lib.rs", "main.rs"].map(|name| sources.join(name));
    files
        .iter()
        .filter(|file| file.is_file())
        .map(|file| target(root, file))
        .collect()
}

/// What begins with this file.
fn target(root: &Path, file: &Path) -> Result<Target, ReadError> {
    let folder = file.parent().unwrap_or(root);
    let first = scan(&[], &read(file)?);
    let mut waiting = first.declared.clone();
    let mut scans = vec![(file.to_owned(), first)];
    while let Some(module) = waiting.pop() {
        let file = file_of(folder, &module)?;
        let found = scan(&module, &read(&file)?);
        waiting.extend(found.declared.iter().cloned());
        scans.push((file, found));
    }
    let shown = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let named = scans.iter().flat_map(|(file, scan)| {
        let places = scan.providers.iter();
        places.map(|line| format!("{}:{line}", shown(file)))
    });
    Ok(Target {
        providers: named.collect(),
        graph: join(root, &scans),
    })
}

fn file_of(folder: &Path, module: &[String]) -> Result<PathBuf, ReadError> {
    let path: PathBuf = folder.join(module.iter().collect::<PathBuf>());
    let files = [path.with_extension("rs"), path.join("mod.rs")];
    files
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| ReadError::NoModule {
            module: module.join("::"),
            folder: folder.to_owned(),
        })
}

/// Joins what the files say; the first is the crate's root.
fn join(root: &Path, scans: &[(PathBuf, Scan)]) -> Graph {
    let mut graph = Graph::default();
    let mut imported = &BTreeMap::new();
    if let Some((_, first)) = scans.first() {
        first
            .declared
            .iter()
            .filter_map(|path| path.first())
            .for_each(|name| graph.module(name));
        imported = &first.imported;
    }
    let modules: Vec<_> = graph.modules().map(str::to_owned).collect();
    let is_module = |name: &String| modules.contains(name);
    for (file, scan) in scans {
        let file = file.strip_prefix(root).unwrap_or(file).display();
        for found in &scan.used {
            let place = format!("{file}:{}", found.line);
            let by = found.by.as_deref().unwrap_or(ROOT);
            if is_module(&found.name) {
                graph.uses(by, &found.name, place);
                continue;
            }
            // What the root only passes on belongs to the module that it is from.
            let from = imported
                .get(&found.name)
                .or_else(|| imported.get("*"))
                .into_iter()
                .flatten();
            let from: Vec<_> = from.filter(|name| is_module(name)).collect();
            if found.by.is_some() && from.is_empty() {
                graph.uses(by, ROOT, place);
            } else if found.by.is_some() {
                for name in from {
                    graph.uses(by, name, place.clone());
                }
            }
        }
    }
    graph
}

fn read(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of these files, in a folder of its own.
    fn made_up(name: &str, files: &[(&str, &str)]) -> Graph {
        let root = std::env::temp_dir().join(format!("module-cycles-{}-{name}", std::process::id()));
        for (file, text) in files {
            let path = root.join("made-up/src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let target = targets(&root, "made-up").unwrap().remove(0);
        fs::remove_dir_all(&root).unwrap();
        target.graph
    }

    fn cycles(graph: &Graph) -> Vec<String> {
        graph.cycles().iter().map(|cycle| graph.describe(cycle)).collect()
    }

    #[test]
    fn cycle_through_a_nested_module_is_found_with_its_places() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "mod nested;\nuse crate::c::C;"),
            ("a/nested.rs", "\nuse super::super::b::B;"),
            ("b/mod.rs", "pub fn f() -> crate::a::A {}"),
            ("c.rs", ""),
        ];
        let expected = "a -> b (made-up/src/a/nested.rs:2) -> a (made-up/src/b/mod.rs:1)";
        assert_eq!(cycles(&made_up("nested", &files)), [expected]);
    }

    #[test]
    fn cycle_of_tests_is_ignored() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod testing;"),
            (
                "a.rs",
                "#[cfg(test)] mod tests { use crate::b; }\n#[cfg(test)] mod more;",
            ),
            ("b.rs", "use crate::a::A;\n#[cfg(test)]\nuse crate::testing;"),
        ];
        assert!(cycles(&made_up("tests", &files)).is_empty());
    }

    #[test]
    fn cycle_through_a_name_that_the_root_passes_on_is_found() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::A;"),
        ];
        assert_eq!(cycles(&made_up("passed-on", &files)).len(), 1);
    }

    #[test]
    fn cycle_through_an_item_of_the_root_is_found() {
        let files = [
            ("main.rs", "mod a;\nfn main() { a::run() }\nstruct X;"),
            ("a.rs", "use crate::X;"),
        ];
        let expected = "(root) -> a (made-up/src/main.rs:2) -> (root) (made-up/src/a.rs:1)";
        assert_eq!(cycles(&made_up("root", &files)), [expected]);
    }

    #[test]
    fn root_that_passes_on_its_modules_is_in_no_cycle() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub struct X;"),
            ("a.rs", "use crate::{X, b};"),
            ("b.rs", "use crate::X;"),
        ];
        assert!(cycles(&made_up("facade", &files)).is_empty());
    }

    #[test]
    fn module_without_a_file_is_an_error() {
        let missing = file_of(Path::new("nowhere"), &["a".to_owned()]);
        assert!(matches!(missing, Err(ReadError::NoModule { .. })));
    }
}
