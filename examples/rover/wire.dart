// Event, schema de31afddc0e90db6d4938f234037835e: made by deli-com gen. Do not edit.
// ignore_for_file: camel_case_types, constant_identifier_names, non_constant_identifier_names
// ignore_for_file: unused_element

import 'dart:convert';
import 'dart:typed_data';

const String SCHEMA_HASH = 'de31afddc0e90db6d4938f234037835e';
const String SCHEMA_TEXT = '''
deli 1
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
''';
const String UP_SCHEMA_HASH = 'c330616e70179277cfc67cee0cc60d70';
const String UP_SCHEMA_TEXT = '''
deli 1
root Command
struct Command
 speed f32
 mode Mode
enum Mode
 0 IDLE
 1 DRIVE
''';

/// What the rover sends.
sealed class Event {
  const Event();

  /// Decode a value; bytes after it are ignored. Throws [DecodeError].
  factory Event.fromBin(Uint8List bytes) =>
      decode(ByteData.sublistView(bytes), bytes, 0).$1;

  /// Decode the value at `offset`; also gives the offset of its end.
  static (Event, int) decode(ByteData bd, Uint8List buf, int offset) {
    final r = _Reader(bd, buf, offset);
    return (_readEvent(r), r.at);
  }

  /// Encode the value. Throws [EncodeError].
  Uint8List toBin() {
    final w = _Writer();
    _writeEvent(w, this);
    return w.done();
  }

  void encode(BytesBuilder builder) => builder.add(toBin());
}

class EventPose extends Event {
  final String name_;
  final double x;
  final double y;
  final Mode mode;
  final Float32List trail;

  const EventPose({
    required this.name_,
    required this.x,
    required this.y,
    required this.mode,
    required this.trail,
  });
}

class EventAlarm extends Event {
  final int code;
  final int stamp;
  final String? text;

  const EventAlarm({
    required this.code,
    required this.stamp,
    required this.text,
  });
}

enum Mode {
  IDLE,
  DRIVE;

  /// Decode a value; bytes after it are ignored. Throws [DecodeError].
  factory Mode.fromBin(Uint8List bytes) =>
      decode(ByteData.sublistView(bytes), bytes, 0).$1;

  /// Decode the value at `offset`; also gives the offset of its end.
  static (Mode, int) decode(ByteData bd, Uint8List buf, int offset) {
    final r = _Reader(bd, buf, offset);
    return (_readMode(r), r.at);
  }

  /// Encode the value. Throws [EncodeError].
  Uint8List toBin() {
    final w = _Writer();
    _writeMode(w, this);
    return w.done();
  }

  void encode(BytesBuilder builder) => builder.add(toBin());
}

/// What operators send.
class Command {
  final double speed;
  final Mode mode;

  const Command({
    required this.speed,
    required this.mode,
  });

  /// Decode a value; bytes after it are ignored. Throws [DecodeError].
  factory Command.fromBin(Uint8List bytes) =>
      decode(ByteData.sublistView(bytes), bytes, 0).$1;

  /// Decode the value at `offset`; also gives the offset of its end.
  static (Command, int) decode(ByteData bd, Uint8List buf, int offset) {
    final r = _Reader(bd, buf, offset);
    return (_readCommand(r), r.at);
  }

  /// Encode the value. Throws [EncodeError].
  Uint8List toBin() {
    final w = _Writer();
    _writeCommand(w, this);
    return w.done();
  }

  void encode(BytesBuilder builder) => builder.add(toBin());
}

Event _readEvent(_Reader r) {
  final Event found;
  switch (r.index(2)) {
    case 0:
      found = EventPose(
        name_: r.text(),
        x: r.f32(),
        y: r.f32(),
        mode: _readMode(r),
        trail: Float32List.sublistView(r.copy(4 * r.count(4))),
      );
    case 1:
      found = EventAlarm(
        code: r.u32(),
        stamp: r.u64(),
        text: r.flag() ? r.text() : null,
      );
    default:
      throw StateError('unreachable');
  }
  return found;
}

void _writeEvent(_Writer w, Event v) {
  switch (v) {
    case EventPose():
      w.raw32(0);
      w.text(v.name_, 'EventPose.name');
      w.f32(v.x, 'EventPose.x');
      w.f32(v.y, 'EventPose.y');
      _writeMode(w, v.mode);
      w.count(v.trail.length, 4294967295, 'EventPose.trail');
      w.numbers(v.trail);
    case EventAlarm():
      w.raw32(1);
      w.u32(v.code, 'EventAlarm.code');
      w.u64(v.stamp, 'EventAlarm.stamp');
      final o1 = v.text;
      w.raw8(o1 == null ? 0 : 1);
      if (o1 != null) {
        w.text(o1, 'EventAlarm.text');
      }
  }
}

Mode _readMode(_Reader r) => Mode.values[r.index(2)];

void _writeMode(_Writer w, Mode v) => w.raw32(v.index);

Command _readCommand(_Reader r) {
  return Command(
    speed: r.f32(),
    mode: _readMode(r),
  );
}

void _writeCommand(_Writer w, Command v) {
  w.f32(v.speed, 'Command.speed');
  _writeMode(w, v.mode);
}

// --- the wire: little-endian, no padding, no tags (docs/wire.md of deli-com) ---

/// The bytes are not a value of the type. `offset` is the place.
class DecodeError extends FormatException {
  const DecodeError(String message, int at) : super(message, null, at);

  /// Offset of the fault in the input, in bytes.
  int get at => offset!;
}

/// The input ends inside the value.
class UnexpectedEof extends DecodeError {
  const UnexpectedEof(int at) : super('unexpected end of buffer', at);
}

/// A string is not strict UTF-8.
class InvalidUtf8 extends DecodeError {
  const InvalidUtf8(int at) : super('invalid UTF-8 in string', at);
}

/// A bool is neither 0 nor 1.
class InvalidBool extends DecodeError {
  final int value;

  const InvalidBool(this.value, int at) : super('invalid bool value: $value', at);
}

/// No variant or member has this index.
class InvalidVariant extends DecodeError {
  final int index;

  const InvalidVariant(this.index, int at)
      : super('invalid enum variant: $index', at);
}

/// A value does not fit its type. `path` names the field.
class EncodeError implements Exception {
  final String detail;
  final String path;

  const EncodeError(this.detail, this.path);

  @override
  String toString() => 'encode error: $path: $detail';
}

const int _maxDepth = 200;
const int _maxEmpty = 65536;
const int _twoTo32 = 4294967296;
const String _tooDeep = 'values of recursive types are nested more than 200 deep';

/// Whether integers are JavaScript numbers, which are exact up to 2^53.
const bool _web = identical(1, 1.0);

/// The index of the first byte that is not strict UTF-8, or `end`.
int _utf8End(Uint8List b, int at, int end) {
  bool more(int i) => i < end && (b[i] & 0xc0) == 0x80;
  while (at < end) {
    final c = b[at];
    var size = 1;
    if (c >= 0x80) {
      if (c < 0xc2 || c > 0xf4 || !more(at + 1)) return at;
      final d = b[at + 1];
      if (c < 0xe0) {
        size = 2;
      } else if (c < 0xf0) {
        if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d >= 0xa0)) return at;
        if (!more(at + 2)) return at;
        size = 3;
      } else {
        if ((c == 0xf0 && d < 0x90) || (c == 0xf4 && d >= 0x90)) return at;
        if (!more(at + 2) || !more(at + 3)) return at;
        size = 4;
      }
    }
    at += size;
  }
  return end;
}

class _Reader {
  final ByteData bd;
  final Uint8List buf;
  final int end;
  int at;
  int depth = 0;

  _Reader(this.bd, this.buf, this.at) : end = buf.length;

  int take(int size) {
    final start = at;
    if (end - start < size) throw UnexpectedEof(start);
    at = start + size;
    return start;
  }

  int u8() => buf[take(1)];
  int u16() => bd.getUint16(take(2), Endian.little);
  int u32() => bd.getUint32(take(4), Endian.little);
  int i8() => bd.getInt8(take(1));
  int i16() => bd.getInt16(take(2), Endian.little);
  int i32() => bd.getInt32(take(4), Endian.little);
  double f32() => bd.getFloat32(take(4), Endian.little);
  double f64() => bd.getFloat64(take(8), Endian.little);

  /// 64 bits, because the web has no `getUint64`. Values from 2^63 on are negative, as in `getUint64`.
  int u64() {
    final start = take(8);
    final high = bd.getUint32(start + 4, Endian.little);
    return whole(bd.getUint32(start, Endian.little), high, start);
  }

  int i64() {
    final start = take(8);
    final high = bd.getInt32(start + 4, Endian.little);
    return whole(bd.getUint32(start, Endian.little), high, start);
  }

  int whole(int low, int high, int start) {
    if (_web && (high >= 0x200000 || high < -0x200000)) {
      throw DecodeError('an integer beyond 2^53', start);
    }
    return high * _twoTo32 + low;
  }

  bool flag() {
    final start = take(1);
    final found = buf[start];
    if (found > 1) throw InvalidBool(found, start);
    return found == 1;
  }

  /// An index below `count`.
  int index(int count) {
    final start = take(4);
    final found = bd.getUint32(start, Endian.little);
    if (found >= count) throw InvalidVariant(found, start);
    return found;
  }

  /// A count of elements of at least `least` bytes each. It checks that so many can follow.
  int count(int least) {
    final start = take(4);
    final found = bd.getUint32(start, Endian.little);
    if (least == 0) {
      if (found > _maxEmpty) {
        throw DecodeError(
          '$found elements without a size are more than $_maxEmpty',
          start,
        );
      }
    } else if (found > (end - at) ~/ least) {
      throw UnexpectedEof(start);
    }
    return found;
  }

  /// A copy at offset 0 of its own buffer, because values may be at odd offsets.
  Uint8List copy(int size) {
    final start = take(size);
    return buf.sublist(start, start + size);
  }

  Uint8List data() => copy(count(1));

  String text() {
    final size = count(1);
    final start = take(size);
    final fault = _utf8End(buf, start, start + size);
    if (fault != start + size) throw InvalidUtf8(fault);
    final found = utf8.decode(Uint8List.sublistView(buf, start, start + size));
    // The decoder drops a byte order mark, which must be kept like any other character.
    final marked = size >= 3 &&
        buf[start] == 0xef &&
        buf[start + 1] == 0xbb &&
        buf[start + 2] == 0xbf;
    return marked && !found.startsWith('\ufeff') ? '\ufeff$found' : found;
  }

  List<T> list<T>(int least, T Function(_Reader) read) => items(count(least), read);

  List<T> fixed<T>(int count, int size, T Function(_Reader) read) {
    if (end - at < size) throw UnexpectedEof(at);
    return items(count, read);
  }

  List<T> items<T>(int count, T Function(_Reader) read) {
    final found = <T>[];
    for (var i = 0; i < count; i++) {
      found.add(read(this));
    }
    return found;
  }

  void enter() {
    if (depth == _maxDepth) throw DecodeError(_tooDeep, at);
    depth++;
  }

  void leave() {
    depth--;
  }
}

class _Writer {
  Uint8List bytes = Uint8List(128);
  late ByteData view = ByteData.sublistView(bytes);
  int at = 0;
  int depth = 0;

  int room(int size) {
    final start = at;
    if (start + size > bytes.length) {
      final least = start + size;
      final grown = Uint8List(least > 2 * bytes.length ? least : 2 * bytes.length);
      grown.setRange(0, start, bytes);
      bytes = grown;
      view = ByteData.sublistView(grown);
    }
    at = start + size;
    return start;
  }

  Uint8List done() => bytes.sublist(0, at);

  void fits(int v, int low, int high, String type, String path) {
    if (v < low || v > high) throw EncodeError('$v does not fit $type', path);
  }

  void u8(int v, String path) {
    fits(v, 0, 255, 'u8', path);
    final start = room(1);
    bytes[start] = v;
  }

  void u16(int v, String path) {
    fits(v, 0, 65535, 'u16', path);
    final start = room(2);
    view.setUint16(start, v, Endian.little);
  }

  void u32(int v, String path) {
    fits(v, 0, 4294967295, 'u32', path);
    raw32(v);
  }

  void i8(int v, String path) {
    fits(v, -128, 127, 'i8', path);
    final start = room(1);
    view.setInt8(start, v);
  }

  void i16(int v, String path) {
    fits(v, -32768, 32767, 'i16', path);
    final start = room(2);
    view.setInt16(start, v, Endian.little);
  }

  void i32(int v, String path) {
    fits(v, -2147483648, 2147483647, 'i32', path);
    final start = room(4);
    view.setInt32(start, v, Endian.little);
  }

  void u64(int v, String path) {
    if (_web && v < 0) throw EncodeError('$v does not fit u64', path);
    i64(v, path);
  }

  void i64(int v, String path) {
    final low = v & 0xffffffff;
    final high = (v - low) ~/ _twoTo32;
    final start = room(8);
    view.setUint32(start, low, Endian.little);
    view.setUint32(start + 4, high & 0xffffffff, Endian.little);
  }

  void f32(double v, String path) {
    if (v.isFinite && v.abs() > 3.4028235677973362e38) {
      throw EncodeError('$v does not fit f32', path);
    }
    final start = room(4);
    view.setFloat32(start, v, Endian.little);
  }

  void f64(double v, String path) {
    final start = room(8);
    view.setFloat64(start, v, Endian.little);
  }

  void flag(bool v, String path) => raw8(v ? 1 : 0);

  void raw8(int v) {
    final start = room(1);
    bytes[start] = v;
  }

  void raw32(int v) {
    final start = room(4);
    view.setUint32(start, v, Endian.little);
  }

  void count(int length, int most, String path) {
    if (length > most) throw EncodeError('more than $most elements', path);
    raw32(length);
  }

  void exactly(int length, int count, String path) {
    if (length != count) throw EncodeError('$length elements, not $count', path);
  }

  /// Numbers in sequence, in the byte order of the machine.
  void numbers(TypedData v) {
    final raw = Uint8List.sublistView(v);
    final start = room(raw.length);
    bytes.setRange(start, start + raw.length, raw);
  }

  void data(Uint8List v, String path) {
    count(v.length, 4294967295, path);
    numbers(v);
  }

  void text(String v, String path) {
    for (final rune in v.runes) {
      if (rune >= 0xd800 && rune <= 0xdfff) {
        throw EncodeError('a string with half a surrogate pair', path);
      }
    }
    final List<int> raw = utf8.encode(v);
    count(raw.length, 4294967295, path);
    final start = room(raw.length);
    bytes.setRange(start, start + raw.length, raw);
  }

  void enter(String path) {
    if (depth == _maxDepth) throw EncodeError(_tooDeep, path);
    depth++;
  }

  void leave() {
    depth--;
  }
}
