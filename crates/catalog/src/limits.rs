//! The bounds of evaluation. A template is untrusted: whoever evaluates one
//! spends at most this much, whatever it says.

/// Bytes of a template's source: 1 MiB.
pub const SOURCE_BYTES: usize = 1 << 20;
/// Bytes of all objects together, as JSON: 4 MiB.
pub const OUTPUT_BYTES: usize = 4 << 20;
/// Bytes between `${{` and `}}`.
pub const EXPRESSION_BYTES: usize = 4096;
/// Levels of an expression's tree.
pub const EXPRESSION_DEPTH: usize = 64;
/// Bytes of one value: an input, or what an expression results in.
pub const VALUE_BYTES: usize = 256 << 10;
/// Documents of one template after conditionals, the `Template` included.
pub const DOCUMENTS: usize = 256;
/// Levels of `if` inside `if`.
pub const CONDITIONAL_DEPTH: usize = 16;
/// Levels of YAML mappings and sequences in one document.
pub const YAML_DEPTH: usize = 64;
/// YAML nodes of one template, each alias counted as often as it expands.
pub const YAML_NODES: usize = 200_000;
/// Bytes of YAML text that aliases may add: as much as the output may hold.
pub const YAML_BYTES: usize = OUTPUT_BYTES;
/// Defaults of one template, and as many inputs.
pub const NAMES: usize = 256;
/// Defaults or inputs that need each other's value in a row.
pub const REFERENCE_DEPTH: usize = 16;
/// Steps of one evaluation: one for each operation, and one for each byte of
/// text that it reads or makes.
pub const STEPS: u64 = 32 << 20;
/// Steps that compiling one regular expression costs.
pub const REGEX_STEPS: u64 = 50_000;
/// Bytes of one compiled regular expression.
pub const REGEX_BYTES: usize = 64 << 10;
/// Letters of one `random(n)`.
pub const RANDOM_LETTERS: usize = 256;
/// Characters of foreign text in one message.
pub(crate) const MESSAGE_CHARACTERS: usize = 120;
/// Names listed in one message.
pub(crate) const MESSAGE_NAMES: usize = 40;
