//! Writes what is served: the module, its JavaScript, the style and the page,
//! with names by content and compressed copies beside.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use wasm_bindgen_cli_support::Bindgen;

use crate::{Error, Options, at, inputs};

/// The page's own policy. The server sends the same and more as a header; this
/// holds wherever else the files are served. `wasm-unsafe-eval` allows wasm to
/// be compiled and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
                      img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'";

/// Places in `frontend/index.html`, each for one address.
const STYLE: &str = "@style@";
const ICON: &str = "@icon@";
const SCRIPT: &str = "@script@";
const BINDINGS: &str = "@bindings@";
const MODULE: &str = "@module@";
const POLICY_PLACE: &str = "@policy@";

pub(crate) fn write(options: &Options, module: &Path, key: &str) -> Result<(), Error> {
    let frontend = options.workspace.join("frontend");
    let read = |name: &str| {
        let path = frontend.join(name);
        fs::read(&path).map_err(at(&path))
    };
    let mut assets = Assets::default();
    let (bindings, wasm) = bind(module, &mut assets)?;
    let wasm = assets.add("desktop", "wasm", wasm);
    let bindings = assets.add("desktop", "js", bindings.into_bytes());
    let script = assets.add("start", "js", start(&bindings, &wasm).into_bytes());
    let style = assets.add("style", "css", read("style.css")?);
    let icon = assets.add("icon", "svg", read("icon.svg")?);

    let mut page = String::from_utf8_lossy(&read("index.html")?).into_owned();
    for (place, value) in [
        (STYLE, style.as_str()),
        (ICON, &icon),
        (SCRIPT, &script),
        (BINDINGS, &bindings),
        (MODULE, &wasm),
        (POLICY_PLACE, POLICY),
    ] {
        if !page.contains(place) {
            return Err(Error::Place(place));
        }
        page = page.replace(place, value);
    }

    let parent = options.output.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(at(parent))?;
    let work = tempfile::Builder::new().prefix(".desktop-").tempdir_in(parent).map_err(at(parent))?;
    let new = work.path().join("new");
    for (path, bytes) in assets.files {
        put(&new.join(path.trim_start_matches('/')), &bytes)?;
    }
    put(&new.join("index.html"), page.as_bytes())?;
    fs::write(new.join(inputs::KEY_FILE), key).map_err(at(&new))?;
    // The old one goes aside and away with the working folder.
    if options.output.exists() {
        fs::rename(&options.output, work.path().join("old")).map_err(at(&options.output))?;
    }
    fs::rename(&new, &options.output).map_err(at(&options.output))
}

/// Files by address. One that never changes may be kept for ever.
#[derive(Default)]
struct Assets {
    files: BTreeMap<String, Vec<u8>>,
}

impl Assets {
    /// Adds a file and returns its address, which tells its content.
    fn add(&mut self, name: &str, extension: &str, bytes: Vec<u8>) -> String {
        let address = format!("/assets/{name}-{}.{extension}", inputs::short_hash(&[&bytes]));
        self.files.insert(address.clone(), bytes);
        address
    }
}

/// The module's JavaScript and the module without names.
fn bind(module: &Path, assets: &mut Assets) -> Result<(String, Vec<u8>), Error> {
    let refused = |error: &dyn std::fmt::Display| Error::Bind(error.to_string());
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name("desktop").typescript(false);
    bindgen.remove_name_section(true).remove_producers_section(true).demangle(false);
    bindgen.web(true).map_err(|error| refused(&error))?;
    let mut output = bindgen.generate_output().map_err(|error| refused(&error))?;
    // Pieces of JavaScript that crates bring: they are imported by these names.
    for (folder, pieces) in output.snippets() {
        for (number, piece) in pieces.iter().enumerate() {
            let address = format!("/assets/snippets/{folder}/inline{number}.js");
            assets.files.insert(address, piece.clone().into_bytes());
        }
    }
    for (name, text) in output.local_modules() {
        assets.files.insert(format!("/assets/snippets/{name}"), text.clone().into_bytes());
    }
    let script = output.js().to_owned();
    let wasm = output.wasm_mut().emit_wasm();
    Ok((script, wasm))
}

/// Starts the module. A file of its own, because the policy allows no script in
/// the page.
fn start(bindings: &str, wasm: &str) -> String {
    format!(
        "import init from \"{bindings}\";\n\
         init({{ module_or_path: \"{wasm}\" }}).catch((error) => {{\n  \
           const note = document.getElementById(\"starting\");\n  \
           if (note) note.textContent = \"The desktop can't start: \" + error + \". Load the page again.\";\n\
         }});\n"
    )
}

/// Writes a file, and beside it what browsers that take it compressed get.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(at(folder))?;
    fs::write(path, bytes).map_err(at(path))?;
    for (extension, compressed) in [("br", brotli(bytes)), ("gz", gzip(bytes))] {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        let compressed = compressed.map_err(at(path))?;
        fs::write(&name, compressed).map_err(at(Path::new(&name)))?;
    }
    Ok(())
}

fn brotli(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 1 << 16, 11, 22).write_all(bytes)?;
    Ok(out)
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn compressed_copies_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.css");
        let text = "body { color: black }\n".repeat(1000);
        put(&path, text.as_bytes()).unwrap();
        let mut plain = String::new();
        let br = fs::read(folder.path().join("a/b.css.br")).unwrap();
        brotli::Decompressor::new(&br[..], 4096).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, text);
        plain.clear();
        let gz = fs::read(folder.path().join("a/b.css.gz")).unwrap();
        flate2::read::GzDecoder::new(&gz[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, text);
        assert!(br.len() < gz.len() && gz.len() < text.len());
    }

    #[test]
    fn a_name_tells_the_content() {
        let mut assets = Assets::default();
        let one = assets.add("style", "css", b"a".to_vec());
        let two = assets.add("style", "css", b"b".to_vec());
        assert_ne!(one, two);
        assert_eq!(one, assets.add("style", "css", b"a".to_vec()));
        assert!(one.starts_with("/assets/style-") && one.ends_with(".css"));
    }
}
