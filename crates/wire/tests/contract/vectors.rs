//! Reads the files of `docs/vectors`.

use std::path::Path;

use serde_json::{Map, Value};

/// One file of `docs/vectors`.
pub(crate) struct Vectors {
    name: String,
    file: Value,
}

/// One case: an object, and its place in the file for failure messages.
pub(crate) struct Case<'v> {
    pub(crate) at: String,
    fields: &'v Map<String, Value>,
}

impl Vectors {
    pub(crate) fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.into(), file }
    }

    /// The cases of one list. An empty list fails, so that a lost list cannot pass as a success.
    pub(crate) fn cases(&self, list: &str) -> Vec<Case<'_>> {
        let cases = self.file[list].as_array().unwrap_or_else(|| panic!("{} has a list {list}", self.name));
        assert!(!cases.is_empty(), "{}: {list} is empty", self.name);
        let mut all = Vec::with_capacity(cases.len());
        for (n, case) in cases.iter().enumerate() {
            let called = case["name"].as_str().unwrap_or_default();
            let at = format!("docs/vectors/{} {list}[{n}] {called}", self.name);
            all.push(Case { at, fields: case.as_object().expect("a case is an object") });
        }
        all
    }

    /// The strings of one list. An empty list fails.
    pub(crate) fn texts(&self, list: &str) -> Vec<&str> {
        let texts = self.file[list].as_array().unwrap_or_else(|| panic!("{} has a list {list}", self.name));
        assert!(!texts.is_empty(), "{}: {list} is empty", self.name);
        texts.iter().map(|text| text.as_str().expect("a text")).collect()
    }
}

impl<'v> Case<'v> {
    pub(crate) fn get(&self, field: &str) -> Option<&'v Value> {
        self.fields.get(field)
    }

    pub(crate) fn text(&self, field: &str) -> &'v str {
        self.find_text(field).unwrap_or_else(|| panic!("{}: no text {field:?}", self.at))
    }

    pub(crate) fn find_text(&self, field: &str) -> Option<&'v str> {
        self.get(field).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.get(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("{}: no number {field:?}", self.at))
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or_else(|| panic!("{}: no flag {field:?}", self.at))
    }

    pub(crate) fn texts(&self, field: &str) -> Vec<&'v str> {
        let list =
            self.get(field).and_then(Value::as_array).unwrap_or_else(|| panic!("{}: no list {field:?}", self.at));
        list.iter().map(|text| text.as_str().expect("a text")).collect()
    }

    /// The bytes of the field: `field` holds text, `field_hex` holds hexadecimal digits.
    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        match self.find_text(field) {
            Some(text) => text.as_bytes().to_vec(),
            None => unhex(self.text(&format!("{field}_hex"))),
        }
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hexadecimal digits come in pairs: {text}");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|_| panic!("not hexadecimal: {text}"));
    (0..text.len()).step_by(2).map(byte).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
