//! Reads the JSON bytes of a file: decompressed, counted and bounded.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// Maximum bytes of JSON of one message or of one other field.
///
/// A Discord message has at most 4,000 characters and ten embeds; the users of its reactions take most of the space.
pub(crate) const MAX_ELEMENT: u64 = 8 << 20;

const BUFFER: usize = 64 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Read position and limit.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    on_disk: Cell<u64>,
    offset: Cell<u64>,
    limit: Cell<u64>,
}

impl Meter {
    /// Returns the bytes of the file on disk that were read.
    pub fn on_disk(&self) -> u64 {
        self.on_disk.get()
    }

    /// Returns the bytes of JSON that were read, including a byte order mark.
    pub fn offset(&self) -> u64 {
        self.offset.get()
    }

    /// Allows one more element. A read beyond its limit fails with [`io::ErrorKind::FileTooLarge`].
    pub fn allow_element(&self) {
        self.limit.set(self.offset.get().saturating_add(MAX_ELEMENT));
    }
}

/// Opens the file at `path`. Gzip is detected by the first bytes, not by the name.
pub(crate) fn open<'m>(path: &Path, meter: &'m Meter) -> io::Result<impl Read + 'm> {
    let file = OnDisk { file: File::open(path)?, meter };
    let (magic, file) = split_head(file, GZIP_MAGIC.len())?;
    let gzipped = magic == GZIP_MAGIC;
    let file = Cursor::new(magic).chain(file);
    let json: Box<dyn Read + 'm> = if gzipped {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file)))
    } else {
        Box::new(file)
    };
    let (mut head, json) = split_head(json, BYTE_ORDER_MARK.len())?;
    if head == BYTE_ORDER_MARK {
        meter.offset.set(head.len() as u64);
        head.clear();
    }
    Ok(Json { bytes: BufReader::with_capacity(BUFFER, Cursor::new(head).chain(json)), meter })
}

/// Splits off the first `count` bytes, or fewer if the input ends.
fn split_head<R: Read>(mut bytes: R, count: usize) -> io::Result<(Vec<u8>, R)> {
    let mut head = Vec::with_capacity(count);
    bytes.by_ref().take(count as u64).read_to_end(&mut head)?;
    Ok((head, bytes))
}

struct OnDisk<'m> {
    file: File,
    meter: &'m Meter,
}

impl Read for OnDisk<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.meter.on_disk.set(self.meter.on_disk.get() + count as u64);
        Ok(count)
    }
}

struct Json<'m, R> {
    bytes: BufReader<R>,
    meter: &'m Meter,
}

impl<R: Read> Read for Json<'_, R> {
    /// Never reads ahead, so that the meter shows the parser's position.
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let offset = self.meter.offset.get();
        let allowed = self.meter.limit.get().saturating_sub(offset);
        // The parser reads one byte at a time; half the cost of reading an export is in this branch.
        if let ([byte], [next, ..]) = (&mut *into, self.bytes.buffer())
            && allowed > 0
        {
            *byte = *next;
            self.bytes.consume(1);
            self.meter.offset.set(offset + 1);
            return Ok(1);
        }
        if allowed == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.bytes.by_ref().take(allowed).read(into)?;
        self.meter.offset.set(offset + count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_element_may_use_its_limit_but_no_more() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("long.json");
        fs::write(&path, " ".repeat(MAX_ELEMENT as usize + 10)).unwrap();
        let meter = Meter::default();
        let mut json = BufReader::new(open(&path, &meter).unwrap());
        meter.allow_element();
        let error = io::copy(&mut json, &mut io::sink()).unwrap_err();
        assert_eq!((error.kind(), meter.offset()), (io::ErrorKind::FileTooLarge, MAX_ELEMENT));
        meter.allow_element();
        io::copy(&mut json, &mut io::sink()).unwrap();
        assert_eq!((meter.offset(), meter.on_disk()), (MAX_ELEMENT + 10, MAX_ELEMENT + 10));
    }
}
