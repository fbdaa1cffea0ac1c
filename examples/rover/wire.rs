// Event, schema de31afddc0e90db6d4938f234037835e: made by deli-com gen. Do not edit.
#![allow(dead_code, non_camel_case_types, non_snake_case)]

pub const SCHEMA_HASH: &str = "de31afddc0e90db6d4938f234037835e";
pub const SCHEMA_TEXT: &str = "deli 1
root Event
sealed Event
 0 Pose @latest(name) @retain
  name str
  x f32
  y f32
  mode Mode
  trail [f32]
 1 Alarm
  code u32
  stamp u64
  text str?
enum Mode
 0 IDLE
 1 DRIVE
";
pub const UP_SCHEMA_HASH: &str = "c330616e70179277cfc67cee0cc60d70";
pub const UP_SCHEMA_TEXT: &str = "deli 1
root Command
struct Command
 speed f32
 mode Mode
enum Mode
 0 IDLE
 1 DRIVE
";

/// What the rover sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Pose {
        name: String,
        x: f32,
        y: f32,
        mode: Mode,
        trail: Vec<f32>,
    },
    Alarm {
        code: u32,
        stamp: u64,
        text: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    IDLE,
    DRIVE,
}

/// What operators send.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub speed: f32,
    pub mode: Mode,
}

impl Codec for Event {
    const LEAST: u64 = 17;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (index, offset) = r.index()?;
        let value = match index {
            0 => Event::Pose {
                name: Codec::read(r)?,
                x: Codec::read(r)?,
                y: Codec::read(r)?,
                mode: Codec::read(r)?,
                trail: Codec::read(r)?,
            },
            1 => Event::Alarm {
                code: Codec::read(r)?,
                stamp: Codec::read(r)?,
                text: Codec::read(r)?,
            },
            _ => return Err(DecodeError::InvalidVariant { index, offset }),
        };
        Ok(value)
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        match self {
            Event::Pose {
                name: v0,
                x: v1,
                y: v2,
                mode: v3,
                trail: v4,
            } => {
                0u32.write(w)?;
                v0.write(w)?;
                v1.write(w)?;
                v2.write(w)?;
                v3.write(w)?;
                v4.write(w)?;
            }
            Event::Alarm {
                code: v0,
                stamp: v1,
                text: v2,
            } => {
                1u32.write(w)?;
                v0.write(w)?;
                v1.write(w)?;
                v2.write(w)?;
            }
        }
        Ok(())
    }
}

impl Event {
    /// Decode a value; bytes after it are ignored.
    #[inline]
    pub fn from_bytes(data: &[u8]) -> Result<Self, DecodeError> {
        Codec::read(&mut Reader::new(data))
    }

    /// Encode the value. Panics if `try_to_bytes` would give an error.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.try_to_bytes().expect("a value that fits the wire")
    }

    /// Encode the value; an error if a list is too long, or the nesting too deep.
    pub fn try_to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::default();
        self.write(&mut w)?;
        Ok(w.data)
    }
}

impl Codec for Mode {
    const LEAST: u64 = 4;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (index, offset) = r.index()?;
        match index {
            0 => Ok(Mode::IDLE),
            1 => Ok(Mode::DRIVE),
            _ => Err(DecodeError::InvalidVariant { index, offset }),
        }
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        (*self as u32).write(w)
    }
}

impl Mode {
    /// Decode a value; bytes after it are ignored.
    #[inline]
    pub fn from_bytes(data: &[u8]) -> Result<Self, DecodeError> {
        Codec::read(&mut Reader::new(data))
    }

    /// Encode the value. Panics if `try_to_bytes` would give an error.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.try_to_bytes().expect("a value that fits the wire")
    }

    /// Encode the value; an error if a list is too long, or the nesting too deep.
    pub fn try_to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::default();
        self.write(&mut w)?;
        Ok(w.data)
    }
}

impl Codec for Command {
    const LEAST: u64 = 8;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Command {
            speed: Codec::read(r)?,
            mode: Codec::read(r)?,
        })
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        self.speed.write(w)?;
        self.mode.write(w)?;
        Ok(())
    }
}

impl Command {
    /// Decode a value; bytes after it are ignored.
    #[inline]
    pub fn from_bytes(data: &[u8]) -> Result<Self, DecodeError> {
        Codec::read(&mut Reader::new(data))
    }

    /// Encode the value. Panics if `try_to_bytes` would give an error.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.try_to_bytes().expect("a value that fits the wire")
    }

    /// Encode the value; an error if a list is too long, or the nesting too deep.
    pub fn try_to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::default();
        self.write(&mut w)?;
        Ok(w.data)
    }
}

// --- the wire: little-endian, no padding, no tags (docs/wire.md of deli-com) ---

const MAX_DEPTH: u32 = 200;
const MAX_EMPTY: usize = 65536;

/// The bytes are not a value of the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends inside the value.
    UnexpectedEof { offset: usize },
    /// A string is not strict UTF-8.
    InvalidUtf8 { offset: usize },
    /// A bool is neither 0 nor 1.
    InvalidBool { value: u8, offset: usize },
    /// No variant or member has this index.
    InvalidVariant { index: u32, offset: usize },
    /// A list has more zero-size elements than are allowed.
    TooManyEmpty { count: usize, offset: usize },
    /// Values of recursive types are nested too deep.
    TooDeep { offset: usize },
}

impl DecodeError {
    /// Offset of the fault in the input, in bytes.
    pub fn offset(&self) -> usize {
        match *self {
            DecodeError::UnexpectedEof { offset }
            | DecodeError::InvalidUtf8 { offset }
            | DecodeError::InvalidBool { offset, .. }
            | DecodeError::InvalidVariant { offset, .. }
            | DecodeError::TooManyEmpty { offset, .. }
            | DecodeError::TooDeep { offset } => offset,
        }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::UnexpectedEof { .. } => write!(f, "unexpected end of buffer")?,
            DecodeError::InvalidUtf8 { .. } => write!(f, "invalid UTF-8 in string")?,
            DecodeError::InvalidBool { value, .. } => write!(f, "invalid bool value: {value}")?,
            DecodeError::InvalidVariant { index, .. } => {
                write!(f, "invalid enum variant: {index}")?
            }
            DecodeError::TooManyEmpty { count, .. } => write!(
                f,
                "{count} elements without a size are more than {MAX_EMPTY}"
            )?,
            DecodeError::TooDeep { .. } => write!(
                f,
                "values of recursive types are nested more than {MAX_DEPTH} deep"
            )?,
        }
        write!(f, " (byte {})", self.offset())
    }
}

impl std::error::Error for DecodeError {}

/// A value cannot be written on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// A string or list has more bytes or elements than a `u32` can count.
    TooLong,
    /// A list has more zero-size elements than are allowed.
    TooManyEmpty,
    /// Values of recursive types are nested too deep.
    TooDeep,
}

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EncodeError::TooLong => "more than 4294967295 bytes or elements",
            EncodeError::TooManyEmpty => "more than 65536 elements without a size",
            EncodeError::TooDeep => "values of recursive types are nested more than 200 deep",
        })
    }
}

impl std::error::Error for EncodeError {}

/// Report which of the numbers and bools is faulty first: 1 to 8 is the size of a number, 0 is a bool.
#[cold]
#[inline(never)]
fn shorter(mut rest: &[u8], mut offset: usize, kinds: &[u8]) -> DecodeError {
    for &kind in kinds {
        let size = kind.max(1) as usize;
        if rest.len() < size {
            break;
        }
        if kind == 0 && rest[0] > 1 {
            return invalid_bool(rest[0], offset);
        }
        rest = &rest[size..];
        offset += size;
    }
    DecodeError::UnexpectedEof { offset }
}

#[cold]
#[inline(never)]
fn invalid_bool(value: u8, offset: usize) -> DecodeError {
    DecodeError::InvalidBool { value, offset }
}

/// Reads bytes.
pub struct Reader<'a> {
    rest: &'a [u8],
    size: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Reader {
            rest: data,
            size: data.len(),
            depth: 0,
        }
    }

    /// Number of bytes that have been read.
    #[inline]
    pub fn offset(&self) -> usize {
        self.size - self.rest.len()
    }

    #[inline]
    fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn eof(&self) -> DecodeError {
        DecodeError::UnexpectedEof {
            offset: self.offset(),
        }
    }

    #[inline]
    fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        if self.left() < size {
            return Err(self.eof());
        }
        let (found, rest) = self.rest.split_at(size);
        self.rest = rest;
        Ok(found)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut found = [0; N];
        found.copy_from_slice(self.take(N)?);
        Ok(found)
    }

    /// A sequence of numbers, with bools at the indices `bools`, or the first fault in it.
    #[inline]
    fn plain<const N: usize>(
        &mut self,
        kinds: &[u8],
        bools: &[usize],
    ) -> Result<&'a [u8; N], DecodeError> {
        match self.rest.first_chunk::<N>() {
            Some(found) if bools.iter().all(|&at| found[at] < 2) => {
                self.rest = &self.rest[N..];
                Ok(found)
            }
            _ => Err(shorter(self.rest, self.offset(), kinds)),
        }
    }

    /// `count` structs of numbers, of `N` bytes each.
    fn plain_many<const N: usize, T: Plain>(
        &mut self,
        count: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let bytes = self.take(count.checked_mul(N).ok_or(self.eof())?)?;
        Ok(bytes
            .chunks_exact(N)
            .map(|chunk| {
                let mut one = [0; N];
                one.copy_from_slice(chunk);
                T::at(&one, 0)
            })
            .collect())
    }

    /// The index of a variant or member, and its offset.
    #[inline]
    fn index(&mut self) -> Result<(u32, usize), DecodeError> {
        let offset = self.offset();
        Ok((u32::from_le_bytes(self.array()?), offset))
    }

    /// A count of elements of at least `least` bytes each. It checks that so many can follow.
    fn count(&mut self, least: u64) -> Result<usize, DecodeError> {
        let offset = self.offset();
        let count = u32::from_le_bytes(self.array()?) as usize;
        if least == 0 {
            if count > MAX_EMPTY {
                return Err(DecodeError::TooManyEmpty { count, offset });
            }
        } else if count as u64 > self.left() as u64 / least {
            return Err(DecodeError::UnexpectedEof { offset });
        }
        Ok(count)
    }

    fn enter(&mut self) -> Result<(), DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(DecodeError::TooDeep {
                offset: self.offset(),
            });
        }
        self.depth += 1;
        Ok(())
    }
}

/// Writes bytes.
#[derive(Default)]
pub struct Writer {
    data: Vec<u8>,
    depth: u32,
}

impl Writer {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    /// Structs of numbers, of `N` bytes each.
    fn plain_many<const N: usize, T: Plain>(&mut self, items: &[T]) {
        self.data.reserve(N * items.len());
        for item in items {
            let mut found = [0; N];
            item.to(&mut found, 0);
            self.data.extend_from_slice(&found);
        }
    }

    fn count(&mut self, count: usize, least: u64) -> Result<(), EncodeError> {
        if least == 0 && count > MAX_EMPTY {
            return Err(EncodeError::TooManyEmpty);
        }
        let count = u32::try_from(count).map_err(|_| EncodeError::TooLong)?;
        self.put(&count.to_le_bytes());
        Ok(())
    }

    fn enter(&mut self) -> Result<(), EncodeError> {
        if self.depth == MAX_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }
}

/// A type that can be written on the wire.
pub trait Codec: Sized {
    /// Least bytes of a value.
    const LEAST: u64;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError>;

    fn read_many(r: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {
        let mut found = Vec::with_capacity(count);
        for _ in 0..count {
            found.push(Self::read(r)?);
        }
        Ok(found)
    }

    fn write_many(items: &[Self], w: &mut Writer) -> Result<(), EncodeError> {
        items.iter().try_for_each(|item| item.write(w))
    }

    fn read_boxed(r: &mut Reader<'_>) -> Result<Box<Self>, DecodeError> {
        Ok(Box::new(Self::read(r)?))
    }
}

/// A number, bool, or struct of numbers, at an offset of bytes that have been checked.
trait Plain {
    fn at<const N: usize>(found: &[u8; N], at: usize) -> Self;
    fn to<const N: usize>(&self, found: &mut [u8; N], at: usize);
}

impl Plain for bool {
    #[inline]
    fn at<const N: usize>(found: &[u8; N], at: usize) -> Self {
        found[at] == 1
    }

    #[inline]
    fn to<const N: usize>(&self, found: &mut [u8; N], at: usize) {
        found[at] = *self as u8;
    }
}

macro_rules! numbers {
    ($($number:ident)*) => {$(
        impl Plain for $number {
            #[inline]
            fn at<const N: usize>(found: &[u8; N], at: usize) -> Self {
                const SIZE: usize = std::mem::size_of::<$number>();
                let mut one = [0; SIZE];
                one.copy_from_slice(&found[at..at + SIZE]);
                $number::from_le_bytes(one)
            }

            #[inline]
            fn to<const N: usize>(&self, found: &mut [u8; N], at: usize) {
                const SIZE: usize = std::mem::size_of::<$number>();
                found[at..at + SIZE].copy_from_slice(&self.to_le_bytes());
            }
        }

        impl Codec for $number {
            const LEAST: u64 = std::mem::size_of::<$number>() as u64;

            #[inline]
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok($number::from_le_bytes(r.array()?))
            }

            #[inline]
            fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
                w.put(&self.to_le_bytes());
                Ok(())
            }

            fn read_many(r: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {
                const SIZE: usize = std::mem::size_of::<$number>();
                let bytes = r.take(count.checked_mul(SIZE).ok_or(r.eof())?)?;
                Ok(bytes
                    .chunks_exact(SIZE)
                    .map(|chunk| {
                        let mut one = [0; SIZE];
                        one.copy_from_slice(chunk);
                        $number::from_le_bytes(one)
                    })
                    .collect())
            }

            fn write_many(items: &[Self], w: &mut Writer) -> Result<(), EncodeError> {
                w.data.reserve(std::mem::size_of_val(items));
                items.iter().for_each(|item| w.put(&item.to_le_bytes()));
                Ok(())
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i8 i16 i32 i64 f32 f64);

impl Codec for bool {
    const LEAST: u64 = 1;

    #[inline]
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = r.offset();
        match r.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(invalid_bool(value, offset)),
        }
    }

    #[inline]
    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put(&[*self as u8]);
        Ok(())
    }
}

impl Codec for String {
    const LEAST: u64 = 4;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let size = r.count(1)?;
        let start = r.offset();
        match std::str::from_utf8(r.take(size)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(DecodeError::InvalidUtf8 {
                offset: start + error.valid_up_to(),
            }),
        }
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.count(self.len(), 1)?;
        w.put(self.as_bytes());
        Ok(())
    }
}

impl<T: Codec> Codec for Vec<T> {
    const LEAST: u64 = 4;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.count(T::LEAST)?;
        T::read_many(r, count)
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.count(self.len(), T::LEAST)?;
        T::write_many(self, w)
    }
}

impl<T: Codec> Codec for Option<T> {
    const LEAST: u64 = 1;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::read(r)? {
            Some(T::read(r)?)
        } else {
            None
        })
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        self.is_some().write(w)?;
        self.iter().try_for_each(|value| value.write(w))
    }
}

impl<T: Codec> Codec for Box<T> {
    const LEAST: u64 = T::LEAST;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::read_boxed(r)
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        (**self).write(w)
    }
}

impl<T: Codec, const N: usize> Codec for [T; N] {
    const LEAST: u64 = T::LEAST * N as u64;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(*Self::read_boxed(r)?)
    }

    fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
        T::write_many(self, w)
    }

    fn read_boxed(r: &mut Reader<'_>) -> Result<Box<Self>, DecodeError> {
        if (r.left() as u64) < Self::LEAST {
            return Err(r.eof());
        }
        let items = T::read_many(r, N)?.into_boxed_slice();
        items.try_into().map_err(|_| r.eof())
    }
}
