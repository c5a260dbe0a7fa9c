//! What the pages say of this tree: links lead somewhere, and every test that is named exists.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Files below a folder whose names end so, with their text; not those of version control or builds.
fn files(folder: &Path, ending: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(path, text);
        }
    }
    found
}

/// The text without what is quoted: blocks of code, and code within a line.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            line.split('`').step_by(2).for_each(|part| prose.push_str(part));
            prose.push('\n');
        }
    }
    prose
}

/// The fragments that lead to the headings of a page, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        anchors.push(kept.collect::<String>().replace(' ', "-"));
    }
    anchors
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = files(&root(), ".md");
    let mut broken = Vec::new();
    let mut count = 0;
    for (page, text) in &pages {
        for link in prose(text).split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                page.clone()
            } else {
                normal(&page.parent().unwrap().join(file))
            };
            let leads = path.exists()
                && (fragment.is_empty()
                    || pages
                        .get(&path)
                        .is_some_and(|text| anchors(text).iter().any(|a| a == fragment)));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 10, "only {count} links were found");
}

/// Without its dots: links are resolved by name, as a browser does.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The tests that a text names: `module::name_of_the_test`, and `e2e/name-of-the-scenario`.
fn named_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let snake = |word: &str| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        !word.is_empty() && word.bytes().all(lower)
    };
    let named = |word: &&str| match word.split_once("::") {
        Some((module, name)) => snake(module) && snake(name),
        None => word.starts_with("e2e/"),
    };
    quoted.filter(named).collect()
}

#[test]
fn every_test_that_a_page_names_is_in_the_tree() {
    let mut sources = files(&root().join("crates"), ".rs");
    sources.extend(files(&root().join("tests"), ".rs"));
    let is_scenario = |name: &str| {
        let scenario = format!("name: \"{name}\"");
        let of_e2e = |path: &Path| path.starts_with(root().join("tests/e2e"));
        sources
            .iter()
            .any(|(path, text)| of_e2e(path) && text.contains(&scenario))
    };
    let is_test = |module: &str, name: &str| {
        let function = format!("fn {name}(");
        let inside = |path: &Path| {
            path.with_extension("")
                .components()
                .any(|part| part.as_os_str() == module)
        };
        sources
            .iter()
            .any(|(path, text)| inside(path) && text.contains(&function))
    };
    let is_there = |test: &str| {
        let scenario = || is_scenario(test.trim_start_matches("e2e/"));
        test.split_once("::")
            .map_or_else(scenario, |(module, name)| is_test(module, name))
    };
    for (page, least) in [("security.md", 40), ("registries.md", 40), ("versions.md", 3)] {
        let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
        let named = named_tests(&text);
        assert!(named.len() >= least, "docs/{page} names only {} tests", named.len());
        let missing: Vec<&&str> = named.iter().filter(|test| !is_there(test)).collect();
        assert!(
            missing.is_empty(),
            "docs/{page} names tests that don't exist: {missing:#?}"
        );
    }
}

/// The files that a text names: quoted, with a folder of this tree first. `NAME` stands for what a reader fills in.
fn named_files(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named = |word: &&str| {
        let folder = word.split_once('/').map(|(folder, _)| folder);
        let is_ours = folder.is_some_and(|folder| ["crates", "charts", "docs", "tests", "examples"].contains(&folder));
        is_ours && !word.contains("NAME") && !word.contains(' ')
    };
    quoted.filter(named).collect()
}

#[test]
fn files_that_contributors_are_sent_to_are_in_the_tree() {
    for page in ["CONTRIBUTING.md", "docs/architecture.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let named = named_files(&text);
        assert!(named.len() >= 10, "{page} names only {} files", named.len());
        let missing: Vec<&&str> = named.iter().filter(|file| !root().join(file).exists()).collect();
        assert!(missing.is_empty(), "{page} names files that don't exist: {missing:#?}");
    }
}

#[test]
fn workflows_run_pinned_actions_with_no_more_rights_than_they_name() {
    let workflows = files(&root().join(".github/workflows"), ".yml");
    assert!(!workflows.is_empty());
    for (path, text) in &workflows {
        let path = path.display();
        let mut lines = text.lines().map(str::trim);
        assert!(
            text.contains("\npermissions: {}\n"),
            "{path}: rights are given by each job"
        );
        assert!(
            !text.contains("pull_request_target"),
            "{path}: a change from outside would run with our rights"
        );
        for action in lines
            .by_ref()
            .filter_map(|line| line.trim_start_matches("- ").strip_prefix("uses: "))
        {
            let (_, version) = action.split_once('@').unwrap();
            let (commit, comment) = version.split_once(" # ").unwrap_or((version, ""));
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(
                is_commit && comment.starts_with('v'),
                "{path}: {action} is pinned to a commit, with its version"
            );
        }
    }
}

/// A threat is answered by a test, or the page says that it is not.
#[test]
fn every_threat_is_answered_by_a_test_or_said_to_be_none_of_ours() {
    let text = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let threats = text.split("\n## Threats\n").nth(1).expect("the page has threats");
    let threats = threats.split("\n## ").next().unwrap();
    let rows: Vec<&str> = threats
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .collect();
    assert!(rows.len() > 20, "only {} rows were found", rows.len());
    for row in rows.iter().filter(|row| !row.starts_with("| threat |")) {
        let answer = row.trim_end_matches('|').trim().rsplit(" | ").next().unwrap();
        assert!(
            !named_tests(answer).is_empty() || answer.starts_with("not defended:"),
            "no test answers: {row}"
        );
    }
}

/// The chart's rights on Secrets, read from its templates: named, within a namespace, and never by looking around.
#[test]
fn the_chart_never_lets_the_operator_list_or_watch_secrets() {
    let templates = files(&root().join("charts/catamaran/templates"), ".yaml");
    let mut rules = 0;
    for (path, text) in &templates {
        for rule in text.split("- apiGroups:").skip(1) {
            let of_secrets = rule
                .lines()
                .any(|line| line.contains("resources:") && line.contains("secrets"));
            if !of_secrets {
                continue;
            }
            let find = |word: &str| rule.lines().find(|line| line.contains(word));
            // What an admission policy is about grants nothing.
            if find("operations:").is_some() {
                continue;
            }
            rules += 1;
            let verbs = find("verbs:").unwrap();
            let looks_around = ["list", "watch", "deletecollection", "'*'", "\"*\""]
                .iter()
                .any(|verb| verbs.contains(verb));
            assert!(!looks_around, "{}: {verbs}", path.display());
            assert!(
                !path.ends_with("clusterrole.yaml"),
                "Secrets of the whole cluster: {verbs}"
            );
        }
    }
    assert!(rules >= 3, "only {rules} rules on Secrets were found");
}
