//! YAML as Hermes reads it: as PyYAML's `safe_load`, which follows YAML 1.1.
//!
//! The grammar is that of `saphyr-parser`. What a scalar means, and what else keeps PyYAML from loading a document,
//! is decided here. An alias is a second way to a node, never a copy of it, so that no document grows.

use std::collections::{BTreeMap, BTreeSet};
use std::str::Chars;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::hermes::scalar::{Malformed, Scalar};

/// How deep collections may lie in each other. PyYAML ends a little deeper, at Python's limit for recursion.
const DEPTH: usize = 400;

/// What YAML's own tags begin with.
const YAML_TAG: &str = "tag:yaml.org,2002:";

/// The byte-order mark, which some editors put before the text.
const MARK: char = '\u{feff}';

/// The characters that end a line, beside \n.
const LINE_ENDS: [char; 4] = ['\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// A document that PyYAML would load.
#[derive(Debug, Default)]
pub struct Document {
    nodes: Vec<Node>,
}

/// Where a node lies in [`Document::nodes`]; the root lies first.
type Place = usize;

#[derive(Debug)]
enum Node {
    Scalar(Scalar),
    Sequence(Vec<Place>),
    Mapping(Vec<(Place, Place)>),
    /// A mapping or sequence that is still open.
    Open,
}

/// What a key is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One value.
    Scalar(Scalar),
    /// A list or a mapping, and whether there is anything in it.
    Collection {
        /// Whether it has entries.
        filled: bool,
    },
}

impl Document {
    /// Reads a document; an empty one has no keys.
    pub fn load(content: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(content).map_err(|_| Malformed)?;
        let text = text.strip_prefix(MARK).unwrap_or(text);
        if text.chars().any(|character| !is_printable(character)) {
            return Err(Malformed);
        }
        // Python opens the file as text, in which \r ends a line; for YAML 1.1 the others do too. A mark elsewhere is
        // a character like any other.
        let text = text.replace("\r\n", "\n").replace(LINE_ENDS, "\n");
        let text = text.replace(MARK, "\u{fffd}");
        let mut document = Self::default();
        document.read(&text)?;
        document.check()?;
        Ok(document)
    }

    /// Gives the value of a key that is reached by this way from the root; `None` if there is no such key.
    pub fn get(&self, way: &[&str]) -> Option<Value> {
        let mut place = 0;
        for key in way {
            place = self.entry(place, key)?;
        }
        Some(match self.nodes.get(place)? {
            Node::Scalar(scalar) => Value::Scalar(scalar.clone()),
            Node::Sequence(items) => Value::Collection {
                filled: !items.is_empty(),
            },
            Node::Mapping(entries) => Value::Collection {
                filled: !entries.is_empty(),
            },
            Node::Open => return None,
        })
    }

    /// Tells whether the root is a mapping, or there is nothing at all.
    pub fn is_mapping(&self) -> bool {
        match self.nodes.first() {
            None => true,
            // Whatever is false counts as an empty mapping.
            Some(Node::Scalar(scalar)) => !scalar.is_true(),
            Some(Node::Sequence(items)) => items.is_empty(),
            Some(node) => matches!(node, Node::Mapping(_)),
        }
    }

    /// Finds a key in a mapping: the last one of that name counts, and its own come before merged ones.
    fn entry(&self, place: Place, key: &str) -> Option<Place> {
        let is_key = |place: Place| matches!(&self.nodes[place], Node::Scalar(Scalar::Text(text)) if text == key);
        if !matches!(self.nodes.get(place), Some(Node::Mapping(_))) {
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut left = vec![place];
        while let Some(place) = left.pop() {
            // Whatever is reached twice is looked at once: so a short document takes a short time.
            if !seen.insert(place) {
                continue;
            }
            match &self.nodes[place] {
                Node::Mapping(entries) => {
                    if let Some((_, value)) = entries.iter().rfind(|(key, _)| is_key(*key)) {
                        return Some(*value);
                    }
                    // The last one merged goes first, as it is taken first.
                    let merged = entries.iter().filter(|(key, _)| self.is_merge(*key));
                    left.extend(merged.map(|(_, value)| *value));
                }
                // But of a list of them the first.
                Node::Sequence(items) => left.extend(items.iter().rev()),
                Node::Scalar(_) | Node::Open => {}
            }
        }
        None
    }

    fn is_merge(&self, place: Place) -> bool {
        matches!(self.nodes[place], Node::Scalar(Scalar::Merge))
    }

    /// Tells whether a node is a sign that means something as a key only.
    fn is_sign(&self, place: Place) -> bool {
        let node = &self.nodes[place];
        matches!(node, Node::Scalar(Scalar::Merge | Scalar::Equals))
    }

    /// Reads the events of the parser.
    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        let mut parser = Parser::new_from_str(text);
        let mut anchors: BTreeMap<usize, Place> = BTreeMap::new();
        let mut open: Vec<(Place, Vec<Place>)> = Vec::new();
        let mut documents = 0;
        let mut frame = Frame::new(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|_| Malformed)?;
            if let Event::Scalar(_, style, ..) = &event
                && !span.is_empty()
            {
                frame.read_to(span.start.index())?;
                frame.read_properties()?;
                frame.skip_to(span.end.index(), *style)?;
            }
            let place = match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Malformed);
                    }
                    continue;
                }
                Event::Alias(anchor) => *anchors.get(&anchor).ok_or(Malformed)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let scalar = scalar(&text, style, tag.as_deref())?;
                    self.add(Node::Scalar(scalar), anchor, &mut anchors)
                }
                Event::SequenceStart(anchor, tag) => {
                    is_kind(tag.as_deref(), &["seq", "omap", "pairs"])?;
                    open.push((self.add(Node::Open, anchor, &mut anchors), Vec::new()));
                    if open.len() > DEPTH {
                        return Err(Malformed);
                    }
                    continue;
                }
                Event::MappingStart(anchor, tag) => {
                    is_kind(tag.as_deref(), &["map", "set"])?;
                    open.push((self.add(Node::Open, anchor, &mut anchors), Vec::new()));
                    if open.len() > DEPTH {
                        return Err(Malformed);
                    }
                    continue;
                }
                Event::SequenceEnd => {
                    let (place, items) = open.pop().ok_or(Malformed)?;
                    self.nodes[place] = Node::Sequence(items);
                    place
                }
                Event::MappingEnd => {
                    let (place, items) = open.pop().ok_or(Malformed)?;
                    let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                    self.nodes[place] = Node::Mapping(pairs.collect());
                    place
                }
                _ => continue,
            };
            if let Some((_, items)) = open.last_mut() {
                items.push(place);
            }
        }
        frame.read_to(usize::MAX)
    }

    fn add(&mut self, node: Node, anchor: usize, anchors: &mut BTreeMap<usize, Place>) -> Place {
        self.nodes.push(node);
        let place = self.nodes.len() - 1;
        // The parser counts anchors from 1.
        if anchor > 0 {
            anchors.insert(anchor, place);
        }
        place
    }

    /// Refuses what PyYAML cannot make an object of.
    fn check(&self) -> Result<(), Malformed> {
        let is_mapping = |place: &Place| matches!(self.nodes[*place], Node::Mapping(_));
        let is_mergeable = |node: &Node| match node {
            Node::Sequence(items) => items.iter().all(is_mapping),
            node => matches!(node, Node::Mapping(_)),
        };
        let mergeable: Vec<bool> = self.nodes.iter().map(is_mergeable).collect();
        let is_sound = |(key, value): &(Place, Place)| match &self.nodes[*key] {
            Node::Scalar(Scalar::Merge) => mergeable[*value],
            Node::Scalar(_) => !self.is_sign(*value),
            _ => false,
        };
        let is_loadable = |node: &Node| match node {
            Node::Mapping(entries) => entries.iter().all(is_sound),
            Node::Sequence(items) => !items.iter().any(|item| self.is_sign(*item)),
            _ => true,
        };
        let is_sign_alone = !self.nodes.is_empty() && self.is_sign(0);
        if is_sign_alone || !self.nodes.iter().all(is_loadable) {
            return Err(Malformed);
        }
        Ok(())
    }
}

/// The text around the scalars of a document. In two things PyYAML is stricter there than the parser: it knows no
/// tabs, and no second anchor of the same name.
struct Frame<'a> {
    rest: Chars<'a>,
    /// How many characters have been read.
    at: usize,
    last: char,
    is_comment: bool,
    anchors: BTreeSet<String>,
    /// The anchor that is being read.
    anchor: Option<String>,
}

impl<'a> Frame<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            at: 0,
            last: '\n',
            is_comment: false,
            anchors: BTreeSet::new(),
            anchor: None,
        }
    }

    /// Reads what lies between two scalars.
    fn read_to(&mut self, end: usize) -> Result<(), Malformed> {
        while self.at < end
            && let Some(character) = self.next()
        {
            self.read(character)?;
        }
        self.end_anchor()
    }

    /// Reads the anchor and the tag of a scalar, which count as a part of it.
    fn read_properties(&mut self) -> Result<(), Malformed> {
        while let Some('&' | '!') = self.rest.clone().next() {
            while let Some(character) = self.next() {
                self.read(character)?;
                if " \n".contains(character) {
                    break;
                }
            }
        }
        self.end_anchor()
    }

    fn read(&mut self, character: char) -> Result<(), Malformed> {
        let is_name = character.is_ascii_alphanumeric() || "-_".contains(character);
        match character {
            '\n' => self.is_comment = false,
            _ if self.is_comment => {}
            '#' if " \n".contains(self.last) => self.is_comment = true,
            '\t' => return Err(Malformed),
            _ => {}
        }
        match &mut self.anchor {
            _ if character == '&' && !self.is_comment => self.anchor = Some(String::new()),
            Some(name) if is_name => name.push(character),
            _ => self.end_anchor()?,
        }
        self.last = character;
        Ok(())
    }

    /// Skips a scalar. A plain one ends before a tab, for PyYAML.
    fn skip_to(&mut self, end: usize, style: ScalarStyle) -> Result<(), Malformed> {
        while self.at < end
            && let Some(character) = self.next()
        {
            if character == '\t' && style == ScalarStyle::Plain {
                return Err(Malformed);
            }
            self.last = character;
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.rest.next()
    }

    fn end_anchor(&mut self) -> Result<(), Malformed> {
        let is_new = |name| self.anchors.insert(name);
        if self.anchor.take().is_none_or(is_new) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// Tells whether PyYAML takes a character in a document.
fn is_printable(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// Refuses a collection with a tag that is not one of these of YAML.
fn is_kind(tag: Option<&Tag>, kinds: &[&str]) -> Result<(), Malformed> {
    match tag.map(full) {
        None => Ok(()),
        Some(tag) if tag == "!" => Ok(()),
        Some(tag) => {
            let kind = tag.strip_prefix(YAML_TAG).ok_or(Malformed)?;
            if kinds.contains(&kind) {
                Ok(())
            } else {
                Err(Malformed)
            }
        }
    }
}

fn full(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

/// Decides what a scalar means by its tag, else by its style.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, Malformed> {
    match tag.map(full).as_deref() {
        None if style == ScalarStyle::Plain => Scalar::plain(text),
        None | Some("!") => Ok(Scalar::Text(text.to_owned())),
        Some(tag) => Scalar::tagged(tag.strip_prefix(YAML_TAG).ok_or(Malformed)?, text),
    }
}
