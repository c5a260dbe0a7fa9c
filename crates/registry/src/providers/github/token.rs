//! Tokens of GitHub's, by their shape.

/// What kind of token of GitHub's it is: they begin with what they are (GitHub Docs, "About authentication to GitHub").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GitHubToken {
    /// A classic personal access token.
    Classic,
    /// A fine-grained personal access token.
    FineGrained,
    /// A token of a GitHub App or of an Actions job.
    App,
}

impl GitHubToken {
    const PREFIXES: [(&'static str, GitHubToken); 5] = [
        ("ghp_", GitHubToken::Classic),
        ("github_pat_", GitHubToken::FineGrained),
        ("ghs_", GitHubToken::App),
        ("ghu_", GitHubToken::App),
        ("ghr_", GitHubToken::App),
    ];

    /// `None` for what says nothing: passwords, tokens of others, and GitHub's from before 2021.
    pub(super) fn of(password: &str) -> Option<GitHubToken> {
        let mut kinds = GitHubToken::PREFIXES.iter();
        kinds
            .find(|(prefix, _)| password.starts_with(prefix))
            .map(|(_, kind)| *kind)
    }
}
