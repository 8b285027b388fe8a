//! What one file says: its objects, and what is wrong with it.

use portolan_zones::ClusterId;
use portolan_zones::object::{Object, ObjectKey};
use serde_json::Value;

use super::document::{Body, JsonDocument, Malformed, split_yaml, without_position, yaml};
use crate::convert::{self, ConvertError, Kind, Names, Refused};
use crate::intern::Interner;
use crate::kube_types as kube;

/// Most flaws told of one file; more are counted.
const MAX_FLAWS: usize = 1000;

/// What one file says.
#[derive(Default)]
pub(crate) struct Reading {
    /// In the order written, with their lines.
    pub(crate) objects: Vec<(u32, Object)>,
    /// Objects that are there but can't be read: their last good versions stay.
    pub(crate) refused: Vec<ObjectKey>,
    /// Whether every object is in one of the two above. If not, nothing that the file gave before may go.
    pub(crate) partial: bool,
    /// The id that a ClusterProperty gives, with its rank.
    pub(crate) identity: Option<(usize, ClusterId)>,
    /// What is wrong.
    pub(crate) flaws: Vec<Flaw>,
    untold: usize,
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// From 1; `None` when it is about the whole file.
    pub(crate) line: Option<u32>,
    /// `Kind namespace/name`.
    pub(crate) object: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
}

/// `apiVersion` and `kind` for items of a typed list, which may leave theirs out.
type Inherited<'a> = Option<(&'a str, &'a str)>;

impl Reading {
    /// A file that could not be read at all.
    pub(crate) fn failed(message: String) -> Self {
        let mut reading = Self { partial: true, ..Self::default() };
        reading.flaw(None, None, message);
        reading
    }

    /// Reads a file's content; JSON or YAML by `is_json`.
    pub(crate) fn of(bytes: &[u8], is_json: bool, interner: &mut Interner) -> Self {
        let mut reader = Reader { interner, reading: Self::default(), slices_run: false };
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                if is_json { reader.json(text) } else { reader.yaml(text) }
            }
            Err(error) => {
                let line = 1 + newlines(&bytes[..error.valid_up_to()]);
                reader.broken(line, "is not UTF-8; what the file gave before stays".to_owned());
            }
        }
        let mut reading = reader.reading;
        if reading.untold > 0 {
            let message = format!("{} more problems in this file", reading.untold);
            reading.flaws.push(Flaw { line: None, object: None, message });
        }
        reading
    }

    /// Notes what is wrong.
    pub(crate) fn flaw(&mut self, line: Option<u32>, object: Option<String>, message: String) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(Flaw { line, object, message });
        } else {
            self.untold += 1;
        }
    }
}

/// Reads the documents of one file.
struct Reader<'i> {
    interner: &'i mut Interner,
    reading: Reading,
    /// The object before was an EndpointSlice. So will be the next, mostly: it is read as one at once, without
    /// looking for its kind first, which `kubectl` prints after the endpoints.
    slices_run: bool,
}

impl Reader<'_> {
    fn json(&mut self, text: &str) {
        let mut lines = Lines { text, at: 0, line: 1 };
        let mut documents = serde_json::Deserializer::from_str(text).into_iter::<JsonDocument<'_>>();
        loop {
            let start = documents.byte_offset();
            match documents.next() {
                None => return,
                Some(Ok(JsonDocument { api_version, kind, items: Some(items) })) => {
                    let inherited = inherited(api_version.as_deref(), kind.as_deref());
                    self.reading.objects.reserve(items.len());
                    for item in items {
                        let offset = item.get().as_ptr().addr() - text.as_ptr().addr();
                        self.item(Body::Json(item.get()), inherited, lines.at(offset));
                    }
                }
                Some(Ok(_)) => {
                    let document = text[start..documents.byte_offset()].trim_start();
                    let offset = document.as_ptr().addr() - text.as_ptr().addr();
                    self.item(Body::Json(document), None, lines.at(offset));
                }
                Some(Err(error)) => {
                    let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
                    return self.broken(line, unparsed(&without_position(&error)));
                }
            }
        }
    }

    fn yaml(&mut self, text: &str) {
        for (start, text) in split_yaml(text) {
            let document = match yaml(text) {
                Ok(None) => continue,
                Ok(Some(document)) => document,
                Err((line, message)) => {
                    self.broken(start + line.saturating_sub(1), unparsed(&message));
                    continue;
                }
            };
            let tree = Value::Object(document.rest);
            let Some(items) = document.items else {
                let below_marker = text.lines().next().is_some_and(|line| line.trim_end() == "---");
                self.item(Body::Tree(&tree), None, start + u32::from(below_marker));
                continue;
            };
            let inherited = inherited(tree["apiVersion"].as_str(), tree["kind"].as_str());
            for item in items {
                let line = u32::try_from(item.referenced.line()).unwrap_or(1);
                self.item(Body::Tree(&item.value), inherited, start + line.saturating_sub(1));
            }
        }
    }

    /// A document that can't be parsed: which objects it holds is unknown.
    fn broken(&mut self, line: u32, message: String) {
        self.reading.partial = true;
        self.reading.flaw(Some(line), None, message);
    }

    fn item(&mut self, body: Body<'_>, inherited: Inherited<'_>, line: u32) {
        if self.slices_run && self.next_slice(body, inherited, line) {
            return;
        }
        let head: kube::Head<'_> = match body.read() {
            Ok(head) => head,
            Err(Malformed { line: below, message }) => return self.broken(line + below, message),
        };
        let (inherited_version, inherited_kind) = inherited.unwrap_or_default();
        let kind_text = head.kind.as_deref().unwrap_or(inherited_kind);
        let version = head.api_version.as_deref().unwrap_or(inherited_version);
        if kind_text.is_empty() || version.is_empty() {
            let missing = if kind_text.is_empty() { "kind" } else { "apiVersion" };
            return self.broken(line, format!("{missing} is missing; what the file gave before stays"));
        }
        let metadata = head.metadata.unwrap_or_default();
        let object = || Some(title(kind_text, &metadata));
        match Kind::of(version, kind_text) {
            Ok(Some(kind)) => {
                self.slices_run = kind == Kind::EndpointSlice;
                let mut refused = Refused::default();
                let read = self.typed(kind, body, line, &mut refused);
                self.left_out(line, || title(kind_text, &metadata), &refused);
                if let Err(refusal) = read {
                    self.refuse(kind.key(&metadata), line + refusal.line, object(), refusal.message);
                }
            }
            Ok(None) => tracing::debug!(object = object(), "ignored: its kind does not matter here"),
            Err(error) => self.reading.flaw(Some(line), object(), error.to_string()),
        }
    }

    /// Takes the object as an EndpointSlice; `false` when it is none, or no good one.
    fn next_slice(&mut self, body: Body<'_>, inherited: Inherited<'_>, line: u32) -> bool {
        let Body::Json(text) = body else {
            return false;
        };
        let Ok(slice) = serde_json::from_str::<kube::EndpointSlice<'_>>(text) else {
            return false;
        };
        let (version, kind) = inherited.unwrap_or_default();
        let kind = slice.kind.as_deref().unwrap_or(kind);
        let version = slice.api_version.as_deref().unwrap_or(version);
        if kind != "EndpointSlice" || version != "discovery.k8s.io/v1" {
            return false;
        }
        let mut refused = Refused::default();
        let Ok(object) = convert::slice(&slice, self.interner, &mut refused) else { return false };
        self.reading.objects.extend(object.map(|object| (line, object)));
        self.left_out(line, || title(kind, &slice.metadata.clone().unwrap_or_default()), &refused);
        true
    }

    /// Entries of an object that don't count, though the rest does.
    fn left_out(&mut self, line: u32, object: impl FnOnce() -> String, refused: &Refused) {
        if let Some(text) = refused.text() {
            self.reading.flaw(Some(line), Some(object()), text);
        }
    }

    fn typed(
        &mut self,
        kind: Kind,
        body: Body<'_>,
        line: u32,
        refused: &mut Refused,
    ) -> Result<(), Malformed> {
        let interner = &mut *self.interner;
        let object = match kind {
            Kind::Service => convert::service(&body.read()?, &Names::new(), interner, refused)?,
            Kind::ServiceExport => Some(convert::export(&body.read()?, &Names::new(), interner, refused)?),
            Kind::ServiceImport => Some(convert::import(&body.read()?, interner)?),
            Kind::Node => Some(convert::node(&body.read()?, interner)?),
            Kind::Namespace => Some(convert::namespace(&body.read()?, interner)?),
            Kind::EndpointSlice => convert::slice(&body.read()?, interner, refused)?,
            Kind::TrafficPolicy => Some(convert::policy(&body.read()?, interner)?),
            Kind::ClusterPeer => convert::peer(&body.read()?, interner, refused)?,
            Kind::ClusterProperty => return self.identity(&body.read()?, line),
        };
        self.reading.objects.extend(object.map(|object| (line, object)));
        Ok(())
    }

    fn identity(&mut self, property: &kube::ClusterProperty<'_>, line: u32) -> Result<(), Malformed> {
        let Some((rank, id)) = convert::cluster_id(property)? else {
            return Ok(());
        };
        match &self.reading.identity {
            Some((known, other)) if *known == rank && *other != id => {
                let message = format!("the cluster's id is `{other}` already, by the object above; it stays");
                self.reading.flaw(Some(line), Some(format!("ClusterProperty {id}")), message);
            }
            Some((known, _)) if *known <= rank => {}
            _ => self.reading.identity = Some((rank, id)),
        }
        Ok(())
    }

    /// An object that can't be read: its last good version stays; without a good name, all that the file gave.
    fn refuse(&mut self, key: Option<ObjectKey>, line: u32, object: Option<String>, message: String) {
        match key {
            Some(key) => self.reading.refused.push(key),
            None => self.reading.partial = true,
        }
        self.reading.flaw(Some(line), object, message);
    }
}

impl From<ConvertError> for Malformed {
    fn from(error: ConvertError) -> Self {
        Self { line: 0, message: error.to_string() }
    }
}

fn unparsed(message: &str) -> String {
    format!("can't be parsed: {message}; what the file gave before stays")
}

/// `EndpointSliceList` says what its items are; the plain `List` does not.
fn inherited<'a>(version: Option<&'a str>, kind: Option<&'a str>) -> Inherited<'a> {
    let kind = kind?.strip_suffix("List").filter(|kind| !kind.is_empty())?;
    Some((version?, kind))
}

/// `Kind namespace/name`.
fn title(kind: &str, metadata: &kube::Metadata<'_>) -> String {
    let name = metadata.name.as_deref().unwrap_or("(unnamed)");
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Line numbers of offsets that only grow.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl Lines<'_> {
    fn at(&mut self, offset: usize) -> u32 {
        self.line += newlines(&self.text.as_bytes()[self.at..offset]);
        self.at = offset;
        self.line
    }
}

fn newlines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}
