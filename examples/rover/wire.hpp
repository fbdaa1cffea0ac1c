// Event, schema de31afddc0e90db6d4938f234037835e: made by deli-com gen. Do not edit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

namespace wire {

inline constexpr const char* SCHEMA_HASH = "de31afddc0e90db6d4938f234037835e";
inline constexpr const char* SCHEMA_TEXT =
    "deli 1\n"
    "root Event\n"
    "sealed Event\n"
    " 0 Pose @latest(name) @retain\n"
    "  name str\n"
    "  x f32\n"
    "  y f32\n"
    "  mode Mode\n"
    "  trail [f32]\n"
    " 1 Alarm\n"
    "  code u32\n"
    "  stamp u64\n"
    "  text str?\n"
    "enum Mode\n"
    " 0 IDLE\n"
    " 1 DRIVE\n";
inline constexpr const char* UP_SCHEMA_HASH = "c330616e70179277cfc67cee0cc60d70";
inline constexpr const char* UP_SCHEMA_TEXT =
    "deli 1\n"
    "root Command\n"
    "struct Command\n"
    " speed f32\n"
    " mode Mode\n"
    "enum Mode\n"
    " 0 IDLE\n"
    " 1 DRIVE\n";

// --- the wire: little-endian, no padding, no tags (docs/wire.md of deli-com) ---

/// The kind of a fault in the bytes, or in a value.
enum class Fault : std::uint8_t {
  none,
  unexpected_eof,
  invalid_utf8,
  invalid_bool,
  invalid_variant,
  too_many_empty,
  too_deep,
  too_long,
};

/// The result of reading or writing. It is true if there was an error.
struct Error {
  Fault fault = Fault::none;
  std::size_t offset = 0;    ///< offset in the input, in bytes
  std::uint32_t number = 0;  ///< the bool, index or count that was found

  explicit operator bool() const noexcept { return fault != Fault::none; }

  const char* what() const noexcept {
    switch (fault) {
      case Fault::none:
        return "no error";
      case Fault::unexpected_eof:
        return "unexpected end of buffer";
      case Fault::invalid_utf8:
        return "invalid UTF-8 in string";
      case Fault::invalid_bool:
        return "invalid bool value";
      case Fault::invalid_variant:
        return "invalid enum variant";
      case Fault::too_many_empty:
        return "elements without a size are more than 65536";
      case Fault::too_deep:
        return "values of recursive types are nested more than 200 deep";
      case Fault::too_long:
        return "more than 4294967295 bytes or elements";
    }
    return "";
  }
};

/// A value in its own allocation, for types that can contain themselves. An empty one is a default
/// value.
template <class T>
class Box {
 public:
  Box() noexcept = default;
  Box(const T& value) : held_(new T(value)) {}
  Box(const Box& other) : held_(other.held_ ? new T(*other.held_) : nullptr) {}
  Box(Box&& other) noexcept : held_(other.held_) { other.held_ = nullptr; }
  Box& operator=(Box other) noexcept {
    T* mine = held_;
    held_ = other.held_;
    other.held_ = mine;
    return *this;
  }
  ~Box() { delete held_; }

  const T& operator*() const {
    static const T nothing{};
    return held_ ? *held_ : nothing;
  }
  const T* operator->() const { return &**this; }
  T& get() {
    if (!held_) held_ = new T();
    return *held_;
  }

 private:
  T* held_ = nullptr;
};

namespace detail {

constexpr std::uint32_t max_depth = 200;
constexpr std::uint64_t max_empty = 65536;

inline bool little_endian() noexcept {
  const std::uint16_t one = 1;
  std::uint8_t first;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

template <class U>
U swapped(U value) noexcept {
  U found = 0;
  for (unsigned i = 0; i < sizeof(U); i++) {
    const U byte = static_cast<U>((value >> (8 * i)) & 0xff);
    found = static_cast<U>(found | byte << (8 * (sizeof(U) - 1 - i)));
  }
  return found;
}

struct Reader {
  const std::uint8_t* data;
  std::size_t size;
  std::size_t at = 0;
  std::uint32_t depth = 0;
  Error error{};

  bool fail(Fault fault, std::size_t offset, std::uint32_t number = 0) noexcept {
    error = Error{fault, offset, number};
    return false;
  }
  std::size_t left() const noexcept { return size - at; }
  bool need(std::uint64_t count) noexcept {
    return left() >= count || fail(Fault::unexpected_eof, at);
  }
  /// An unsigned integer. The caller has checked the bounds.
  template <class U>
  U load() noexcept {
    U found;
    std::memcpy(&found, data + at, sizeof(U));
    at += sizeof(U);
    return little_endian() ? found : swapped(found);
  }
  /// Check the bounds of a sequence of numbers and bools.
  bool ready(std::size_t bytes, const char* kinds) noexcept {
    return left() >= bytes || shorter(kinds);
  }
  /// Report which of them is faulty first: '1' to '8' is the size of a number, 'b' is a bool.
  bool shorter(const char* kinds) noexcept {
    for (; left() != 0 && *kinds != 0; kinds++) {
      const std::size_t bytes = *kinds == 'b' ? 1 : static_cast<std::size_t>(*kinds - '0');
      if (left() < bytes) break;
      if (*kinds == 'b' && data[at] > 1) return fail(Fault::invalid_bool, at, data[at]);
      at += bytes;
    }
    return fail(Fault::unexpected_eof, at);
  }
  bool index(std::uint32_t count, std::uint32_t& out) noexcept {
    if (!need(4)) return false;
    out = load<std::uint32_t>();
    return out < count || fail(Fault::invalid_variant, at - 4, out);
  }
  /// A count of elements of at least `least` bytes each. It checks that so many can follow.
  bool count(std::uint64_t least, std::size_t& out) noexcept {
    if (!need(4)) return false;
    out = load<std::uint32_t>();
    if (least == 0) {
      if (out <= max_empty) return true;
      return fail(Fault::too_many_empty, at - 4, static_cast<std::uint32_t>(out));
    }
    return out <= left() / least || fail(Fault::unexpected_eof, at - 4);
  }
  bool enter() noexcept {
    if (depth == max_depth) return fail(Fault::too_deep, at);
    depth++;
    return true;
  }
};

/// Writes into a vector that is larger than what it holds, until `done`.
struct Writer {
  std::vector<std::uint8_t>& out;
  std::size_t at = 0;
  std::uint32_t depth = 0;
  Error error{};

  bool fail(Fault fault) noexcept {
    error = Error{fault, at, 0};
    return false;
  }
  /// A place for so many bytes, which the caller writes.
  std::uint8_t* room(std::size_t bytes) {
    if (out.size() - at < bytes) grow(bytes);
    at += bytes;
    return out.data() + (at - bytes);
  }
  void grow(std::size_t bytes) {
    const std::size_t twice = 2 * out.size();
    out.resize(twice < at + bytes ? at + bytes : twice);
  }
  template <class U>
  void store(U value) {
    const U found = little_endian() ? value : swapped(value);
    std::memcpy(room(sizeof(U)), &found, sizeof(U));
  }
  void put(const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(room(bytes), from, bytes);
  }
  bool count(std::size_t count, std::uint64_t least) {
    if (least == 0 && count > max_empty) return fail(Fault::too_many_empty);
    if (count > 0xffffffffu) return fail(Fault::too_long);
    store(static_cast<std::uint32_t>(count));
    return true;
  }
  bool enter() noexcept {
    if (depth == max_depth) return fail(Fault::too_deep);
    depth++;
    return true;
  }
};

/// The index of the first byte that is not strict UTF-8, or `size`.
inline std::size_t utf8_end(const std::uint8_t* p, std::size_t size) noexcept {
  std::size_t i = 0;
  const auto more = [&](std::size_t j) { return j < size && (p[j] & 0xc0) == 0x80; };
  while (i < size) {
    const std::uint8_t c = p[i];
    if (c < 0x80) {
      i++;
      continue;
    }
    if (c < 0xc2 || c > 0xf4 || !more(i + 1)) return i;
    const std::uint8_t d = p[i + 1];
    if (c < 0xe0) {
      i += 2;
    } else if (c < 0xf0) {
      if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d >= 0xa0) || !more(i + 2)) return i;
      i += 3;
    } else {
      if ((c == 0xf0 && d < 0x90) || (c == 0xf4 && d >= 0x90)) return i;
      if (!more(i + 2) || !more(i + 3)) return i;
      i += 4;
    }
  }
  return size;
}

/// How a type is read and written. `least` is the least size of a value in bytes. `flat`: values
/// have the same layout in memory as on the wire, except for the order of bytes.
template <class T, class = void>
struct Wire;

template <class T>
bool read_one(Reader& r, T& out) {
  return Wire<T>::read(r, out);
}

template <class T>
bool load_one(Reader& r, T& out) noexcept {
  return Wire<T>::load(r, out);
}

template <class T>
bool write_one(Writer& w, const T& value) {
  return Wire<T>::write(w, value);
}

template <class T>
struct Wire<T, std::enable_if_t<std::is_arithmetic<T>::value>> {
  static constexpr std::uint64_t least = sizeof(T);
  static constexpr bool flat = !std::is_same<T, bool>::value;
  static bool read(Reader& r, T& out) noexcept { return r.need(sizeof(T)) && load(r, out); }
  /// The caller has checked the bounds.
  static bool load(Reader& r, T& out) noexcept {
    if constexpr (std::is_same<T, float>::value) {
      const std::uint32_t bits = r.load<std::uint32_t>();
      std::memcpy(&out, &bits, 4);
    } else if constexpr (std::is_same<T, double>::value) {
      const std::uint64_t bits = r.load<std::uint64_t>();
      std::memcpy(&out, &bits, 8);
    } else if constexpr (std::is_same<T, bool>::value) {
      const std::uint8_t found = r.data[r.at];
      if (found > 1) return r.fail(Fault::invalid_bool, r.at, found);
      r.at++;
      out = found == 1;
    } else {
      out = static_cast<T>(r.load<std::make_unsigned_t<T>>());
    }
    return true;
  }
  static bool write(Writer& w, const T& value) {
    if constexpr (std::is_same<T, float>::value) {
      std::uint32_t bits;
      std::memcpy(&bits, &value, 4);
      w.store(bits);
    } else if constexpr (std::is_same<T, double>::value) {
      std::uint64_t bits;
      std::memcpy(&bits, &value, 8);
      w.store(bits);
    } else if constexpr (std::is_same<T, bool>::value) {
      w.store(static_cast<std::uint8_t>(value));
    } else {
      w.store(static_cast<std::make_unsigned_t<T>>(value));
    }
    return true;
  }
};

template <class T>
bool read_items(Reader& r, T* items, std::size_t count) {
  if constexpr (Wire<T>::flat) {
    if (little_endian()) {
      if (!r.need(std::uint64_t{count} * sizeof(T))) return false;
      if (count != 0) std::memcpy(static_cast<void*>(items), r.data + r.at, count * sizeof(T));
      r.at += count * sizeof(T);
      return true;
    }
  }
  for (std::size_t i = 0; i < count; i++) {
    if (!Wire<T>::read(r, items[i])) return false;
  }
  return true;
}

template <class T>
bool write_items(Writer& w, const T* items, std::size_t count) {
  if constexpr (Wire<T>::flat) {
    if (little_endian()) {
      w.put(items, count * sizeof(T));
      return true;
    }
  }
  for (std::size_t i = 0; i < count; i++) {
    if (!Wire<T>::write(w, items[i])) return false;
  }
  return true;
}

template <>
struct Wire<std::string> {
  static constexpr std::uint64_t least = 4;
  static constexpr bool flat = false;
  static bool read(Reader& r, std::string& out) {
    std::size_t size;
    if (!r.count(1, size)) return false;
    const std::size_t end = utf8_end(r.data + r.at, size);
    if (end != size) return r.fail(Fault::invalid_utf8, r.at + end);
    out.clear();
    if (size != 0) out.assign(reinterpret_cast<const char*>(r.data + r.at), size);
    r.at += size;
    return true;
  }
  static bool write(Writer& w, const std::string& value) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(value.data());
    if (utf8_end(raw, value.size()) != value.size()) return w.fail(Fault::invalid_utf8);
    if (!w.count(value.size(), 1)) return false;
    w.put(raw, value.size());
    return true;
  }
};

template <class T>
struct Wire<std::vector<T>> {
  static constexpr std::uint64_t least = 4;
  static constexpr bool flat = false;
  static bool read(Reader& r, std::vector<T>& out) {
    std::size_t count;
    out.clear();
    if (!r.count(Wire<T>::least, count)) return false;
    if constexpr (std::is_same<T, bool>::value) {
      out.reserve(count);
      for (std::size_t i = 0; i < count; i++) {
        bool one = false;
        if (!Wire<bool>::read(r, one)) return false;
        out.push_back(one);
      }
      return true;
    } else {
      out.resize(count);
      return read_items(r, out.data(), count);
    }
  }
  static bool write(Writer& w, const std::vector<T>& value) {
    if (!w.count(value.size(), Wire<T>::least)) return false;
    if constexpr (std::is_same<T, bool>::value) {
      for (const bool one : value) w.store(static_cast<std::uint8_t>(one));
      return true;
    } else {
      return write_items(w, value.data(), value.size());
    }
  }
};

template <class T, std::size_t N>
struct Wire<std::array<T, N>> {
  static constexpr std::uint64_t least = Wire<T>::least * N;
  static constexpr bool flat = Wire<T>::flat && sizeof(std::array<T, N>) == least;
  static bool read(Reader& r, std::array<T, N>& out) {
    return r.need(least) && read_items(r, out.data(), N);
  }
  static bool write(Writer& w, const std::array<T, N>& value) {
    return write_items(w, value.data(), N);
  }
};

template <class T>
struct Wire<std::optional<T>> {
  static constexpr std::uint64_t least = 1;
  static constexpr bool flat = false;
  static bool read(Reader& r, std::optional<T>& out) {
    bool there = false;
    out.reset();
    if (!Wire<bool>::read(r, there)) return false;
    return !there || Wire<T>::read(r, out.emplace());
  }
  static bool write(Writer& w, const std::optional<T>& value) {
    w.store(static_cast<std::uint8_t>(value.has_value()));
    return !value || Wire<T>::write(w, *value);
  }
};

template <class... T>
struct Wire<std::tuple<T...>> {
  static constexpr std::uint64_t least = (std::uint64_t{0} + ... + Wire<T>::least);
  static constexpr bool flat = false;
  static bool read(Reader& r, std::tuple<T...>& out) {
    (void)r;
    return std::apply([&](auto&... one) { return (read_one(r, one) && ...); }, out);
  }
  static bool write(Writer& w, const std::tuple<T...>& value) {
    (void)w;
    return std::apply([&](const auto&... one) { return (write_one(w, one) && ...); }, value);
  }
};

template <class T>
struct Wire<Box<T>> {
  static constexpr std::uint64_t least = Wire<T>::least;
  static constexpr bool flat = false;
  static bool read(Reader& r, Box<T>& out) { return Wire<T>::read(r, out.get()); }
  static bool write(Writer& w, const Box<T>& value) { return Wire<T>::write(w, *value); }
};

template <class T>
Error decode(const std::uint8_t* data, std::size_t size, T& out) {
  Reader r{data, size};
  Wire<T>::read(r, out);
  return r.error;
}

template <class T>
Error encode(const T& value, std::vector<std::uint8_t>& out) {
  out.clear();
  Writer w{out};
  const bool good = Wire<T>::write(w, value);
  out.resize(good ? w.at : 0);
  return w.error;
}

}  // namespace detail

enum class Mode : std::uint32_t {
  IDLE,
  DRIVE,
};

struct EventPose {
  std::string name{};
  float x{};
  float y{};
  Mode mode{};
  std::vector<float> trail{};
};

struct EventAlarm {
  std::uint32_t code{};
  std::uint64_t stamp{};
  std::optional<std::string> text{};
};

/// What the rover sends.
struct Event {
  std::variant<EventPose, EventAlarm> value{};
};

/// What operators send.
struct Command {
  float speed{};
  Mode mode{};
};

namespace detail {

template <>
struct Wire<Mode> {
  static constexpr std::uint64_t least = 4;
  static constexpr bool flat = false;
  static bool read(Reader& r, Mode& out) noexcept {
    std::uint32_t index;
    if (!r.index(2, index)) return false;
    out = static_cast<Mode>(index);
    return true;
  }
  static bool write(Writer& w, const Mode& value) {
    w.store(static_cast<std::uint32_t>(value));
    return true;
  }
};

template <>
struct Wire<Event> {
  static constexpr std::uint64_t least = 17;
  static constexpr bool flat = false;
  static bool read(Reader& r, Event& out);
  static bool write(Writer& w, const Event& value);
};

template <>
struct Wire<Command> {
  static constexpr std::uint64_t least = 8;
  static constexpr bool flat = false;
  static bool read(Reader& r, Command& out);
  static bool write(Writer& w, const Command& value);
};

inline bool Wire<Event>::read(Reader& r, Event& out) {
  std::uint32_t index;
  if (!r.index(2, index)) return false;
  bool good = true;
  switch (index) {
    case 0: {
      auto& one = out.value.template emplace<0>();
      good = read_one(r, one.name) &&
             read_one(r, one.x) &&
             read_one(r, one.y) &&
             read_one(r, one.mode) &&
             read_one(r, one.trail);
      break;
    }
    case 1: {
      auto& one = out.value.template emplace<1>();
      good = r.ready(12, "48") &&
             load_one(r, one.code) &&
             load_one(r, one.stamp) &&
             read_one(r, one.text);
      break;
    }
    default:
      break;
  }
  return good;
}
inline bool Wire<Event>::write(Writer& w, const Event& value) {
  w.store(static_cast<std::uint32_t>(value.value.index()));
  bool good = true;
  switch (value.value.index()) {
    case 0: {
      const auto& one = *std::get_if<0>(&value.value);
      good = write_one(w, one.name) &&
             write_one(w, one.x) &&
             write_one(w, one.y) &&
             write_one(w, one.mode) &&
             write_one(w, one.trail);
      break;
    }
    case 1: {
      const auto& one = *std::get_if<1>(&value.value);
      good = write_one(w, one.code) && write_one(w, one.stamp) && write_one(w, one.text);
      break;
    }
    default:
      break;
  }
  return good;
}

inline bool Wire<Command>::read(Reader& r, Command& out) {
  return read_one(r, out.speed) && read_one(r, out.mode);
}
inline bool Wire<Command>::write(Writer& w, const Command& value) {
  return write_one(w, value.speed) && write_one(w, value.mode);
}

}  // namespace detail

/// Decode a value; bytes after it are ignored. After an error, `out` is unspecified.
inline Error from_bytes(const std::uint8_t* data, std::size_t size, Mode& out) {
  return detail::decode(data, size, out);
}

/// Encode a value.
inline Error to_bytes(const Mode& value, std::vector<std::uint8_t>& out) {
  return detail::encode(value, out);
}

/// Encode a value; the result is empty if the other overload gives an error.
inline std::vector<std::uint8_t> to_bytes(const Mode& value) {
  std::vector<std::uint8_t> out;
  (void)detail::encode(value, out);
  return out;
}

/// Decode a value; bytes after it are ignored. After an error, `out` is unspecified.
inline Error from_bytes(const std::uint8_t* data, std::size_t size, Event& out) {
  return detail::decode(data, size, out);
}

/// Encode a value.
inline Error to_bytes(const Event& value, std::vector<std::uint8_t>& out) {
  return detail::encode(value, out);
}

/// Encode a value; the result is empty if the other overload gives an error.
inline std::vector<std::uint8_t> to_bytes(const Event& value) {
  std::vector<std::uint8_t> out;
  (void)detail::encode(value, out);
  return out;
}

/// Decode a value; bytes after it are ignored. After an error, `out` is unspecified.
inline Error from_bytes(const std::uint8_t* data, std::size_t size, Command& out) {
  return detail::decode(data, size, out);
}

/// Encode a value.
inline Error to_bytes(const Command& value, std::vector<std::uint8_t>& out) {
  return detail::encode(value, out);
}

/// Encode a value; the result is empty if the other overload gives an error.
inline std::vector<std::uint8_t> to_bytes(const Command& value) {
  std::vector<std::uint8_t> out;
  (void)detail::encode(value, out);
  return out;
}

}  // namespace wire
