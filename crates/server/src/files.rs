//! The desktop's files, from memory: what is named by its content is kept by
//! browsers for ever, the page is asked for each time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::State;

const PAGE: &str = "/index.html";

/// Why the desktop's files can't be served.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder or a file in it can't be read.
    #[error("{}: {source}; build the desktop by `cargo xtask desktop`", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder has no page.
    #[error("{} has no index.html; build the desktop by `cargo xtask desktop`", .0.display())]
    NoPage(PathBuf),
}

/// The desktop's files.
#[derive(Debug, Default)]
pub struct Files {
    by_path: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    tag: HeaderValue,
    plain: Bytes,
    brotli: Option<Bytes>,
    gzip: Option<Bytes>,
}

impl Files {
    /// Reads a folder that the desktop was built into.
    ///
    /// # Errors
    ///
    /// It can't be read, or has no page.
    pub fn load(folder: &Path) -> Result<Self, FilesError> {
        let mut found = HashMap::new();
        read(folder, "", &mut found)?;
        let mut by_path = HashMap::new();
        for (path, plain) in &found {
            if path.ends_with(".br") || path.ends_with(".gz") {
                continue;
            }
            let digest = Sha256::digest(plain);
            let tag: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            by_path.insert(
                path.clone(),
                File {
                    kind: kind(path),
                    tag: HeaderValue::try_from(format!("\"{tag}\""))
                        .unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
                    plain: plain.clone(),
                    brotli: found.get(&format!("{path}.br")).cloned(),
                    gzip: found.get(&format!("{path}.gz")).cloned(),
                },
            );
        }
        if !by_path.contains_key(PAGE) {
            return Err(FilesError::NoPage(folder.to_path_buf()));
        }
        Ok(Self { by_path })
    }

    /// What a browser that asks for this path gets.
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        if method != Method::GET && method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
        }
        let lasting = path.starts_with("/assets/");
        // The page knows its own places; what has an extension is none of them.
        let is_place = !lasting && !path.rsplit('/').next().unwrap_or_default().contains('.');
        let path = if is_place { PAGE } else { path };
        let Some(file) = self.by_path.get(path) else {
            return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
        };
        let (encoding, bytes) = file.encoded(headers);
        let mut response = Response::new(Body::empty());
        let fields = response.headers_mut();
        fields.insert(header::ETAG, file.tag.clone());
        fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        fields.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static(if lasting {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            }),
        );
        if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == file.tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        fields.insert(header::CONTENT_LENGTH, bytes.len().into());
        if let Some(encoding) = encoding {
            fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if method == Method::GET {
            *response.body_mut() = bytes.clone().into();
        }
        response
    }
}

impl File {
    /// The smallest that the browser takes.
    fn encoded(&self, headers: &HeaderMap) -> (Option<&'static str>, &Bytes) {
        for (name, bytes) in [("br", &self.brotli), ("gzip", &self.gzip)] {
            if let Some(bytes) = bytes
                && accepts(headers, name)
            {
                return (Some(name), bytes);
            }
        }
        (None, &self.plain)
    }
}

fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
            name.eq_ignore_ascii_case(encoding) && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
        })
}

fn read(folder: &Path, prefix: &str, into: &mut HashMap<String, Bytes>) -> Result<(), FilesError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        |source| FilesError::Read { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let address = format!("{prefix}/{name}");
        if path.is_dir() {
            read(&path, &address, into)?;
        } else {
            into.insert(address, fs::read(&path).map_err(failed(&path))?.into());
        }
    }
    Ok(())
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

pub(crate) async fn serve(Shared(state): Shared<State>, request: Request) -> Response {
    state.files.answer(request.method(), request.uri().path(), request.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        for (name, text) in [
            ("index.html", "page"),
            ("index.html.br", "page.br"),
            ("assets/a-1.wasm", "module"),
            ("assets/a-1.wasm.br", "module.br"),
            ("assets/a-1.wasm.gz", "module.gz"),
            (".made-from", "key"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Files::load(folder.path()).unwrap()
    }

    fn get(path: &str, encodings: &'static str) -> (u16, HeaderMap) {
        let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings))].into_iter().collect();
        let response = files().answer(&Method::GET, path, &headers);
        (response.status().as_u16(), response.headers().clone())
    }

    #[test]
    fn the_smallest_encoding_that_is_taken() {
        for (accepted, length, encoding) in [
            ("gzip, deflate, br", "9", Some("br")),
            ("gzip", "9", Some("gzip")),
            ("br;q=0, gzip;q=0.5", "9", Some("gzip")),
            ("", "6", None),
        ] {
            let (status, headers) = get("/assets/a-1.wasm", accepted);
            assert_eq!(status, 200);
            assert_eq!(headers.get("content-encoding").map(|value| value.to_str().unwrap()), encoding);
            assert_eq!(headers["content-length"], length, "{accepted}");
            assert_eq!(headers["content-type"], "application/wasm");
            assert_eq!(headers["vary"], "accept-encoding");
        }
    }

    #[test]
    fn the_page_is_asked_for_each_time_and_the_rest_is_kept() {
        for place in ["/", "/index.html", "/w/shop/store/wiki"] {
            let (status, headers) = get(place, "");
            assert_eq!((status, headers["cache-control"].to_str().unwrap()), (200, "no-cache"), "{place}");
            assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        }
        assert!(get("/assets/a-1.wasm", "").1["cache-control"].to_str().unwrap().contains("immutable"));
        let tag = get("/", "").1["etag"].clone();
        let again = [(header::IF_NONE_MATCH, tag)].into_iter().collect();
        assert_eq!(files().answer(&Method::GET, "/", &again).status(), 304);
    }

    #[test]
    fn what_is_not_there_is_not_the_page() {
        for path in [
            "/assets/b.js",
            "/assets/",
            "/favicon.ico",
            "/.made-from",
            "/assets/../index.html.br",
            "/assets/a-1.wasm.br",
        ] {
            assert_eq!(get(path, "").0, 404, "{path}");
        }
        let posted = files().answer(&Method::POST, "/", &HeaderMap::new());
        assert_eq!(posted.status(), 405);
    }
}
