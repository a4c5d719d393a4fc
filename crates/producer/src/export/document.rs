//! Walks through the JSON of an export, one message in memory at a time.
//!
//! After <https://serde.rs/stream-array.html>: a visitor meets the elements of `messages` as they are parsed.
//! Each is taken as raw text first, so that one that is no message does not end the file.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Fault;
use super::header::{self, Header};
use super::pages::Pages;
use super::source::Meter;
use super::{Rejected, message};

/// Reads all of `json` into `pages`, or until they want no more.
pub(super) fn read(json: impl Read, meter: &Meter, pages: &mut Pages<'_>) -> Result<(), Fault> {
    let mut parser = serde_json::Deserializer::from_reader(json);
    let mut walk = Walk { meter, pages, end: None };
    meter.allow_element();
    let parsed = parser.deserialize_map(&mut walk).and_then(|()| parser.end());
    match (walk.end, parsed) {
        (Some(End::Stopped), _) => Ok(()),
        (Some(End::Fault(fault)), _) => Err(fault),
        (None, Ok(())) if pages.have_begun() => Ok(()),
        (None, Ok(())) => Err(Fault::NotAnExport),
        (None, Err(error)) => Err(match Fault::from(error) {
            Fault::CutShort if meter.offset() == 0 => Fault::Empty,
            Fault::Syntax(_) if !pages.have_begun() => Fault::NotAnExport,
            fault => fault,
        }),
    }
}

struct Walk<'a, 'p> {
    meter: &'a Meter,
    pages: &'a mut Pages<'p>,
    end: Option<End>,
}

/// Why a walk ended that the parser itself would have gone on with.
enum End {
    Stopped,
    Fault(Fault),
}

impl Walk<'_, '_> {
    /// A visitor leaves its parser by an error only; `end` says what it meant.
    fn leave<E: serde::de::Error>(&mut self, end: End) -> E {
        self.end = Some(end);
        E::custom("left early")
    }

    fn go_on<E: serde::de::Error>(&mut self, flow: ControlFlow<()>) -> Result<(), E> {
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.leave(End::Stopped)),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    Guild,
    Channel,
    Messages,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an export")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut guild: Option<Box<RawValue>> = None;
        let mut channel: Option<Box<RawValue>> = None;
        while let Some(field) = fields.next_key()? {
            match field {
                Field::Guild => guild = Some(fields.next_value()?),
                Field::Channel => channel = Some(fields.next_value()?),
                Field::Messages => {
                    let (Some(guild), Some(channel)) = (&guild, &channel) else {
                        return Err(self.leave(End::Fault(Fault::NotAnExport)));
                    };
                    let header = match header::read(guild, channel) {
                        Ok(header) => Arc::new(header),
                        Err(fault) => return Err(self.leave(End::Fault(fault))),
                    };
                    let flow = self.pages.begin(Arc::clone(&header));
                    self.go_on(flow)?;
                    fields.next_value_seed(Messages { walk: &mut *self, header: &header })?;
                }
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            self.meter.allow_element();
        }
        Ok(())
    }
}

/// The array of messages.
struct Messages<'a, 'w, 'p> {
    walk: &'a mut Walk<'w, 'p>,
    header: &'a Header,
}

impl<'de> DeserializeSeed<'de> for Messages<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        let Self { walk, header } = self;
        walk.meter.allow_element();
        while let Some((offset, raw)) = messages.next_element_seed(Element { meter: walk.meter })? {
            let message = message::read(&raw, header).map_err(|reason| Rejected {
                offset,
                id: message::read_id(&raw),
                reason,
            });
            let flow = walk.pages.push(message);
            walk.go_on(flow)?;
            walk.meter.allow_element();
        }
        Ok(())
    }
}

/// One element of the array as it stands there, and where it begins.
struct Element<'a> {
    meter: &'a Meter,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = (u64, Box<RawValue>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // The parser has looked at the element's first byte to see that there is one.
        let offset = self.meter.offset().saturating_sub(1);
        Ok((offset, Box::deserialize(deserializer)?))
    }
}
