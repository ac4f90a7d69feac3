//! Reading `docs/protocol.md`.

use std::path::Path;

/// The document.
pub(crate) struct Document(String);

/// One fenced JSON block: who sends it, and its text.
pub(crate) struct Example<'d> {
    pub(crate) sender: &'d str,
    pub(crate) line: usize,
    pub(crate) text: &'d str,
}

impl Document {
    pub(crate) fn load() -> Self {
        Self::read("docs/protocol.md")
    }

    /// Reads a file of this repository.
    pub(crate) fn read(path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        Self(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// The rows of the table that follows `<!-- contract: NAME -->`, cells without backticks.
    pub(crate) fn table(&self, name: &str) -> Vec<Vec<String>> {
        let marker = format!("<!-- contract: {name} -->\n");
        let (_, behind) = self.0.split_once(&marker).unwrap_or_else(|| panic!("docs/protocol.md has {marker}"));
        assert!(!behind.contains(&marker), "docs/protocol.md has {marker} once");
        let lines = behind.lines().take_while(|line| line.starts_with('|'));
        let cells = |line: &str| -> Vec<String> {
            let inner = line.trim_matches('|');
            inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
        };
        let rows: Vec<_> = lines.skip(2).map(cells).collect();
        assert!(!rows.is_empty(), "the table {name} of docs/protocol.md has rows");
        rows
    }

    /// One column of such a table.
    pub(crate) fn column(&self, name: &str, at: usize) -> Vec<String> {
        self.table(name).into_iter().map(|row| row[at].clone()).collect()
    }

    /// The blocks fenced as `json client`, `json gateway` or `json publisher`, a line each or as a whole.
    pub(crate) fn examples(&self) -> Vec<Example<'_>> {
        let mut examples = Vec::new();
        let mut sender = None;
        for (line, text) in (1..).zip(self.0.lines()) {
            match (sender, text.strip_prefix("```")) {
                (None, Some(fence)) => sender = Some(fence.strip_prefix("json ").unwrap_or_default()),
                (Some(_), Some(_)) => sender = None,
                (Some("") | None, None) => {}
                (Some(sender), None) => examples.push(Example { sender, line, text }),
            }
        }
        examples
    }
}
