//! The annotations that say what was decided about a Pod, merged with what earlier reviews wrote there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use catamaran_api::annotations;

use crate::decode::{Annotations, Metadata};
use crate::json::{Patch, Segment, push, push_object, push_string};
use crate::reader::Reader;

/// The API server refuses a Pod whose annotations are longer than this, keys and values together.
const TOTAL_SIZE_LIMIT: usize = 256 * 1024;

/// A JSON object of strings that stands in an annotation, and whether it differs from what is there.
#[derive(Debug, Default)]
pub(crate) struct Notes<'a> {
    entries: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    there: bool,
    changed: bool,
}

impl<'a> Notes<'a> {
    /// What the annotation says; one that holds something else is started anew when there is something to write.
    fn read(text: Option<&'a str>) -> Self {
        let mut entries = BTreeMap::new();
        let there = text.is_some();
        if let Some(text) = text {
            let mut reader = Reader::new(text);
            // Keys are owned: an escaped one can't be borrowed from the annotation, and few Pods have any.
            let read = reader.object(|key, reader| {
                entries.insert(Cow::Owned(key.to_owned()), reader.string()?);
                Ok(())
            });
            if read.and_then(|()| reader.end()).is_err() {
                entries.clear();
            }
        }
        Notes {
            entries,
            there,
            changed: false,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|value| &**value)
    }

    pub(crate) fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if self.get(&name) != Some(&*value) {
            self.entries.insert(name, value);
            self.changed = true;
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.changed |= self.entries.remove(name).is_some();
    }

    fn edit(&self, key: &'static str) -> Option<Edit> {
        if !self.changed {
            return None;
        }
        if self.entries.is_empty() {
            return self.there.then_some(Edit { key, value: None });
        }
        let mut value = String::with_capacity(128);
        push_object(&mut value, self.entries.iter().map(|(name, value)| (&**name, &**value)));
        Some(Edit {
            key,
            value: Some(value),
        })
    }
}

/// The mirrors that decided, each with the epoch of its decision.
#[derive(Debug, Default)]
pub(crate) struct Deciders<'a> {
    text: Option<&'a str>,
    epochs: BTreeMap<&'a str, u64>,
}

impl<'a> Deciders<'a> {
    pub(crate) fn add(&mut self, mirror: &'a str, epoch: u64) {
        self.epochs.insert(mirror, epoch);
    }

    fn edit(&self) -> Option<Edit> {
        if self.epochs.is_empty() {
            return None;
        }
        let mut all: BTreeMap<&str, u64> = self.text.into_iter().flat_map(parse_deciders).collect();
        all.extend(&self.epochs);
        let mut value = String::with_capacity(32);
        for (mirror, epoch) in all {
            let comma = if value.is_empty() { "" } else { "," };
            push(&mut value, format_args!("{comma}{mirror}@{epoch}"));
        }
        (self.text != Some(&value)).then_some(Edit {
            key: annotations::MIRROR,
            value: Some(value),
        })
    }
}

/// The well-formed entries of `apps@7,web@2`.
fn parse_deciders(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.split(',').filter_map(|entry| {
        let (mirror, epoch) = entry.split_once('@')?;
        Some((mirror, epoch.parse().ok()?))
    })
}

/// A change of one annotation; without a value it is removed.
struct Edit {
    key: &'static str,
    value: Option<String>,
}

/// The three annotations of one Pod.
#[derive(Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) original_images: Notes<'a>,
    pub(crate) reasons: Notes<'a>,
    pub(crate) deciders: Deciders<'a>,
}

impl<'a> Record<'a> {
    /// What the Pod says so far.
    pub(crate) fn read(annotations: Option<&'a Annotations<'_>>) -> Self {
        let Some(annotations) = annotations else {
            return Record::default();
        };
        Record {
            original_images: Notes::read(annotations.original_images.as_deref()),
            reasons: Notes::read(annotations.reasons.as_deref()),
            deciders: Deciders {
                text: annotations.mirror.as_deref(),
                epochs: BTreeMap::new(),
            },
        }
    }

    /// Appends to the patch what differs from what is there. A Pod whose annotations would grow beyond what the API
    /// server takes goes without: its images matter more than their story.
    pub(crate) fn write(&self, metadata: Option<&Metadata<'_>>, patch: &mut Patch) {
        let edits = [
            self.original_images.edit(annotations::ORIGINAL_IMAGES),
            self.deciders.edit(),
            self.reasons.edit(annotations::REASONS),
        ];
        let edits: Vec<Edit> = edits.into_iter().flatten().collect();
        let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
        let grown: usize = edits
            .iter()
            .map(|edit| edit.key.len() + edit.value.as_ref().map_or(0, String::len))
            .sum();
        if edits.is_empty() || annotations.map_or(0, |present| present.size) + grown > TOTAL_SIZE_LIMIT {
            return;
        }
        let object = |out: &mut String| {
            let pairs = edits.iter().filter_map(|edit| Some((edit.key, edit.value.as_deref()?)));
            push_object(out, pairs);
        };
        match (metadata, annotations) {
            (_, Some(_)) => {
                for Edit { key, value } in &edits {
                    let pointer = format_args!("/metadata/annotations/{}", Segment(key));
                    match value {
                        Some(value) => patch.add(pointer, |out| push_string(out, value)),
                        None => patch.remove(pointer),
                    }
                }
            }
            (Some(_), None) => patch.add(format_args!("/metadata/annotations"), object),
            (None, None) => patch.add(format_args!("/metadata"), |out| {
                out.push_str("{\"annotations\":");
                object(out);
                out.push('}');
            }),
        }
    }
}
